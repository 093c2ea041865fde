"""examples/gpu_training: plannable anywhere, without a builder and without network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.services import require_tool

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "gpu_training"


def plan(folder: Path, tmp_path: Path) -> dict[str, Any]:
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    words = [sys.executable, "-m", "envgraph", "--offline", "--store", str(tmp_path / "store")]
    done = subprocess.run(
        [*words, "plan", "--json"], cwd=folder, env=environ, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_it_is_planned_without_a_builder(tmp_path: Path) -> None:
    folder = tmp_path / "gpu"
    subprocess.run([sys.executable, str(EXAMPLE / "prepare.py"), str(folder)], check=True)
    settings = folder / "envgraph.yaml"
    nowhere = settings.read_text().replace("{type: auto}", "{type: buildah, program: /nowhere}")
    settings.write_text(nowhere)
    found = plan(folder, tmp_path)
    assert [d["code"] for d in found["diagnostics"]] == ["no-builder"]
    assert found["applyable"]
    kinds = [step["kind"] for step in found["steps"]]
    assert kinds.count("docker-step") == 3
    assert kinds.count("pip-package") == 1
    assert "cuda-runtime" in [step["name"] for step in found["steps"]]

    settings.write_text(nowhere.replace(', __cuda: "12.4"', ""))
    assert "cuda-runtime" not in [step["name"] for step in plan(folder, tmp_path)["steps"]]


def test_it_is_built_where_buildah_is(tmp_path: Path) -> None:
    require_tool("buildah")
    folder = tmp_path / "gpu"
    subprocess.run([sys.executable, str(EXAMPLE / "prepare.py"), str(folder)], check=True)
    settings = folder / "envgraph.yaml"
    settings.write_text(settings.read_text().replace("{type: auto}", "{type: buildah}"))
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    words = [sys.executable, "-m", "envgraph", "--offline", "--store", str(tmp_path / "store")]
    subprocess.run([*words, "apply", "--auto-approve"], cwd=folder, env=environ, check=True)
    assert not plan(folder, tmp_path)["changes"]
