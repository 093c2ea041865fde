"""The example of a foreign plugin: installed from its folder, it is found, tested and used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, WORKSPACE
from tests.services import Channel

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "third_party_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, and what pip makes of it, without an index, in ``site``."""
    folder = tmp_path_factory.mktemp("plugin")
    copy = folder / "example"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
        "--no-build-isolation", "--target", folder / "site", copy,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def run(installed: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(installed), "PYTHONPATH": str(installed / "site"),
        "ENVGRAPH_STORE": str(cwd / "store"),
    }  # fmt: skip
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_its_own_tests_pass(installed: Path) -> None:
    done = run(
        installed, "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=installed / "example"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_check_finds_it_good(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "envgraph", "plugin", "check", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    plugins = {plugin["name"]: plugin for plugin in json.loads(done.stdout)["plugins"]}
    found = plugins["envgraph_sqlite"]
    assert (found["distribution"], found["version"]) == ("envgraph-sqlite", "0.1.0")
    assert [registry["type"] for registry in found["registries"]] == ["sqlite"]


def test_an_image_goes_into_it_and_a_second_store_builds_nothing(
    installed: Path, tmp_path: Path, demo_channel: Channel
) -> None:
    config = WORKSPACE.format(url=demo_channel.url)
    results = []
    for name in ("first", "second"):
        work = tmp_path / name
        (work / "environments").mkdir(parents=True)
        (work / "envgraph.yaml").write_text(
            config + "registry: {type: sqlite, file: ../shared.sqlite}\n"
        )
        (work / "environments/train.yml").write_text(TRAIN)
        words = ("envgraph", "apply", "--auto-approve", "--json")
        done = run(installed, *words, cwd=work)
        assert done.returncode == 0, done.stdout + done.stderr
        results.append(json.loads(done.stdout.splitlines()[-1]))
    first, second = results
    assert first["built"] > 0
    assert second["built"] == 0
    assert [e["image"] for e in first["environments"]] == [
        e["image"] for e in second["environments"]
    ]
