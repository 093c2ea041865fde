"""Every system call may fail: then the store refuses, keeps nothing half, leaks nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph_store import Store
from envgraph_store.errors import StoreFull
from tests.faults.store.tools import (
    ROUNDS,
    Worker,
    assert_kept,
    assert_whole,
    numbers,
    place,
    work_here,
)
from tests.services import missing, require_root, require_tool

FAULTS = [
    ("add", "/^open", "EMFILE"), ("add", "/^open", "EIO"), ("add", "write", "ENOSPC"),
    ("many", "write", "EDQUOT"), ("add", "write", "EIO"), ("add", "/^fsync", "EIO"),
    ("many", "/^fsync", "EIO"), ("add", "/^rename", "EROFS"), ("many", "/^rename", "EIO"),
    ("add", "/^link", "EIO"), ("add", "/^mkdir", "ENOSPC"), ("add", "/^fchmod", "EPERM"),
    ("add", "/^flock", "ENOLCK"), ("add", "/^unlink", "EIO"), ("add", "/^pread", "EIO"),
    ("add", "/^getdents", "EIO"), ("add", "/^pwrite", "ENOSPC"), ("add", "/^read", "EINTR"),
    ("add", "write", "EINTR"), ("add", "/^utime", "EPERM"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with place(tmp_path) as chosen:
        yield chosen


@pytest.mark.services
@pytest.mark.parametrize(("kind", "call", "fault"), FAULTS)
def test_a_failing_call_is_a_refusal(folder: Path, kind: str, call: str, fault: str) -> None:
    name = {"add": "one", "many": "many"}[kind]
    root = folder / "store"
    for number in numbers(2):
        Store.open(root).close()
        worker = Worker(kind, root)
        worker.trace(call, f"error={fault}:when={number}", folder / "log")
        said = worker.go()
        assert said[-1] == "done", said
        refused = said[0].startswith("refused ")
        with Store.open(root) as store:
            assert store.verify().bad == ()
            if refused:
                assert fault != "EINTR"
                assert store.refs.get(name) is None or call == "/^fsync"
            else:
                assert_kept(store, name)
        work_here(kind, root)
        with Store.open(root) as store:
            assert_kept(store, name)
        assert_whole(root)
        shutil.rmtree(root)
        if not worker.was_hit():
            assert not refused
            break


@pytest.mark.services
@pytest.mark.parametrize(("kind", "call"), [("add", "fsync"), ("many", "syncfs")])
def test_a_sync_that_fails_once_is_a_failure(folder: Path, kind: str, call: str) -> None:
    """The second call would succeed, and have lost the pages (fsyncgate)."""
    root = folder / "store"
    Store.open(root).close()
    worker = Worker(kind, root)
    worker.trace(call, "error=EIO:when=1", folder / "log")
    assert worker.go() == ["refused store-io", "done"]
    with Store.open(root) as store:
        assert list(store.blobs.digests()) == []


@pytest.mark.services
def test_a_kernel_without_syncfs_syncs_file_by_file(folder: Path) -> None:
    root = folder / "store"
    Store.open(root).close()
    worker = Worker("many", root)
    worker.trace("syncfs", "error=ENOSYS", folder / "log")
    assert worker.go() == ["ack many", "done"]
    assert_whole(root)


@pytest.mark.services
def test_a_file_system_without_locks_is_refused(folder: Path) -> None:
    root = folder / "store"
    Store.open(root).close()
    worker = Worker("add", root)
    worker.trace("flock", "error=ENOLCK", folder / "log")
    assert worker.go() == ["refused no-file-locks", "done"]


@pytest.mark.services
@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["/^unlink", "/^fsync", "/^pwrite", "/^open", "/^rename"])
@pytest.mark.parametrize("kind", ["gc", "repair"])
def test_failing_collections_and_repairs_are_never_worse(
    folder: Path, kind: str, call: str, fault: str
) -> None:
    root = folder / "store"
    with Store.open(root) as store:
        with store.transaction() as transaction:
            good = transaction.add_bytes(b"good")
            transaction.add_bytes(b"garbage")
            transaction.set_ref("good", {"is": str(good)}, None)
            transaction.commit()
        (root / "blobs" / "sha256" / "stray").write_bytes(b"")
        for number in range(1, 2 if ROUNDS == 1 else 20):
            worker = Worker(kind, root)
            worker.trace(call, f"error={fault}:when={number}", folder / "log")
            assert worker.go()[-1] == "done"
            assert store.blobs.read(good) == b"good"
            assert {bad.digest for bad in store.verify().bad} <= {"stray"}
        work_here(kind, root)
        assert store.verify(repair=True).bad == () or kind == "gc"


@pytest.mark.services
@pytest.mark.parametrize("fault", ["EIO", "EMFILE", "EROFS"])
@pytest.mark.parametrize("call", ["/^openat", "/^fchmod", "/^fsync", "/^pread"])
def test_a_verify_that_fails_condemns_nothing_that_is_good(
    folder: Path, call: str, fault: str
) -> None:
    with Store.open(folder / "store") as store:
        with store.transaction() as transaction:
            good = transaction.add_bytes(b"good")
            bad = transaction.add_bytes(b"bad")
            transaction.commit()
        store.blobs.path(bad).unlink()
        store.blobs.path(bad).write_bytes(b"BAD")
        for number in numbers():
            worker = Worker("verify", store.root)
            worker.trace(call, f"error={fault}:when={number}", folder / "log")
            assert worker.go()[-1] == "done"
            assert store.blobs.has(good), number
            assert store.blobs.read(good) == b"good"
            if "INJECTED" not in (folder / "log").read_text():
                break
        assert [item.digest for item in store.verify().bad] == [str(bad)]
        assert not store.blobs.has(bad)


@pytest.fixture
def small(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system in memory with the given limits."""
    require_root()
    options: str = request.param
    folder = tmp_path / "small"
    folder.mkdir()
    command = [require_tool("mount"), "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        missing(f"cannot mount: {done.stderr.strip()}")
    yield folder
    subprocess.run([require_tool("umount"), folder], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Use up the space but for ``leave`` bytes (a multiple of the page size)."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - leave))
    return ballast


@pytest.mark.services
@pytest.mark.parametrize("small", ["size=2m"], indirect=True)
def test_a_full_disk_at_every_page(small: Path) -> None:
    root = small / "store"
    with Store.open(root) as store:
        with store.transaction() as transaction:
            garbage = transaction.add_bytes(os.urandom(50_000))
            transaction.commit()
        refusals = 0
        for pages in range(0, 40, 4 if ROUNDS == 1 else 1):
            ballast = fill(small, pages * 4096)
            try:
                with store.transaction() as transaction:
                    digests = [transaction.add_bytes(os.urandom(20_000)) for _ in range(3)]
                    transaction.put_action(f"key{pages}", {"x": [str(d) for d in digests]})
                    transaction.set_ref(f"name{pages}", {"x": 1}, None)
                    transaction.commit()
            except StoreFull:
                refusals += 1
                assert store.refs.get(f"name{pages}") is None
            assert store.verify().bad == ()
            ballast.unlink()
        assert 2 <= refusals < 40
        ballast = fill(small, 0)
        assert os.statvfs(small).f_bavail == 0
        report = store.gc(grace_seconds=0, now=4e9)
        assert garbage.hex in {item.name for item in report.removed}
        assert not store.blobs.has(garbage)
        ballast.unlink()
    assert_whole(root)


@pytest.mark.services
@pytest.mark.parametrize("small", ["size=8m,nr_inodes=60"], indirect=True)
def test_a_full_inode_table(small: Path) -> None:
    with Store.open(small / "store") as store:
        kept = 0
        with pytest.raises(StoreFull):  # noqa: PT012
            for number in range(60):
                with store.transaction() as transaction:
                    transaction.add_bytes(b"%d" % number)
                    transaction.set_ref(f"n{number}", {}, None)
                    transaction.commit()
                kept += 1
        assert kept > 5
        assert len(store.refs.list()) == kept
        assert store.verify().bad == ()
        for path in small.glob("ballast*"):
            path.unlink()
        for name in list(store.refs.list())[: kept // 2]:
            store_delete(store, name)
        store.gc(grace_seconds=0, now=4e9)
        with store.transaction() as transaction:
            transaction.add_bytes(b"again")
            transaction.commit()
    assert_whole(small / "store")


def store_delete(store: Store, name: str) -> None:
    """Remove a ref by hand: deleting it writes a file, and there is no inode left."""
    files = sorted((store.root / "refs" / name).iterdir())
    for path in files:
        path.unlink()


@pytest.mark.services
@pytest.mark.parametrize("years", ["+10y", "-10y"])
def test_a_clock_ten_years_off_removes_nothing_reachable(tmp_path: Path, years: str) -> None:
    faketime = require_tool("faketime")
    root = tmp_path / "store"
    with Store.open(root):
        assert Worker("add", root).go() == ["ack add", "done"]
    said = Worker("gc by the clock", root, prefix=(faketime, "-f", years)).go()
    assert said == ["ack gc by the clock", "done"]
    with Store.open(root) as store:
        assert_kept(store, "one")
