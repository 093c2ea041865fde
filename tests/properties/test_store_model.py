"""The store against a dictionary: any sequence of uses, crashes, damage and collections.

``ENVGRAPH_FAULT_ROUNDS=20`` makes the runs 20 times longer.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from envgraph_store import Digest, DigestError, Store, Transaction, files
from envgraph_store.errors import ObjectCorrupt, ObjectMissing, RefConflict
from envgraph_store.naming import escape, unescape

ROUNDS = max(1, int(os.environ.get("ENVGRAPH_FAULT_ROUNDS", "1")))

AREA = st.sampled_from(["blobs", "packages"])
NAME = st.sampled_from(["a", "b", "images/x", "Ünï/ß", "x" * 250])
DATA = st.one_of(st.binary(max_size=20), st.integers(0, 3).map(lambda n: b"%d" % n * 70_000))
Area = Literal["blobs", "packages"]


class Unsynced(files.Disk):
    """The model has no power cuts."""

    def sync_file(self, fd: int) -> None:
        pass

    def sync_folder(self, fd: int) -> None:
        pass

    def sync_everything(self, fd: int) -> bool:
        return True


class StoreMachine(RuleBasedStateMachine):
    """Objects, actions and refs in dictionaries; what is damaged is remembered too."""

    def __init__(self) -> None:
        super().__init__()
        shm = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=shm if os.access(shm, os.W_OK) else None))
        self.store = self.open()
        self.objects: dict[tuple[Area, Digest], bytes] = {}
        self.damaged: set[tuple[Area, Digest]] = set()
        self.actions: dict[str, dict[str, Any]] = {}
        self.refs: dict[str, tuple[int, dict[str, Any]]] = {}
        self.last: dict[str, int] = {}

    def open(self) -> Store:
        return Store.open(self.folder / "store", disk=Unsynced())

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def names(self) -> list[str]:
        """Digests that a value may name: of the objects, and one that never was."""
        known = sorted(str(digest) for _, digest in self.objects)
        return [*known, "sha256:" + "0" * 64]

    @rule(area=AREA, contents=st.lists(DATA, max_size=3), how=st.sampled_from(["bytes", "writer"]))
    def add(self, area: Area, contents: list[bytes], how: str) -> None:
        with self.store.transaction() as transaction:
            for data in contents:
                digest = self.write(transaction, area, data, how)
                assert digest == Digest.of(data)
            transaction.commit()
        for data in contents:
            self.objects[area, Digest.of(data)] = data
            self.damaged.discard((area, Digest.of(data)))

    def write(self, transaction: Transaction, area: Area, data: bytes, how: str) -> Digest:
        if how == "bytes":
            return transaction.add_bytes(data, area)
        writer = transaction.writer(area, size=len(data))
        for start in range(0, len(data), 7000):
            writer.write(data[start : start + 7000])
        return writer.finish()

    @rule(contents=st.lists(DATA, min_size=1, max_size=3), name=NAME)
    def give_up(self, contents: list[bytes], name: str) -> None:
        with self.store.transaction() as transaction:
            for data in contents:
                transaction.add_bytes(data)
            transaction.put_action(name, {"given": "up"})
            transaction.writer().write(b"unfinished")

    @rule(data=st.data(), name=NAME)
    def name_something(self, data: st.DataObject, name: str) -> None:
        named = data.draw(st.sampled_from(self.names()))
        document = f'{{"x": "{named}"}}'.encode()
        self.add("blobs", [document], "bytes")
        self.set_ref(name, {"is": str(Digest.of(document))})

    @rule(data=st.data(), name=NAME)
    def point_at(self, data: st.DataObject, name: str) -> None:
        self.set_ref(name, {"is": data.draw(st.sampled_from(self.names()))})

    def set_ref(self, name: str, value: dict[str, Any]) -> None:
        expected = self.refs[name][0] if name in self.refs else None
        generation = self.store.refs.set(name, value, expected).generation
        assert generation > self.last.get(name, 0)
        self.refs[name] = (generation, value)
        self.last[name] = generation

    @rule(name=NAME, off=st.sampled_from([-1, 1, 7]))
    def set_from_a_wrong_generation(self, name: str, off: int) -> None:
        expected = self.refs[name][0] + off if name in self.refs else 3
        with pytest.raises(RefConflict):
            self.store.refs.set(name, {}, expected)

    @rule(name=NAME)
    def delete_ref(self, name: str) -> None:
        if name not in self.refs:
            with pytest.raises(RefConflict):
                self.store.refs.delete(name, 1)
            return
        self.store.refs.delete(name, self.refs[name][0])
        self.last[name] = self.refs.pop(name)[0] + 1

    @rule(data=st.data(), key=NAME)
    def put_action(self, data: st.DataObject, key: str) -> None:
        record = {"made": data.draw(st.sampled_from(self.names()))}
        with self.store.transaction() as transaction:
            transaction.put_action(key, record)
            transaction.commit()
        self.actions[key] = record

    @rule()
    def crash(self) -> None:
        """A killed process: its stage is left, its locks are not."""
        stage = self.folder / "store" / "stage"
        (stage / "1-dead.lock").write_bytes(b"")
        (stage / "1-dead").mkdir(exist_ok=True)
        (stage / "1-dead" / "1").write_bytes(b"half")
        self.store.close()
        self.store = self.open()

    @precondition(lambda self: self.objects)
    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "link", "gone", "folder"]))
    def damage(self, data: st.DataObject, how: str) -> None:
        area, digest = data.draw(st.sampled_from(sorted(self.objects, key=str)))
        path = self.folder / "store" / ("packages" if area == "packages" else "blobs/sha256")
        path /= digest.hex
        if not path.is_file() or path.is_symlink():
            return
        content = path.read_bytes()
        path.unlink()
        if how == "flip":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b"x")
        elif how == "cut":
            path.write_bytes(content[:-1] if content else b"x")
        elif how == "link":
            path.symlink_to("/dev/null")
        elif how == "folder":
            path.mkdir()
        if how == "flip" and Digest.of(path.read_bytes()) == digest:
            self.damaged.discard((area, digest))  # the same bit a second time
        else:
            self.damaged.add((area, digest))

    @rule()
    def verify(self) -> None:
        before = self.store.generation()
        report = self.store.verify()
        bad = {(bad.area, bad.digest) for bad in report.bad if bad.problem != "it is gone"}
        present = {
            (area, str(digest)) for area, digest in self.damaged if self.lies_there(area, digest)
        }
        assert bad == present
        assert (self.store.generation() != before) == bool(report.bad)

    def lies_there(self, area: Area, digest: Digest) -> bool:
        place = "packages" if area == "packages" else "blobs/sha256"
        return os.path.lexists(self.folder / "store" / place / digest.hex)

    @rule()
    def repair(self) -> None:
        self.store.verify(repair=True)
        for place in self.damaged:
            self.objects.pop(place, None)
        self.damaged.clear()
        again = self.store.verify().bad
        assert all(bad.problem == "it is gone" for bad in again)
        assert all(any(user.startswith("ref:") for user in bad.used_by) for bad in again)

    @precondition(lambda self: not self.damaged)
    @rule(grace=st.sampled_from([0.0, 3600.0]), dry=st.booleans())
    def collect(self, grace: float, dry: bool) -> None:
        report = self.store.gc(grace_seconds=grace, now=time.time() + 10, dry_run=dry)
        live = self.reachable()
        doomed = {place for place in self.objects if place[1] not in live} if not grace else set()
        removed = {(item.area, item.name) for item in report.removed if item.area != "actions"}
        assert removed == {(area, digest.hex) for area, digest in doomed}
        if not dry:
            for place in doomed:
                del self.objects[place]
            if not grace:  # a deletion that is forgotten lets the generations begin anew
                self.last = {name: generation for name, (generation, _) in self.refs.items()}
            assert not list((self.folder / "store" / "stage").iterdir())

    def reachable(self) -> set[Digest]:
        todo = [Digest(value["is"]) for _, value in self.refs.values()]
        found: set[Digest] = set()
        while todo:
            digest = todo.pop()
            if digest in found:
                continue
            found.add(digest)
            for area in ("blobs", "packages"):
                data = self.objects.get((area, digest), b"")
                if data.startswith(b'{"x": "'):
                    todo.append(Digest(data[7:-2].decode()))
        return found

    @invariant()
    def reads_are_right(self) -> None:
        for (area, digest), data in self.objects.items():
            place = self.store.blobs if area == "blobs" else self.store.packages
            if (area, digest) in self.damaged:
                with pytest.raises((ObjectCorrupt, ObjectMissing)):
                    place.read(digest)
            else:
                assert place.read(digest) == data
        for folder in (self.store.blobs, self.store.packages):
            listed = {(folder.name, digest) for digest in folder.digests()}
            assert listed <= {(str(area), digest) for area, digest in self.objects}

    @invariant()
    def names_are_right(self) -> None:
        assert {n: tuple(r) for n, r in self.store.refs.list().items()} == self.refs
        for key, record in self.actions.items():
            assert self.store.actions.get(key) in (record, None)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=25 * ROUNDS,
    stateful_step_count=30,
    deadline=None,
    derandomize=ROUNDS == 1,
    suppress_health_check=[HealthCheck.too_slow],
)


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_and_file_names_are_one_to_one(first: str, second: str) -> None:
    assert (escape(first) == escape(second)) == (first == second)
    assert unescape(escape(first)) in (first, None)
    assert len(escape(first)) <= 180
    assert not {"/", "\0", "\n"} & set(escape(first))


@given(st.text(max_size=80) | st.from_regex(r"sha256:[0-9a-fA-F./]{60,68}", fullmatch=True))
def test_a_digest_is_a_digest_or_refused(text: str) -> None:
    digits = text.removeprefix("sha256:")
    good = len(text) == 71 and len(digits) == 64 and set(digits) <= set("0123456789abcdef")
    if good:
        assert str(Digest(text)) == text
    else:
        with pytest.raises(DigestError):
            Digest(text)
