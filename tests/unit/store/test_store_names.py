"""Refs, actions and the escape of their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envgraph_store import Digest, Ref, Store
from envgraph_store.errors import RecordCorrupt, RefConflict
from envgraph_store.layout import REF_NAME
from envgraph_store.naming import escape, unescape

NAMES = [
    "a", "images/ws/env:1", "Env", "env", "..", ".", ".hidden", "a/../b", "a\0b", "a%2fb", "%",
    "ünï", "u\u0308", "\ud800", "new\nline", "x" * 300, "Y" * 70, "~tilde", "ß", "aux", " ",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_a_file_name(name: str, store: Store) -> None:
    file_name = escape(name)
    assert len(file_name.encode("ascii")) <= 180
    assert "/" not in file_name
    assert not file_name.startswith(".")
    assert file_name == file_name.lower()
    assert unescape(file_name) in (name, None)
    store.refs.set(name, {"name": ascii(name)}, None)
    assert store.refs.list(name) == {name: Ref(1, {"name": ascii(name)})}
    with store.transaction() as transaction:
        transaction.put_action(name, {"x": 1})
        transaction.commit()
    assert list(store.actions.keys()) == [name]
    assert store.actions.get(name) == {"x": 1}


def test_no_two_names_share_a_file_name() -> None:
    assert len({escape(name) for name in NAMES}) == len(NAMES)
    with pytest.raises(ValueError, match="empty"):
        escape("")


def test_compare_and_swap(store: Store) -> None:
    assert store.refs.set("name", {"v": 1}, None) == Ref(1, {"v": 1})
    assert store.refs.set("name", {"v": 2}, 1).generation == 2
    for expected in (None, 1, 3):
        with pytest.raises(RefConflict) as caught:
            store.refs.set("name", {"v": 3}, expected)
        assert caught.value.current == 2
    assert store.refs.get("name") == Ref(2, {"v": 2})


def test_a_deleted_ref_is_absent_and_can_come_back(store: Store) -> None:
    store.refs.set("name", {"v": 1}, None)
    with pytest.raises(RefConflict):
        store.refs.delete("name", 2)
    store.refs.delete("name", 1)
    assert store.refs.get("name") is None
    assert store.refs.list() == {}
    for expected in (1, 2, None):
        with pytest.raises(RefConflict):
            store.refs.delete("name", expected)
    assert store.refs.set("name", {"v": 2}, None) == Ref(3, {"v": 2})


def test_list_by_prefix_in_order(store: Store) -> None:
    for name in ("b/2", "a/1", "b/1", "b"):
        store.refs.set(name, {}, None)
    assert list(store.refs.list("b/")) == ["b/1", "b/2"]
    assert list(store.refs.list()) == ["a/1", "b", "b/1", "b/2"]


def test_one_name_is_set_once_per_transaction(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.set_ref("name", {}, None)
        with pytest.raises(ValueError, match="twice"):
            transaction.set_ref("name", {}, None)


@pytest.mark.parametrize("damage", ["flip", "empty", "other name", "link"])
def test_a_damaged_ref_is_an_error_and_not_an_old_value(
    store: Store, tmp_path: Path, damage: str
) -> None:
    store.refs.set("name", {"v": 1}, None)
    store.refs.set("name", {"v": 2}, 1)
    store.refs.set("other", {"v": 3}, None)
    path = store.root / "refs" / "name" / "2"
    data = path.read_bytes()
    path.unlink()
    if damage == "flip":
        path.write_bytes(data.replace(b'"v":2', b'"v":3'))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other name":
        path.write_bytes((store.root / "refs" / "other" / "1").read_bytes())
    else:
        (tmp_path / "copy").write_bytes(data)
        path.symlink_to(tmp_path / "copy")
    with pytest.raises(RecordCorrupt):
        store.refs.get("name")
    with pytest.raises(RecordCorrupt):
        store.refs.list()
    report = store.verify(repair=True)
    assert [bad.digest for bad in report.bad] == ["ref:name"]
    assert store.refs.get("name") == Ref(1, {"v": 1})
    assert store.verify().bad == ()


def test_an_action_is_absent_when_what_it_needs_is_gone(store: Store) -> None:
    diff_id = "sha256:" + "1" * 64
    with store.transaction() as transaction:
        digest = transaction.add_bytes(b"layer")
        record = {"layer": str(digest), "diff_id": diff_id, "text": f"x {digest}"}
        transaction.put_action("key", record)
        transaction.commit()
    assert store.actions.get("key") == record
    store.blobs.path(digest).unlink()
    assert store.actions.get("key") is None


def test_a_damaged_action_is_absent(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.put_action("key", {"v": 1})
        transaction.commit()
    path = store.root / "actions" / "key"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-3])
    assert store.actions.get("key") is None
    with store.transaction() as transaction:
        transaction.put_action("key", {"v": 2})
        transaction.commit()
    assert store.actions.get("key") == {"v": 2}


def test_the_index_follows_the_image_refs(store: Store) -> None:
    digest = str(Digest.of(b"{}"))
    value = {"mediaType": "m", "digest": digest, "size": 2, "ref_name": "ws/env:1"}
    store.refs.set("images/ws/env:1", {**value, "annotations": {"a": "b"}}, None)
    store.refs.set("images/ws/env:2", {**value, "ref_name": "ws/env:2"}, None)
    store.refs.set("labels/x", {"other": "ref"}, None)
    assert store.rewrite_index()
    assert not store.rewrite_index()
    index = json.loads((store.root / "index.json").read_bytes())
    assert index["schemaVersion"] == 2
    assert [entry["annotations"] for entry in index["manifests"]] == [
        {REF_NAME: "ws/env:1", "a": "b"},
        {REF_NAME: "ws/env:2"},
    ]
    store.refs.delete("images/ws/env:1", 1)
    assert store.rewrite_index()
    assert len(json.loads((store.root / "index.json").read_bytes())["manifests"]) == 1


def test_an_image_ref_without_a_digest_is_refused(store: Store) -> None:
    store.refs.set("images/x", {"digest": "sha256:../../x"}, None)
    with pytest.raises(RecordCorrupt, match="images/x"):
        store.rewrite_index()
