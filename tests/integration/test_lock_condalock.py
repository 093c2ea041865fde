"""conda-lock itself reads and renders what we write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.lock.lockfile import lockfile_text, read_lockfile, write_lockfile
from envgraph.model.locked import LockedEnvironment
from envgraph.model.spec import PipLine
from envgraph.testing.channel import ChannelMaker, make_package
from tests.integration.locking import Locker, make_wheel


@pytest.fixture
def locks(tmp_path: Path) -> list[LockedEnvironment]:
    maker = ChannelMaker(tmp_path / "channel").add(
        make_package("python", "3.11.7", "h1_0_cpython", depends=["base-lib >=1", "base-lib <2"]),
        make_package("python", "3.11.7", "h2_0_cpython", subdir="linux-aarch64"),
        make_package("base-lib", "1.5", depends=["__glibc >=2.17"], constrains=["other <3"]),
        make_package("tool", "0.3", depends=["python"], noarch="python"),
    )
    url = maker.index().url
    locker = Locker(tmp_path / "work")
    make_wheel(locker.folder / "links", "gamma", "1.0")
    pip = [
        PipLine("requirement", "gamma"),
        PipLine("option", "--no-index"),
        PipLine("option", "--find-links links"),
    ]
    return [
        locker.lock(["python", "tool"], (url,), pip=pip),
        locker.lock(["python"], (url,), platform="linux-aarch64"),
    ]


def test_conda_lock_reads_and_renders(locks: list[LockedEnvironment], tmp_path: Path) -> None:
    from conda_lock.conda_lock import render_lockfile_for_platform
    from conda_lock.lockfile import parse_conda_lock_file

    path = tmp_path / "locks" / "env.conda-lock.yml"
    write_lockfile(path, locks, sources=["../environment.yml"])

    def render(kind: str, platform: str) -> str:
        return "\n".join(
            render_lockfile_for_platform(
                lockfile=parse_conda_lock_file(path),
                include_dev_dependencies=False,
                extras=None,
                kind=kind,
                platform=platform,
            )
        )

    explicit = render("explicit", "linux-64")
    assert "@EXPLICIT" in explicit
    for package in locks[0].packages:
        if package.manager == "conda":
            assert f"{package.url}#{package.md5}" in explicit
        else:
            assert f"# pip {package.name} @ {package.url}#sha256={package.sha256.hex}" in explicit
    assert explicit.index("base-lib") < explicit.index("python-3.11.7") < explicit.index("tool")
    env = render("env", "linux-64")
    for line in ("python=3.11.7=h1_0_cpython", "tool=0.3=0", "gamma == 1.0 --hash=sha256:"):
        assert line in env
    assert "h2_0_cpython" in render("explicit", "linux-aarch64")
    assert "tool" not in render("explicit", "linux-aarch64")


def test_what_is_written_is_read_back(locks: list[LockedEnvironment], tmp_path: Path) -> None:
    path = tmp_path / "env.conda-lock.yml"
    write_lockfile(path, locks)
    content = read_lockfile(path)
    assert content.locks == {lock.platform: lock for lock in locks}
    assert (content.edited, content.diagnostics) == (False, ())
    read = content.locks["linux-64"]
    assert list(read.packages) == list(locks[0].packages)
    assert (read.created, dict(read.solver)) == (locks[0].created, dict(locks[0].solver))


def test_adding_a_platform_changes_nothing_else(
    locks: list[LockedEnvironment], tmp_path: Path
) -> None:
    one, two = lockfile_text(locks[:1]), lockfile_text(locks)
    kept = {line for line in one.splitlines() if "linux-64" in line and "custom" not in line}
    assert kept <= set(two.splitlines())
    assert lockfile_text(list(reversed(locks))) == two


def test_a_file_of_conda_lock_itself(locks: list[LockedEnvironment], tmp_path: Path) -> None:
    """Rewritten by conda-lock, or without our metadata: told, never silently used."""
    from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file

    path, other = tmp_path / "env.yml", tmp_path / "other.yml"
    write_lockfile(path, locks)
    write_conda_lock_file(parse_conda_lock_file(path), other, metadata_choices=None)
    rewritten = read_lockfile(other)
    assert set(rewritten.locks) == {"linux-64", "linux-aarch64"}
    assert rewritten.edited
    text = "\n".join(
        line for line in path.read_text().splitlines() if not line.strip().startswith("envgraph.")
    ).replace("custom_metadata:", "custom_metadata: {}")
    other.write_text(text)
    foreign = read_lockfile(other)
    assert foreign.locks == {}
    assert foreign.edited
    assert {d.code for d in foreign.diagnostics} == {"lock-foreign"}


def test_a_symlinked_lockfile_stays_one(locks: list[LockedEnvironment], tmp_path: Path) -> None:
    (tmp_path / "real.yml").write_text("old")
    (tmp_path / "link.yml").symlink_to("real.yml")
    write_lockfile(tmp_path / "link.yml", locks)
    assert (tmp_path / "link.yml").is_symlink()
    assert read_lockfile(tmp_path / "real.yml").locks
    assert replace(locks[0], created="") == locks[0]
