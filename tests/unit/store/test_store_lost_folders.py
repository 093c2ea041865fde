"""A store that lost folders, or has folders where files belong, opens and heals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from envgraph_store import Digest, Store, StoreError
from envgraph_store.layout import FOLDERS

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE = {"mediaType": MANIFEST, "size": 2, "ref_name": "x:1"}


def fill(store: Store) -> Digest:
    with store.transaction() as transaction:
        digest = transaction.add_bytes(b"{}")
        transaction.add_bytes(b"archive", area="packages")
        transaction.put_action("made", {"layer": str(digest)})
        transaction.commit()
    for number in range(4):
        value = {**IMAGE, "digest": str(digest), "n": number}
        store.refs.set("images/x", value, number or None)
    store.rewrite_index()
    return digest


@pytest.mark.parametrize("lost", ["blobs", *sorted(FOLDERS.values())])
def test_a_lost_folder_is_made_again(tmp_path: Path, lost: str) -> None:
    with Store.open(tmp_path / "store") as store:
        digest = fill(store)
        before = store.generation()
    shutil.rmtree(tmp_path / "store" / lost)
    with Store.open(tmp_path / "store", create=False) as store:
        blobs, refs, actions = (lost.startswith(name) for name in ("blobs", "refs", "actions"))
        assert store.blobs.has(digest) is not blobs
        assert (store.refs.get("images/x") is None) is refs
        assert (store.actions.get("made") is None) is (actions or blobs)
        assert (store.generation() == before) is (lost in ("stage", "locks"))
        assert (store.root / lost).stat().st_mode & 0o777 == 0o755
        store.verify()
        store.gc()
        if refs:
            store.refs.set("images/x", {**IMAGE, "digest": str(digest)}, None)
        with store.transaction() as transaction:
            assert transaction.add_bytes(b"{}") == digest
            transaction.put_action("made", {"layer": str(digest)})
            transaction.commit()
        assert store.actions.get("made") == {"layer": str(digest)}
        store.verify(repair=True)
        assert store.verify().bad == ()


def test_all_folders_lost_at_once(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        fill(store)
    for place in ("blobs", "packages", "actions", "refs", "locks", "stage", "quarantine"):
        shutil.rmtree(tmp_path / "store" / place)
    with Store.open(tmp_path / "store") as store:
        fill(store)
        assert store.verify().bad == ()


def test_a_missing_store_is_still_missing(tmp_path: Path) -> None:
    (tmp_path / "store" / "blobs").mkdir(parents=True)
    with pytest.raises(StoreError, match="no store"):
        Store.open(tmp_path / "store", create=False)


def in_the_way(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "inside").write_bytes(b"x")


def test_an_index_that_is_a_folder_heals(store: Store) -> None:
    fill(store)
    path = store.root / "index.json"
    good = path.read_bytes()
    for heal in (lambda: store.verify(repair=True), store.gc, store.rewrite_index):
        in_the_way(path)
        assert [bad.digest for bad in store.verify().bad] == ["index.json"]
        heal()
        assert path.read_bytes() == good
        assert store.verify().bad == ()
    aside = list((store.root / "quarantine").iterdir())
    assert [(kept / "inside").read_bytes() for kept in aside] == [b"x"] * 3


def test_a_generation_file_that_is_a_folder_heals(store: Store) -> None:
    fill(store)
    in_the_way(store.root / "generation")
    assert [bad.digest for bad in store.verify().bad] == ["generation"]
    store.verify(repair=True)
    assert store.generation() != "none"
    assert store.verify().bad == ()


def test_an_older_value_that_is_a_folder_is_named_and_set_aside(store: Store) -> None:
    fill(store)
    in_the_way(store.root / "refs" / "images%2fx" / "2")
    report = store.verify()
    assert [(bad.digest, bad.area) for bad in report.bad] == [("ref:images/x", "refs")]
    assert "2" in report.bad[0].problem
    store.verify(repair=True)
    assert store.verify().bad == ()
    ref = store.refs.get("images/x")
    assert ref is not None
    assert (ref.generation, ref.value["n"]) == (4, 3)
    (kept,) = (store.root / "quarantine").iterdir()
    assert (kept / "inside").exists()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_gc_does_not_fail_on_an_older_value_that_is_a_folder(store: Store, number: int) -> None:
    fill(store)
    in_the_way(store.root / "refs" / "images%2fx" / str(number))
    store.gc()
    store.verify(repair=True)
    assert store.verify().bad == ()
    ref = store.refs.get("images/x")
    assert ref is not None
    assert ref.generation == 4


def test_a_stray_file_among_the_refs_is_named_and_set_aside(store: Store) -> None:
    fill(store)
    (store.root / "refs" / "notes.txt").write_bytes(b"x")
    report = store.verify()
    assert [(bad.digest, bad.problem) for bad in report.bad] == [
        ("ref:notes.txt", "it is not a folder")
    ]
    store.verify(repair=True)
    assert store.verify().bad == ()
    store.gc()
    manifests = json.loads((store.root / "index.json").read_bytes())["manifests"]
    assert len(manifests) == 1
