"""Garbage collection: what can be reached stays, whatever the clock says."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from envgraph_store import Digest, Store, StoreLocked, files
from envgraph_store.errors import ObjectCorrupt, RecordCorrupt

YEAR = 365 * 24 * 3600.0
KEY = "envkey1:" + "c" * 64


def put(store: Store, *contents: bytes, area: str = "blobs") -> list[Digest]:
    with store.transaction() as transaction:
        digests = [transaction.add_bytes(data, area=area) for data in contents]  # type: ignore[arg-type]
        transaction.commit()
    return digests


def names(*digests: Digest) -> bytes:
    return json.dumps({"names": [str(digest) for digest in digests]}).encode()


@pytest.fixture
def chain(store: Store) -> list[Digest]:
    """ref → document → document → layer and package; everything is old."""
    (layer,) = put(store, b"\x1f\x8b layer")
    (package,) = put(store, b"PK\x03\x04 package", area="packages")
    (inner,) = put(store, names(layer, package))
    (outer,) = put(store, names(inner, Digest.of(b"a DiffID")))
    store.refs.set(
        "images/x", {"digest": str(outer), "mediaType": "", "size": 0, "ref_name": "x"}, None
    )
    return [layer, package, inner, outer]


def kept(store: Store) -> set[Digest]:
    return {*store.blobs.digests(), *store.packages.digests()}


def test_what_a_ref_leads_to_stays(store: Store, chain: list[Digest]) -> None:
    (garbage,) = put(store, b"garbage")
    report = store.gc(grace_seconds=0, now=time.time() + 10)
    assert kept(store) == set(chain)
    assert [item.name for item in report.removed] == [garbage.hex]
    assert report.bytes_freed == len(b"garbage")
    assert (report.live, report.young) == (4, 0)


def test_what_a_deleted_ref_led_to_goes(store: Store, chain: list[Digest]) -> None:
    store.refs.delete("images/x", 1)
    before = store.generation()
    assert len(store.gc(grace_seconds=0, now=time.time() + 10).removed) == 4
    assert kept(store) == set()
    assert store.generation() != before


def test_a_dry_run_changes_nothing(store: Store, chain: list[Digest]) -> None:
    store.refs.delete("images/x", 1)
    before = sorted((str(p), p.lstat().st_mtime_ns) for p in store.root.rglob("*"))
    with store.lease("a dry run waits for nobody"):
        report = store.gc(dry_run=True, grace_seconds=0, now=time.time() + 10, timeout=0)
    after = sorted((str(p), p.lstat().st_mtime_ns) for p in store.root.rglob("*"))
    ours = f"{os.sep}locks{os.sep}"
    assert [x for x in after if ours not in x[0]] == [x for x in before if ours not in x[0]]
    assert report.dry_run
    assert len(report.removed) == 4
    assert store.gc(grace_seconds=0, now=time.time() + 10).removed == report.removed


def test_young_objects_stay_for_the_grace_period(store: Store) -> None:
    (digest,) = put(store, b"new")
    assert store.gc(grace_seconds=100).young == 1
    now = store.blobs.path(digest).stat().st_mtime
    assert store.gc(grace_seconds=100, now=now + 99).removed == ()
    assert len(store.gc(grace_seconds=100, now=now + 101).removed) == 1


def test_being_added_again_is_being_young(store: Store) -> None:
    (digest,) = put(store, b"used again")
    os.utime(store.blobs.path(digest), (1, 1))
    put(store, b"used again")
    assert store.gc(grace_seconds=3600).removed == ()


@pytest.mark.parametrize("years", [-50, -10, 10, 80])
def test_a_clock_that_jumps_removes_nothing_reachable(
    store: Store, chain: list[Digest], years: int
) -> None:
    store.gc(now=time.time() + years * YEAR)
    assert kept(store) == set(chain)
    store.gc(grace_seconds=0, now=time.time() + years * YEAR)
    assert kept(store) == set(chain)


@pytest.mark.parametrize("moment", [0, 1, 4_102_444_800, 2**33], ids=["0", "1970", "2100", "2242"])
def test_odd_times_remove_nothing_reachable(store: Store, chain: list[Digest], moment: int) -> None:
    (garbage,) = put(store, b"garbage")
    for path in store.root.rglob("*"):
        os.utime(path, (moment, moment), follow_symlinks=False)
    store.gc(grace_seconds=3600)
    assert kept(store) - {garbage} == set(chain)
    assert store.blobs.has(garbage) == (moment > 10)
    later = time.time() + 7200
    store.gc(grace_seconds=3600, now=later)
    assert kept(store) == set(chain), "a time in the future was set to now, and counts from there"


def test_actions_live_while_young_or_named_or_free(store: Store) -> None:
    named, young, free, dead = put(store, b"named", b"young", b"free", b"dead")
    with store.transaction() as transaction:
        transaction.put_action(KEY, {"layer": str(named)})
        transaction.put_action("young", {"layer": str(young)})
        transaction.put_action("free", {"layer": str(named), "diff": "sha256:" + "0" * 64})
        transaction.put_action("dead", {"layer": str(dead)})
        transaction.set_ref("record", {"made by": KEY}, None)
        transaction.commit()
    for name in ("envkey1%3a" + "c" * 64, "free", "dead"):
        os.utime(store.root / "actions" / name, (1000, 1000))
    for digest in (named, young, free, dead):
        os.utime(store.blobs.path(digest), (1000, 1000))
    report = store.gc(grace_seconds=3600)
    assert {item.name for item in report.removed} == {"dead", dead.hex, free.hex}
    assert set(store.actions.keys()) == {KEY, "young", "free"}
    assert store.actions.get("free") is not None
    store.actions.freshen("free")
    assert store.gc(grace_seconds=3600).removed == ()


def test_actions_keep_documents_of_actions(store: Store) -> None:
    """An action names a document that names another action's key."""
    (layer,) = put(store, b"layer")
    (document,) = put(store, json.dumps({"inputs": [KEY]}).encode())
    with store.transaction() as transaction:
        transaction.put_action(KEY, {"layer": str(layer)})
        transaction.put_action("envkey1:" + "d" * 64, {"document": str(document)})
        transaction.set_ref("record", {"key": "envkey1:" + "d" * 64}, None)
        transaction.commit()
    assert store.gc(grace_seconds=0, now=time.time() + 10).removed == ()


@pytest.mark.parametrize("which", [2, 3])
def test_a_damaged_document_stops_the_sweep(store: Store, chain: list[Digest], which: int) -> None:
    put(store, b"garbage")
    path = store.blobs.path(chain[which])
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data.replace(b"sha256", b"sha255", 1))
    before = kept(store)
    with pytest.raises(ObjectCorrupt, match="nothing was removed"):
        store.gc(grace_seconds=0, now=time.time() + 10)
    assert kept(store) == before


def test_a_damaged_ref_stops_the_sweep(store: Store, chain: list[Digest]) -> None:
    path = store.root / "refs" / "images%2fx" / "1"
    path.unlink()
    path.write_bytes(b"")
    with pytest.raises(RecordCorrupt):
        store.gc(grace_seconds=0, now=time.time() + 10)
    assert kept(store) == set(chain)


def test_a_digest_across_a_piece_of_reading_is_seen(store: Store) -> None:
    (layer,) = put(store, b"layer")
    for shift in (30, 71, 100):
        text = b'{"x":"' + b" " * (files.CHUNK - shift - 6) + names(layer)[1:-1] + b'"}'
        (document,) = put(store, text)
        ref = store.refs.get("doc")
        store.refs.set("doc", {"is": str(document)}, ref.generation if ref else None)
        store.gc(grace_seconds=0, now=time.time() + 10)
        assert store.blobs.has(layer), shift


def test_what_is_lost_is_said_and_changes_the_generation(store: Store, chain: list[Digest]) -> None:
    store.blobs.path(chain[3]).unlink()
    before = store.generation()
    assert store.gc().missing == (str(chain[3]),)
    assert store.generation() != before


def test_leftovers_go(store: Store) -> None:
    stage = store.root / "stage" / "1-dead"
    stage.mkdir()
    (stage / "0").write_bytes(b"half")
    (store.root / "quarantine" / "blobs-x").mkdir()
    (store.root / "quarantine" / "blobs-x" / "y").write_bytes(b"")
    (store.root / ".new-index.json-1-aa").write_bytes(b"")
    with store.file_lock("old", purpose=""):
        pass
    for number in range(5):
        store.refs.set("moving", {"v": number}, number or None)
    store.refs.set("gone", {}, None)
    store.refs.delete("gone", 1)
    store.gc(grace_seconds=0, now=time.time() + 10)
    left = {path.relative_to(store.root).as_posix() for path in store.root.rglob("*")}
    assert {path for path in left if path.startswith(("stage/", "quarantine/", "refs/"))} == {
        "refs/moving", "refs/moving/4", "refs/moving/5",
    }  # fmt: skip
    assert not {path for path in left if "name-old" in path or ".new-" in path}
    ref = store.refs.get("moving")
    assert ref is not None
    assert ref.generation == 5


def test_a_build_that_found_something_keeps_it(store: Store, chain: list[Digest]) -> None:
    """Between "it is there" and "a ref names it", the lease holds the collector off."""
    store.refs.delete("images/x", 1)
    with store.lease("a build"):
        assert store.blobs.has(chain[0])
        with pytest.raises(StoreLocked):
            store.gc(grace_seconds=0, now=time.time() + 10, timeout=0)
        store.refs.set("result", {"layer": str(chain[0])}, None)
    store.gc(grace_seconds=0, now=time.time() + 10)
    assert kept(store) == {chain[0]}


class Barrier(files.Disk):
    """Runs something at a named point."""

    def __init__(self) -> None:
        super().__init__()
        self.at = ""
        self.outcome: list[str] = []

    def point(self, name: str) -> None:
        if name == self.at:
            self.at = ""
            with Store.open(self.root) as other:
                try:
                    other.gc(grace_seconds=0, now=time.time() + 10, timeout=0)
                    self.outcome.append("collected")
                except StoreLocked:
                    self.outcome.append("locked")

    root = Path()


@pytest.mark.parametrize("point", ["staged", "synced", "placed", "actions", "refs"])
def test_no_collection_between_object_and_ref(tmp_path: Path, point: str) -> None:
    disk = Barrier()
    disk.root = tmp_path / "store"
    with Store.open(tmp_path / "store", disk=disk) as store:
        (old,) = put(store, b"already here")
        with store.transaction() as transaction:
            new = transaction.add_bytes(b"uploaded")
            assert transaction.add_bytes(b"already here") == old
            transaction.set_ref("manifest", {"layers": [str(old), str(new)]}, None)
            disk.at = point
            transaction.commit()
        assert disk.outcome == ["locked"]
        store.gc(grace_seconds=0, now=time.time() + 10)
        assert kept(store) == {old, new}
        assert store.verify().bad == ()


def test_the_generation_changes_before_anything_goes(tmp_path: Path) -> None:
    words: list[str] = []

    class Look(files.Disk):
        def point(self, name: str) -> None:
            if name in ("gc-marked", "gc-removed"):
                words.append(store.generation())

    with Store.open(tmp_path / "store", disk=Look()) as store:
        put(store, b"a", b"b")
        store.gc(grace_seconds=0, now=time.time() + 10)
        words.append(store.generation())
    assert len(words) == 4
    assert words[1] == words[2]
    assert len(set(words)) == 3


def test_usage_adds_up(store: Store, chain: list[Digest]) -> None:
    usage = store.usage()
    assert (usage.blobs.files, usage.packages.files, usage.refs.files) == (3, 1, 1)
    assert usage.packages.bytes == len(b"PK\x03\x04 package")
    assert usage.total_bytes > usage.blobs.bytes + usage.packages.bytes
