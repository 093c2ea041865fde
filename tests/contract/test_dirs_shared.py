"""A registry in a folder that others use too: modes, users, room, mounts, leftovers."""

from __future__ import annotations

import os
import stat
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envgraph.api import Digest, Repository
from envgraph.errors import IntegrityError
from envgraph.testing.registry.material import Source, described, patterned, push, read_blob
from envgraph_dirs.registry import DirsRegistry
from tests.contract.test_dirs_folder import NAME, code_of, files, indexed, tag
from tests.services import missing, require_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def repository(root: Path) -> Repository:
    return DirsRegistry(root).repository(NAME)


# -- modes, owners, groups


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize(("mode", "of_files"), [(0o2770, 0o440), (0o755, 0o444), (0o700, 0o400)])
def test_modes_are_those_of_the_root_whatever_the_umask(
    root: Path, repository: Repository, mode: int, of_files: int, mask: int
) -> None:
    root.mkdir()
    root.chmod(mode)
    with umask(mask):
        tag(repository, "1.0")
    for path in root.rglob("*"):
        expected = mode if path.is_dir() else of_files
        if path.name != "_registry.json":
            assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_folder_for_everybody_is_refused(root: Path, repository: Repository) -> None:
    root.mkdir()
    root.chmod(0o1777)
    assert code_of(lambda: push(repository, b"x")) == "registry-options"
    assert code_of(lambda: repository.resolve("1.0")) == "registry-options"


def as_user(user: int, group: int, call: Callable[[], None]) -> None:
    """Call in a process of another user; its failure is ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child uses no thread of ours
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([group])
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
            call()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def open_root(root: Path) -> Path:
    """A root below folders that other users may enter."""
    require_root()
    root.mkdir()
    for folder in root.parents:
        if folder.stat().st_mode & stat.S_IXOTH == 0:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
        if folder.parent == folder or folder.name == "tmp":
            break
    return root


def test_a_team_shares_a_folder_of_its_group(open_root: Path) -> None:
    os.chown(open_root, 12001, 12000)
    open_root.chmod(0o2770)
    layer = patterned(10_000)

    def first() -> None:
        tag(DirsRegistry(open_root).repository(NAME), "1.0")
        push(DirsRegistry(open_root).repository("layers"), layer)

    def second() -> None:
        repository = DirsRegistry(open_root).repository(NAME)
        assert repository.resolve("1.0") is not None
        tag(repository, "1.0", "moved by another")
        tag(repository, "2.0")
        assert repository.mount(Digest.of(layer), "layers")
        assert read_blob(repository, described(layer)) == layer
        repository.delete("2.0")
        assert set(indexed(open_root)) == {"1.0"}

    def stranger() -> None:
        assert code_of(lambda: DirsRegistry(open_root).repository(NAME).resolve("1.0")) == (
            "registry-denied"
        )

    as_user(12001, 12000, first)
    as_user(12002, 12000, second)
    as_user(12003, 12009, stranger)
    assert {path.stat().st_gid for path in open_root.rglob("*")} == {12000}


def test_who_may_only_read_reads(open_root: Path) -> None:
    open_root.chmod(0o755)
    data = tag(DirsRegistry(open_root).repository(NAME), "1.0")

    def reader() -> None:
        repository = DirsRegistry(open_root).repository(NAME)
        assert repository.get_manifest("1.0").data == data
        assert list(DirsRegistry(open_root).list()) == [NAME]
        assert code_of(lambda: tag(repository, "2.0")) == "registry-denied"
        assert code_of(lambda: push(repository, b"x")) == "registry-denied"
        assert code_of(lambda: repository.delete("1.0")) == "registry-denied"
        assert repository.get_manifest("1.0").data == data

    as_user(12003, 12009, reader)


# -- room and other file systems


@contextmanager
def mounted(where: Path, *options: str) -> Iterator[None]:
    require_root()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(where)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        missing(f"cannot mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.mark.services
def test_a_full_disk_keeps_nothing_and_is_said(root: Path, repository: Repository) -> None:
    root.mkdir()
    with mounted(root, "size=1m", "mode=755"):
        data = tag(repository, "1.0")
        source = Source(patterned(2 << 20))
        assert code_of(lambda: repository.push_blob(described(source.data), source)) == (
            "registry-full"
        )
        assert source.all_closed
        assert repository.missing([Digest.of(source.data)])
        assert list((root / NAME / "_new").iterdir()) == []
        push(repository, patterned(500_000))
        assert repository.get_manifest("1.0").data == data


@pytest.mark.services
def test_a_read_only_file_system_is_said(root: Path, repository: Repository) -> None:
    root.mkdir()
    with mounted(root, "size=1m", "mode=755"):
        data = tag(repository, "1.0")
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
        again = DirsRegistry(root).repository(NAME)
        assert again.get_manifest("1.0").data == data
        assert code_of(lambda: push(again, b"x")) == "registry-denied"
        assert code_of(lambda: tag(again, "2.0")) == "registry-denied"


def test_a_mount_is_a_link(root: Path, repository: Repository) -> None:
    descriptor = push(repository, patterned(10_000))
    other = DirsRegistry(root).repository("other")
    assert other.mount(descriptor.digest, NAME)
    inodes = {
        (root / name / "blobs/sha256" / descriptor.digest.hex).stat().st_ino
        for name in (NAME, "other")
    }
    assert len(inodes) == 1


@pytest.mark.services
def test_a_mount_is_a_copy_where_links_cannot_be(root: Path, repository: Repository) -> None:
    data = patterned(100_000)
    descriptor = push(repository, data)
    bad = push(repository, b"to be damaged")
    path = root / NAME / "blobs/sha256" / bad.digest.hex
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    (root / "other").mkdir()
    with mounted(root / "other", "size=1m", "mode=755"):
        other = DirsRegistry(root).repository("other")
        assert other.mount(descriptor.digest, NAME)
        assert read_blob(other, descriptor) == data
        assert other.mount(bad.digest, NAME) is False
        assert other.missing([bad.digest]) == {bad.digest}


# -- leftovers


def test_what_killed_writers_left_goes_after_a_day(root: Path, repository: Repository) -> None:
    tag(repository, "1.0")
    stage = root / NAME / "_new"
    old, young = stage / "_old", stage / "_young"
    for path in (old, young):
        path.write_bytes(b"half")
    (stage / "touch").write_bytes(b"")
    (stage / "touch").unlink()
    now = stage.stat().st_mtime
    os.utime(old, (now, now - 2 * 86_400))
    os.utime(young, (now, now - 3_600))
    push(repository, b"this process has looked already")
    assert old.exists()
    push(DirsRegistry(root).repository(NAME), b"another begins")
    assert not old.exists()
    assert young.exists()


def test_a_refused_push_leaves_no_file(root: Path, repository: Repository) -> None:
    tag(repository, "1.0")
    before = sorted(files(root))
    data = patterned(3 << 20)
    with pytest.raises(IntegrityError):
        repository.push_blob(described(data), Source(data[:-1]))
    with pytest.raises(Exception, match="broke"):
        repository.push_blob(described(data), Source(data, fails_after=2 << 20))
    assert sorted(files(root)) == before
