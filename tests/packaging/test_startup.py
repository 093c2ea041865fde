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


@pytest.fixture
def base(tmp_path: Path) -> str:
    return make_base(tmp_path / "base").reference


@pytest.fixture
def small(demo_channel: Channel, base: str, env: dict[str, str], tmp_path: Path) -> Path:
    """A workspace whose one environment is applied: python and beta (with alpha)."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    write_environment(workspace, demo_channel, base, "python, beta")
    envgraph(["apply", "environment.yml"], env, workspace)
    return workspace


def write_environment(workspace: Path, channel: Channel, base: str, packages: str) -> None:
    (workspace / "environment.yml").write_text(
        f"name: small\nimage: {base}\nconda_file:\n"
        f"  channels: ['{channel.url}']\n  dependencies: [{packages}]\n"
    )


def envgraph(words: Sequence[str], env: dict[str, str], cwd: Path) -> None:
    script = Path(sys.executable).with_name("envgraph")
    done = subprocess.run([sys.executable, script, *words], cwd=cwd, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["plan", "--help"]], ids=" ".join)
def test_start_imports_nothing_heavy(
    arguments: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    assert heavy(modules_of(arguments, env, tmp_path)) == set()


def test_a_plan_with_nothing_to_do_imports_nothing_heavy(small: Path, env: dict[str, str]) -> None:
    plan = ["plan", "environment.yml"]
    full = modules_of([*plan, "--no-memo"], env, small)
    assert heavy(full) == {"yaml", "zstandard"}
    # The quick path trusts nothing that changed less than two seconds ago.
    for _ in range(100):
        quick = modules_of(plan, env, small)
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


def test_an_apply_with_nothing_to_do_imports_no_threads(small: Path, env: dict[str, str]) -> None:
    modules = modules_of(["apply", "environment.yml"], env, small)
    assert heavy(modules) == {"yaml", "zstandard"}
    assert "envgraph.apply.apply" not in modules


def test_a_new_combination_needs_no_channel(
    small: Path, demo_channel: Channel, base: str, env: dict[str, str]
) -> None:
    """Every package was seen, the lock is there: nothing solves, connects or writes a lock."""
    write_environment(small, demo_channel, base, "alpha=1.1, python")
    envgraph(["lock", "environment.yml"], env, small)
    modules = modules_of(["apply", "environment.yml"], env, small)
    assert heavy(modules) == {"concurrent.futures", "logging", "yaml", "zstandard"}
    assert not modules & {"envgraph.conda.transport", "envgraph.image.layer", "tarfile"}
    assert "envgraph.apply.publish" in modules


@pytest.mark.parametrize(
    "arguments", [["list"], ["show", "small"], ["graph", "small"]], ids=" ".join
)
def test_what_only_looks_needs_no_heavy_import(
    arguments: list[str], small: Path, env: dict[str, str]
) -> None:
    assert heavy(modules_of(arguments, env, small)) <= {"yaml", "zstandard"}


def test_the_check_would_see_a_heavy_import() -> None:
    assert heavy({"networkx.classes.graph", "json"}) == {"networkx"}
    assert heavy({"concurrent.futures.thread"}) == {"concurrent.futures"}
