"""A prefix is made once, whole or not at all, by one preparer, and never harms the store."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.errors import EnvgraphError, PlatformError
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.run.kept import cache_folder
from envgraph.run.prefixes import Archives, host_platform, prefix_key, prepare
from envgraph_store.digest import Digest
from envgraph_store.errors import LockUnsafe


def package(name: str = "tool", **fields: str) -> LockedPackage:
    made = LockedPackage(
        manager="conda",
        name=name,
        version="1",
        build="0",
        subdir="linux-64",
        sha256=Digest.of(name.encode()),
        channel="local",
    )
    return replace(made, **fields)


def lock(*packages: LockedPackage, platform: str | None = None) -> LockedEnvironment:
    return LockedEnvironment(
        definition=Digest.of(b"definition"),
        pin_key=Digest.of(b"pin"),
        platform=platform or host_platform(),
        base=LockedBase("scratch"),
        packages=packages or (package(),),
    )


class FakeInstaller:
    """Copies each archive's bytes into the prefix, as the real one does; counts its calls."""

    def __init__(self, *, fail: BaseException | None = None) -> None:
        self.calls = 0
        self.fail = fail

    def __call__(
        self,
        lock: LockedEnvironment,
        archives: Archives,
        target: Path,
        *,
        prefix_in_files: str | None,
    ) -> None:
        self.calls += 1
        assert list(target.iterdir()) == []
        for item in lock.packages:
            (target / item.name).write_bytes(archives(item).read_bytes())
        (target / "where").write_text(str(prefix_in_files))
        (target / "shut").mkdir()
        (target / "shut" / "file").write_text("x")
        (target / "shut").chmod(0o555)
        if self.fail is not None:
            raise self.fail


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.write_bytes(b"the store's bytes")
    path.chmod(0o444)
    return path


def test_made_once_and_found_again(tmp_path: Path, archive: Path) -> None:
    install = FakeInstaller()
    first = prepare(lock(), lambda _: archive, folder=tmp_path / "p", install=install)
    again = prepare(lock(), lambda _: archive, folder=tmp_path / "p", install=install)
    assert (first.created, again.created, install.calls) == (True, False, 1)
    assert first.path == again.path
    assert (first.path / "where").read_text() == str(first.path)
    assert [p.name for p in (tmp_path / "p").iterdir() if p.name.startswith(".")] == []


def test_the_key_is_the_packages_alone() -> None:
    base = LockedBase("docker.io/library/python:3.12", manifest=Digest.of(b"m"))
    same = replace(lock(), base=base, definition=Digest.of(b"other"), steps=("RUN x",))
    assert prefix_key(same) == prefix_key(lock())
    assert prefix_key(lock(package(), package("more"))) != prefix_key(lock())
    assert prefix_key(lock(package(build="1"))) != prefix_key(lock())
    assert prefix_key(lock(package(url="https://mirror/x"))) == prefix_key(lock())


def test_editing_the_prefix_never_changes_what_it_was_made_from(
    tmp_path: Path, archive: Path
) -> None:
    install = FakeInstaller()
    made = prepare(lock(), lambda _: archive, folder=tmp_path / "p", install=install)
    with (made.path / "tool").open("r+b") as stream:
        stream.write(b"EDITED")
    assert archive.read_bytes() == b"the store's bytes"
    renewed = prepare(lock(), lambda _: archive, folder=tmp_path / "p", install=install, renew=True)
    assert renewed.created
    assert (renewed.path / "tool").read_bytes() == b"the store's bytes"


@pytest.mark.parametrize("failure", [EnvgraphError("no"), OSError(28, "No space left on device")])
def test_a_failure_leaves_nothing_and_the_next_call_works(
    tmp_path: Path, archive: Path, failure: Exception
) -> None:
    with pytest.raises(EnvgraphError):
        prepare(
            lock(), lambda _: archive, folder=tmp_path / "p", install=FakeInstaller(fail=failure)
        )
    assert [path.suffix for path in (tmp_path / "p").iterdir()] == [".lock"]
    install = FakeInstaller()
    assert prepare(lock(), lambda _: archive, folder=tmp_path / "p", install=install).created


def test_what_a_killed_preparer_left_is_swept(tmp_path: Path, archive: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir(mode=0o700)
    name = prefix_key(lock()).hex[:32]
    leftover = folder / f".{name}.abc" / "prefix" / "shut"
    leftover.mkdir(parents=True)
    leftover.chmod(0o555)
    (folder / name).mkdir()  # a folder without the marker is no prefix
    made = prepare(lock(), lambda _: archive, folder=folder, install=FakeInstaller())
    assert made.created
    assert sorted(path.name for path in folder.iterdir()) == [name, f"{name}.lock"]


def test_a_second_preparer_waits_and_is_told_for_whom(tmp_path: Path, archive: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir(mode=0o700)
    path = folder / f"{prefix_key(lock()).hex[:32]}.lock"
    hold = (
        "import fcntl, os, sys\n"
        "f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)\n"
        "fcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        said: list[str] = []

        def waiting(text: str) -> None:
            said.append(text)
            holder.kill()  # the kernel frees a dead holder's lock

        install = FakeInstaller()
        made = prepare(lock(), lambda _: archive, folder=folder, install=install, waiting=waiting)
    assert made.created
    assert len(said) == 1
    assert f"{holder.pid}" in said[0]
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and nobody holds it now
    os.close(descriptor)


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path, archive: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (folder / f"{prefix_key(lock()).hex[:32]}.lock").symlink_to(victim)
    with pytest.raises(LockUnsafe):
        prepare(lock(), lambda _: archive, folder=folder, install=FakeInstaller())
    assert victim.read_text() == "mine"


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, archive: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PlatformError) as caught:
        prepare(lock(), lambda _: archive, folder=folder, install=FakeInstaller())
    assert caught.value.diagnostics[0].code == "untrusted-folder"


def test_what_cannot_run_here_is_refused_before_anything_is_written(
    tmp_path: Path, archive: Path
) -> None:
    def code(environment: LockedEnvironment, folder: Path) -> str:
        with pytest.raises(PlatformError) as caught:
            prepare(environment, lambda _: archive, folder=folder, install=FakeInstaller())
        return caught.value.diagnostics[0].code

    assert code(lock(platform="win-64"), tmp_path / "p") == "other-platform"
    assert code(replace(lock(), packages=()), tmp_path / "p") == "nothing-to-prepare"
    assert code(lock(), tmp_path / ("x" * 240)) == "prefix-too-long"
    assert not (tmp_path / "p").exists()


def test_the_folder_follows_xdg() -> None:
    assert cache_folder("prefixes", {"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path(
        "/c/envgraph/prefixes"
    )
    assert cache_folder("prefixes", {"XDG_CACHE_HOME": "c", "HOME": "/h"}) == Path(
        "/h/.cache/envgraph/prefixes"
    )
    assert cache_folder("prefixes", {"HOME": "/h"}) == Path("/h/.cache/envgraph/prefixes")


@pytest.mark.parametrize(
    ("system", "cpu", "name"),
    [
        ("linux", "x86_64", "linux-64"),
        ("linux", "aarch64", "linux-aarch64"),
        ("linux", "ppc64le", "linux-ppc64le"),
        ("darwin", "arm64", "osx-arm64"),
        ("darwin", "x86_64", "osx-64"),
    ],
)
def test_platform_names_are_condas(system: str, cpu: str, name: str) -> None:
    assert host_platform(system, cpu) == name
