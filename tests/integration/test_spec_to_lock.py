"""From a file to its lock: what only the file says and only the lock can honour."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.errors import ResolveError
from envgraph.lock.resolve import lock_environment
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest
from envgraph.model.locked import LockedBase, LockedEnvironment
from envgraph.spec import load_environment, load_workspace
from envgraph.testing.channel import ChannelMaker, make_package
from envgraph_store.digest import Digest
from tests.integration.locking import NOW, FolderPackages, make_wheel, versions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    maker = ChannelMaker(tmp_path / "channel").add(
        make_package("python", "3.11.7", "h1_0_cpython", files={"bin/python": "x"}),
        make_package("numpy", "1.26.4"),
        make_package("for-linux", "1.0"),
    )
    maker.index()
    return tmp_path


def lock(folder: Path, text: str) -> LockedEnvironment:
    path = folder / "environment.yml"
    path.write_text(text)
    config, problems = load_workspace(folder)
    assert problems == ()
    assert isinstance(config, WorkspaceConfig)
    spec = load_environment(path, config).spec
    assert spec is not None
    return lock_environment(
        spec,
        "linux-64",
        config,
        base=LockedBase("scratch"),
        definition=definition_digest(spec),
        packages=FolderPackages(folder / "packages"),
        now=NOW,
        offline=True,
        cache=folder / "cache",
    ).lock


def test_a_relative_channel_and_selectors(folder: Path) -> None:
    locked = lock(
        folder,
        "channels: [./channel]\ndependencies:\n- NumPy\n- sel(linux): For-Linux\n"
        "- sel(win): not-there-at-all\n",
    )
    assert versions(locked) == {"for-linux": "1.0", "numpy": "1.26.4"}
    assert {package.channel for package in locked.packages} == {"./channel"}


def test_hashes_of_pip_lines_are_a_promise(folder: Path) -> None:
    make_wheel(folder / "links", "alpha", "1.0")
    wheel = next((folder / "links").glob("*.whl"))
    digest = Digest.of(wheel.read_bytes())

    def text(*hashes: str) -> str:
        options = " ".join(f"--hash={h}" for h in hashes)
        return (
            "channels: [./channel]\ndependencies:\n- python\n- pip:\n  - --no-index\n"
            f"  - --find-links {folder}/links\n  - alpha==1.0 {options}\n"
        )

    assert versions(lock(folder, text(str(digest), "sha256:" + "0" * 64)))["alpha"] == "1.0"
    with pytest.raises(ResolveError) as caught:
        lock(folder, text("sha256:" + "0" * 64))
    (problem,) = caught.value.diagnostics
    assert problem.code == "wrong-hash"
    assert problem.source is not None
    assert problem.source.line == 7
