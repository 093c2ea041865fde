"""Many processes at once: one copy of each object, every ref by exactly one winner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from envgraph_store import Digest, Store
from tests.faults.store.tools import ROUNDS

ADD = """
import sys, time
from envgraph_store import Store
root, me, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with Store.open(root) as store:
    for turn in range(rounds):
        if me == 0:
            store.gc(grace_seconds=0, now=time.time() + 10)
            continue
        with store.transaction() as transaction:
            digests = []
            for number in range(me, me + 20):
                with transaction.writer() as writer:
                    writer.write(b"%d" % number * 5000)
                    digests.append(str(writer.finish()))
            transaction.put_action(f"key{number}", {"all": digests})
            ref = store.refs.get(f"mine{me}")
            transaction.set_ref(f"mine{me}", {"all": digests}, ref and ref.generation)
            transaction.commit()
"""

COUNT = """
import sys
from envgraph_store import Store
from envgraph_store.errors import RefConflict
with Store.open(sys.argv[1]) as store:
    for turn in range(int(sys.argv[3])):
        while True:
            ref = store.refs.get("counter")
            value, at = (ref.value["n"], ref.generation) if ref else (0, None)
            try:
                store.refs.set("counter", {"n": value + 1}, at)
                break
            except RefConflict:
                continue
"""


def run(code: str, root: Path, processes: int, turns: int) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(number), str(turns)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    errors = [process.communicate()[1] for process in started]
    assert errors == [""] * processes


def test_sixteen_processes_add_overlapping_objects(tmp_path: Path) -> None:
    root = tmp_path / "store"
    run(ADD, root, 16, 4 * ROUNDS)
    with Store.open(root) as store:
        assert store.verify().bad == ()
        expected = {Digest.of(b"%d" % number * 5000) for number in range(1, 35)}
        assert set(store.blobs.digests()) == expected
        assert len(store.refs.list("mine")) == 15
        assert not list((root / "stage").iterdir())


def test_a_ref_counts_every_winner_once(tmp_path: Path) -> None:
    root = tmp_path / "store"
    run(COUNT, root, 6, 10 * ROUNDS)
    with Store.open(root) as store:
        ref = store.refs.get("counter")
    assert ref is not None
    assert ref == (60 * ROUNDS, {"n": 60 * ROUNDS})
