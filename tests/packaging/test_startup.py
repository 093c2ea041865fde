"""What the start of the command may import: nothing heavy, and no scan of entry points.

Each of these costs more than the whole answer of a plan with nothing to do may take
(rich 90 ms, pydantic 91, networkx 411, an entry-point scan 49; bare Python takes 10).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.services import Channel

HEAVY = {
    "asyncio",
    "concurrent.futures",
    "conda_lock",
    "diskcache",
    "grpc",
    "importlib.metadata",
    "importlib_metadata",
    "installer",
    "isal",
    "logging",
    "multiprocessing",
    "networkx",
    "packaging",
    "pluggy",
    "pydantic",
    "rattler",
    "requests",
    "rich",
    "sqlite3",
    "ssl",
    "urllib.request",
    "urllib3",
    "uv",
    "yaml",
    "zstandard",
}


def modules_of(arguments: Sequence[str], env: dict[str, str], cwd: Path) -> set[str]:
    """Every module that a run of envgraph imported, as the interpreter itself reports it."""
    script = Path(sys.executable).with_name("envgraph")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    found = {line.rsplit("|", 1)[1].strip() for line in lines}
    assert "envgraph.cli.main" in found
    return found


def heavy(modules: set[str]) -> set[str]:
    parents = {".".join(m.split(".")[:n]) for m in modules for n in range(1, m.count(".") + 2)}
    return parents & HEAVY


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An own home and store; what site-packages' own .pth files import is the same for all."""
    (tmp_path / "home").mkdir()
    return {
        "HOME": str(tmp_path / "home"),
        "PATH": os.defpath,
        "ENVGRAPH_STORE": str(tmp_path / "store"),
    }


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["plan", "--help"]], ids=" ".join)
def test_start_imports_nothing_heavy(
    arguments: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    assert heavy(modules_of(arguments, env, tmp_path)) == set()


def test_a_plan_with_nothing_to_do_imports_nothing_heavy(
    demo_channel: Channel, env: dict[str, str], tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base").reference
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "environment.yml").write_text(
        f"name: small\nimage: {base}\nconda_file:\n"
        f"  channels: ['{demo_channel.url}']\n  dependencies: [beta]\n"
    )
    script = Path(sys.executable).with_name("envgraph")
    applied = [sys.executable, script, "apply", "environment.yml", "--auto-approve"]
    done = subprocess.run(applied, cwd=workspace, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plan = ["plan", "environment.yml"]
    full = modules_of([*plan, "--no-memo"], env, workspace)
    assert "yaml" in heavy(full)
    # The quick path trusts nothing that changed less than two seconds ago.
    for _ in range(100):
        quick = modules_of(plan, env, workspace)
        if "yaml" not in quick:
            break
    assert heavy(quick) == set()
    assert not {name for name in quick if name.startswith("envgraph.")} - {
        "envgraph.cli",
        "envgraph.cli.main",
        "envgraph.folders",
        "envgraph.refresh",
        "envgraph.refresh.quick",
    }


def test_the_check_would_see_a_heavy_import() -> None:
    assert heavy({"networkx.classes.graph", "json"}) == {"networkx"}
    assert heavy({"concurrent.futures.thread"}) == {"concurrent.futures"}
