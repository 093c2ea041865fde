"""Kernel locks that name their holder and leave nothing behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envgraph_store import Store, StoreLocked, locks
from envgraph_store.errors import LockUnsafe, LockUnsupported, StoreIOError

HOLD = """
import sys
from envgraph_store import Store
with Store.open(sys.argv[1]) as store:
    manager = store.lease(sys.argv[3]) if sys.argv[2] == "lease" else \\
        store.file_lock(sys.argv[2], purpose=sys.argv[3])
    with manager:
        print("held", flush=True)
        sys.stdin.read()
"""

Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold(store: Store) -> Iterator[Hold]:
    """``hold(name, purpose)`` → a process that holds the lock until its stdin closes."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, purpose: str, *more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(store.root), name, purpose, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.naps = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.naps += 1


def take(store: Store, name: str, **more: object) -> locks.HeldLock:
    folder = store.root / "locks"
    fd = os.open(folder, os.O_RDONLY)
    try:
        return locks.acquire(
            fd,
            name,
            where=folder / name,
            what=name,
            purpose="test",
            **more,  # type: ignore[arg-type]
        )
    finally:
        os.close(fd)


def test_the_waiter_is_told_who_holds_it(store: Store, hold: Hold) -> None:
    holder = hold("apply", "applying train", "https://user:secret@host/x", "--token=secret")
    with pytest.raises(StoreLocked) as caught, store.file_lock("apply", purpose="mine", timeout=0):
        pass
    error = caught.value
    assert (error.pid, error.host) == (holder.pid, os.uname().nodename)
    assert error.purpose == "applying train"
    assert "-c" in error.command
    assert "secret" not in str(error) + error.command
    assert f"process {holder.pid}" in error.summary
    assert b"secret" not in (store.root / "locks" / "name-apply.lock").read_bytes()


def test_a_stopped_holder_is_waited_for_and_named(store: Store, hold: Hold) -> None:
    holder = hold("apply", "applying")
    os.kill(holder.pid, signal.SIGSTOP)
    clock = Clock()
    with pytest.raises(StoreLocked) as caught:
        take(store, "name-apply.lock", timeout=60.0, clock=clock, sleep=clock.sleep)
    assert 60.0 <= clock.now < 60.5
    assert clock.naps < 1000
    assert caught.value.pid == holder.pid


def test_a_killed_holder_leaves_nothing_to_unlock(store: Store, hold: Hold) -> None:
    holder = hold("apply", "applying")
    os.kill(holder.pid, signal.SIGSTOP)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with store.file_lock("apply", purpose="mine", timeout=0):
        pass


def test_shared_holders_exclude_an_exclusive_one(store: Store, hold: Hold) -> None:
    holder = hold("lease", "a long build")
    with store.lease("another"):
        pass
    with pytest.raises(StoreLocked) as caught:
        store.gc(timeout=0)
    assert caught.value.pid == holder.pid
    with store.transaction() as transaction:
        transaction.add_bytes(b"beside a lease")
        transaction.commit()
    holder.communicate("")
    assert store.gc(timeout=0).dry_run is False


def test_a_collection_makes_writers_wait(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", lock_timeout=0.0) as store:
        held = take(store, "gc.lock")
        for start in (store.transaction, lambda: store.lease("x", timeout=0).__enter__()):
            with pytest.raises(StoreLocked):
                start()
        held.release()
        held.release()
        store.transaction().close()


def test_threads_exclude_each_other_too(store: Store) -> None:
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with store.file_lock("x", purpose="counting"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_forked_child_does_not_keep_the_lock(store: Store) -> None:
    read, write = os.pipe()
    with store.file_lock("x", purpose="parent"):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    os.close(read)
    with store.file_lock("x", purpose="again", timeout=0):
        pass
    os.close(write)
    os.waitpid(child, 0)


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder", "pipe"])
def test_a_lock_file_that_is_something_else_is_refused(
    store: Store, tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "precious"
    path = store.root / "locks" / "name-x.lock"
    if kind != "dangling link":
        target.write_text("precious")
    if "hard" in kind:
        path.hardlink_to(target)
    elif "link" in kind:
        path.symlink_to(target)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(LockUnsafe), store.file_lock("x", purpose="test", timeout=0):
        pass
    if kind == "dangling link":
        assert not target.exists()
    else:
        assert target.read_text() == "precious"


def test_a_lock_file_of_somebody_else_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.root / "locks" / "name-x.lock"
    path.write_text("")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(LockUnsafe, match=f"user {owner}"), store.file_lock("x", purpose=""):
        pass


@pytest.mark.parametrize(
    "number", [37, 95, 38, 22], ids=["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"]
)
def test_a_file_system_without_locks_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LockUnsupported) as caught:
        store.transaction()
    assert "--store" in caught.value.hint
    assert list(store.blobs.digests()) == []


def test_any_other_refusal_is_an_error_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreIOError):
        store.transaction()


def test_a_lock_file_that_was_replaced_is_not_the_lock(store: Store) -> None:
    path = store.root / "locks" / "name-x.lock"
    with store.file_lock("x", purpose="old"):
        path.unlink()
        with store.file_lock("x", purpose="new", timeout=0):
            assert path.exists()


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff" * 600])
def test_a_damaged_note_costs_only_the_message(store: Store, note: bytes) -> None:
    with store.file_lock("x", purpose="first"):
        path = store.root / "locks" / "name-x.lock"
        path.write_bytes(note)
        with pytest.raises(StoreLocked) as caught, store.file_lock("x", purpose="", timeout=0):
            pass
    assert caught.value.pid in (0, os.getpid())


def test_the_note_of_an_earlier_holder_is_not_believed(store: Store, hold: Hold) -> None:
    holder = hold("x", "now")
    (store.root / "locks" / "name-x.lock").write_text(
        '{"pid": 1, "host": "elsewhere", "command": "old", "purpose": "old"}'
    )
    with pytest.raises(StoreLocked) as caught, store.file_lock("x", purpose="", timeout=0):
        pass
    assert caught.value.pid == holder.pid
