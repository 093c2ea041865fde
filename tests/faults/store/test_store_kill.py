"""kill -9 at any moment: every visible object is whole, and nothing needs a hand."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph_store import Store
from tests.faults.store.tools import (
    ROUNDS,
    Worker,
    assert_kept,
    assert_whole,
    numbers,
    place,
    work_here,
)

FEW = ["/^fsync", "syncfs", "/^rename", "/^link", "/^unlink", "/^mkdir"]
OFTEN = ["/^open", "write", "/^fchmod"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with place(tmp_path) as chosen:
        yield chosen


def damaged(root: Path) -> None:
    """A store with garbage, a leftover, and a bad object that a repair finds."""
    with Store.open(root) as store:
        with store.transaction() as transaction:
            good = transaction.add_bytes(b"good")
            bad = transaction.add_bytes(b"bad")
            transaction.add_bytes(b"garbage")
            transaction.put_action("bad", {"layer": str(bad)})
            transaction.set_ref("good", {"is": str(good)}, None)
            transaction.commit()
        path = store.blobs.path(bad)
        path.unlink()
        path.write_bytes(b"BAD")


def killed_at(kind: str, root: Path, call: str, number: int) -> bool:
    """Kill a worker at its n-th call; False if it came to its end before."""
    worker = Worker(kind, root)
    worker.trace(call, f"signal=KILL:when={number}", root.with_suffix(".log"))
    said = worker.go()
    assert worker.process.returncode == (0 if "done" in said else -9)
    return "done" not in said


@pytest.mark.services
@pytest.mark.parametrize("call", FEW + OFTEN)
@pytest.mark.parametrize("kind", ["add", "many"])
def test_killed_at_every_system_call_of_a_commit(folder: Path, kind: str, call: str) -> None:
    """``many`` has many of each, and takes large steps except in long runs."""
    root = folder / "store"
    hits = 0
    for number in numbers(20 if kind == "many" else (3 if call in OFTEN else 0)):
        Store.open(root).close()
        was_killed = killed_at(kind, root, call, number)
        hits += was_killed
        with Store.open(root) as store:
            assert store.verify().bad == ()
        work_here(kind, root)
        with Store.open(root) as store:
            assert_kept(store, {"add": "one", "many": "many"}[kind])
        assert_whole(root)
        shutil.rmtree(root)
        if not was_killed:
            break
    assert hits > 0 or (kind, call) == ("add", "syncfs")


@pytest.mark.services
@pytest.mark.parametrize("call", ["/^open", "/^mkdir", "/^link", "/^fsync"])
def test_killed_while_creating_a_store(folder: Path, call: str) -> None:
    for number in numbers():
        root = folder / str(number)
        was_killed = killed_at("create", root, call, number)
        with Store.open(root) as store:
            assert store.verify().bad == ()
        if not was_killed:
            break


@pytest.mark.services
@pytest.mark.parametrize(
    ("kind", "call"),
    [
        *(
            (k, c)
            for k in ("gc", "repair")
            for c in ("/^unlink", "/^rename", "/^fsync", "/^pwrite")
        ),
        *(("verify", call) for call in ("/^openat", "/^fchmod", "/^fsync", "/^pwrite")),
    ],
)
def test_killed_while_collecting_or_repairing(folder: Path, kind: str, call: str) -> None:
    for number in numbers():
        root = folder / str(number)
        damaged(root)
        was_killed = killed_at(kind, root, call, number)
        with Store.open(root) as store:
            store.verify(repair=True)
            store.gc(grace_seconds=0, now=time.time() + 10)
            ref = store.refs.get("good")
            assert ref is not None
            assert [str(digest) for digest in store.blobs.digests()] == [ref.value["is"]]
            assert store.actions.get("bad") is None
            assert store.verify().bad == ()
        if not was_killed:
            break


@pytest.mark.services
@pytest.mark.parametrize(("kind", "call"), [("repair", "/^rename"), ("gc", "/^unlink")])
def test_a_killed_removal_has_changed_the_generation(folder: Path, kind: str, call: str) -> None:
    damaged(folder / "store")
    with Store.open(folder / "store") as store:
        before = store.generation()
        assert killed_at(kind, store.root, call, 1)
        assert store.generation() != before


def test_killed_at_random_moments(tmp_path: Path) -> None:
    chance = random.Random(0)
    root = tmp_path / "store"
    Store.open(root).close()
    acknowledged: list[str] = []
    for _ in range(8 * ROUNDS):
        workers = [Worker("loop", root) for _ in range(2)]
        for worker in workers:
            acknowledged += worker.acks(chance.randrange(1, 6))
        for worker in workers:
            acknowledged += worker.kill()
        with Store.open(root) as store:
            assert store.verify().bad == ()
    with Store.open(root) as store:
        for name in acknowledged:
            assert_kept(store, name)
    assert len(acknowledged) >= 16 * ROUNDS
    assert_whole(root)


def test_what_a_killed_process_locked_is_free(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store.open(root).close()
    worker = Worker("loop", root)
    worker.acks(1)
    worker.kill()
    with Store.open(root) as store:
        store.gc(timeout=0)
        assert os.listdir(root / "stage") == []  # noqa: PTH208
