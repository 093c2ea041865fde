"""What was seen to be damaged counts as absent, everywhere, until a good copy is written."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph_store import Digest, Store, StoreError, check, files, quarantine

GOOD = {
    "blobs": b"\x1f\x8b" + b"layer" * 50_000,
    "packages": b"PK\x03\x04 archive",
}


def bit_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, data)


def emptied(path: Path) -> None:
    rewrite(path, b"")


def another(path: Path) -> None:
    rewrite(path, b"[]")


def rewrite(path: Path, data: bytes | bytearray) -> None:
    path.unlink()
    path.write_bytes(data)


def marks(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "quarantine").iterdir())


@pytest.fixture
def digests(store: Store) -> dict[str, Digest]:
    with store.transaction() as transaction:
        blob = transaction.add_bytes(GOOD["blobs"])
        package = transaction.add_bytes(GOOD["packages"], area="packages")
        transaction.put_action("both", {"blob": str(blob), "package": str(package)})
        transaction.put_action("neither", {"x": 1})
        transaction.set_ref("x", {"is": str(blob)}, None)
        transaction.commit()
    return {"blobs": blob, "packages": package}


def areas(store: Store, name: str):  # type: ignore[no-untyped-def]
    return {"blobs": store.blobs, "packages": store.packages}[name]


@pytest.mark.parametrize("damage", [bit_flip, emptied, another])
@pytest.mark.parametrize("area", ["blobs", "packages"])
def test_what_verify_saw_is_not_there(
    store: Store, digests: dict[str, Digest], area: str, damage: Callable[[Path], None]
) -> None:
    digest, place = digests[area], areas(store, area)
    damage(place.path(digest))
    damaged = place.path(digest).read_bytes()
    assert place.has(digest), "nobody has looked yet"
    before = store.generation()

    assert [bad.digest for bad in store.verify().bad] == [str(digest)]
    assert store.generation() != before
    assert place.path(digest).read_bytes() == damaged, "looking removes nothing"
    with Store.open(store.root) as other:
        for opened in (store, other):
            assert not areas(opened, area).has(digest)
            assert areas(opened, area).missing(digests.values()) >= {digest}
            assert opened.actions.get("both") is None
            assert opened.actions.get("neither") == {"x": 1}
    code = (
        "import sys; from envgraph_store import Store; "
        "print(Store.open(sys.argv[1]).actions.get('both'))"
    )
    said = subprocess.check_output([sys.executable, "-c", code, str(store.root)], text=True)
    assert said == "None\n"
    assert [bad.digest for bad in store.verify().bad] == [str(digest)], "and again"
    assert marks(store) == [f"condemned-{area}-{digest.hex}"]


@pytest.mark.parametrize("how", ["bytes", "writer", "file", "file of that digest"])
@pytest.mark.parametrize("damage", [bit_flip, emptied, another])
@pytest.mark.parametrize("area", ["blobs", "packages"])
def test_writing_it_again_replaces_it_and_lifts_the_mark(
    store: Store,
    digests: dict[str, Digest],
    area: str,
    damage: Callable[[Path], None],
    how: str,
    tmp_path: Path,
) -> None:
    digest, place = digests[area], areas(store, area)
    damage(place.path(digest))
    store.verify()
    write_again(store, area, digest, how, tmp_path)
    assert marks(store) == []
    assert place.has(digest)
    assert place.read(digest) == GOOD[area]
    assert store.actions.get("both") is not None
    assert store.verify().bad == ()


def write_again(store: Store, area: str, digest: Digest, how: str, tmp_path: Path) -> None:
    with store.transaction() as transaction:
        if how == "bytes":
            transaction.add_bytes(GOOD[area], area)  # type: ignore[arg-type]
        elif how == "writer":
            with transaction.writer(area, expect=digest) as writer:  # type: ignore[arg-type]
                writer.write(GOOD[area])
                writer.finish()
        else:
            (tmp_path / "again").write_bytes(GOOD[area])
            expect = None if how == "file" else digest
            transaction.add_file(tmp_path / "again", area, expect)  # type: ignore[arg-type]
        transaction.commit()


@pytest.mark.parametrize("how", ["bytes", "writer", "file", "file of that digest"])
def test_a_good_copy_that_came_by_hand_counts_once_it_was_seen(
    store: Store, digests: dict[str, Digest], how: str, tmp_path: Path
) -> None:
    path = store.blobs.path(digests["blobs"])
    bit_flip(path)
    store.verify()
    rewrite(path, GOOD["blobs"])
    assert not store.blobs.has(digests["blobs"])
    write_again(store, "blobs", digests["blobs"], how, tmp_path)
    assert store.blobs.has(digests["blobs"])
    bit_flip(path)
    store.verify()
    rewrite(path, GOOD["blobs"])
    assert store.verify().bad == ()
    assert marks(store) == []
    assert store.actions.get("both") is not None


def test_what_is_dropped_or_fails_lifts_nothing(store: Store, digests: dict[str, Digest]) -> None:
    bit_flip(store.blobs.path(digests["blobs"]))
    store.verify()
    with store.transaction() as transaction:
        transaction.add_bytes(GOOD["blobs"])
    assert not store.blobs.has(digests["blobs"])


def test_what_was_replaced_while_it_was_looked_at_is_not_marked(
    store: Store, digests: dict[str, Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.blobs.path(digests["blobs"])
    bit_flip(path)
    real = check._look

    def look_then_heal(*args: object) -> check.VerifyReport:
        report = real(*args)  # type: ignore[arg-type]
        with store.transaction() as transaction:
            transaction.add_bytes(GOOD["blobs"])
            transaction.commit()
        return report

    monkeypatch.setattr(check, "_look", look_then_heal)
    assert len(store.verify().bad) == 1
    assert marks(store) == []
    assert store.blobs.has(digests["blobs"])


def test_repair_takes_the_mark_with_the_object(store: Store, digests: dict[str, Digest]) -> None:
    bit_flip(store.packages.path(digests["packages"]))
    store.verify()
    store.verify(repair=True)
    assert [name for name in marks(store) if quarantine.parse(name)] == []
    assert len(marks(store)) == 1
    assert not store.packages.has(digests["packages"])


def test_gc_marks_the_damage_that_stops_it(store: Store) -> None:
    with store.transaction() as transaction:
        document = transaction.add_bytes(b'{"layers":[]}')
        transaction.put_action("made", {"document": str(document)})
        transaction.set_ref("x", {"is": str(document)}, None)
        transaction.commit()
    another(store.blobs.path(document))
    before = store.generation()
    with pytest.raises(StoreError):
        store.gc(dry_run=True)
    assert store.blobs.has(document), "a dry run changes nothing"
    assert store.generation() == before
    with pytest.raises(StoreError):
        store.gc()
    assert store.generation() != before
    assert not store.blobs.has(document)
    assert store.actions.get("made") is None
    with store.transaction() as transaction:
        transaction.add_bytes(b'{"layers":[]}')
        transaction.commit()
    store.gc()
    assert store.actions.get("made") is not None


def test_gc_keeps_marks_as_long_as_what_they_mark(store: Store, digests: dict[str, Digest]) -> None:
    for area, digest in digests.items():
        bit_flip(areas(store, area).path(digest))
    store.verify()
    later = time.time() + 10
    store.gc(now=later)
    assert len(marks(store)) == 2
    store.refs.delete("x", 1)
    store.gc(grace_seconds=0, now=later)
    assert marks(store) == []
    assert not store.blobs.path(digests["blobs"]).exists()


def test_a_disk_that_takes_no_mark_does_not_stop_verify(
    store: Store, digests: dict[str, Digest], monkeypatch: pytest.MonkeyPatch
) -> None:
    bit_flip(store.blobs.path(digests["blobs"]))

    def refuse(*args: object) -> int:
        raise OSError(30, "read-only file system")

    monkeypatch.setattr(files, "create_file", refuse)
    assert [bad.digest for bad in store.verify().bad] == [str(digests["blobs"])]
