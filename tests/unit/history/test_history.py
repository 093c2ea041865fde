"""Version records: appended, linked by hash, found again; a broken chain is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.errors import IntegrityError, NotFoundError
from envgraph.history.find import find_version
from envgraph.history.read import environment_names, environment_ref, latest, versions
from envgraph.model.records import LockReference, VersionRecord
from envgraph_store import Digest, Store

ID = "w0rk"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def record(name: str = "train", version: str = "1", **changes: object) -> VersionRecord:
    made = VersionRecord(
        workspace=ID, environment=name, sequence=1, previous=None, time="2026-01-01T00:00:00Z",
        version=version, kind="system-managed", definition=Digest.of(version.encode()),
        runtime=Digest.of(b"r"),
        locks={"linux-64": LockReference(Digest.of(b"l"), Digest.of(b"k"))},
        images={"linux-64": Digest.of(b"i" + version.encode())},
        image=Digest.of(b"i" + version.encode()), image_name="envgraph/envgraph_0",
        image_keys={"linux-64": "envkey1:" + "0" * 64}, members=(Digest.of(b"m"),),
        changed=("lock",), description="what", tags={"a": "b"}, properties={"c": "d"}, tool="t",
    )  # fmt: skip
    return replace(made, **changes)


def append(store: Store, made: VersionRecord) -> VersionRecord:
    name = environment_ref(ID, made.environment)
    ref = store.refs.get(name)
    if ref is not None and made.previous is None:
        made = replace(made, previous=Digest(ref.value["head"]), sequence=ref.value["sequence"] + 1)
    with store.transaction() as batch:
        head = batch.add_bytes(made.to_bytes())
        value = {"head": str(head), "sequence": made.sequence}
        batch.set_ref(name, value, expected=None if ref is None else ref.generation)
        batch.commit()
    return made


def test_a_record_survives_its_bytes() -> None:
    made = record(previous=Digest.of(b"p"), parent="curated:1")
    assert VersionRecord.from_bytes(made.to_bytes()) == made


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"schema": "envgraph.history/2"}', b"\xff"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        VersionRecord.from_bytes(data)


def test_versions_are_read_newest_first(store: Store) -> None:
    for version in ("1", "2", "3"):
        append(store, record(version=version))
    assert [r.version for r in versions(store, ID, "train")] == ["3", "2", "1"]
    newest = latest(store, ID, "train")
    assert newest is not None
    assert newest.version == "3"
    assert environment_names(store, ID) == ["train"]


def test_names_with_odd_characters_come_back(store: Store) -> None:
    for name in ("ümlaut", "a b", "UPPER", "..", "name.with.dots"):
        append(store, record(name=name))
    assert environment_names(store, ID) == sorted(
        ["ümlaut", "a b", "UPPER", "..", "name.with.dots"]
    )


def test_a_dropped_record_breaks_the_chain(store: Store) -> None:
    first = append(store, record(version="1"))
    append(store, record(version="2"))
    head = Digest.of(first.to_bytes())
    append(store, record(version="4", previous=head, sequence=4))
    with pytest.raises(IntegrityError, match="broken before record 4"):
        list(versions(store, ID, "train"))


def test_a_chain_that_begins_in_the_middle_is_noticed(store: Store) -> None:
    append(store, record(version="2", sequence=2))
    with pytest.raises(IntegrityError, match="begins at record 2"):
        list(versions(store, ID, "train"))


def test_references_find_versions(store: Store) -> None:
    made = [append(store, record(version=version)) for version in ("1", "18.04:2022")]
    for text in ("train", "train@latest", "train:18.04:2022", "azureml:train:18.04:2022"):
        assert find_version(store, ID, text).version == "18.04:2022"
    assert find_version(store, ID, "train:1").version == "1"
    assert find_version(store, ID, str(made[0].definition)).version == "1"


@pytest.mark.parametrize(
    ("reference", "hint"),
    [("trian", "train"), ("train:9", "it has 1"), ("train@prod", "latest"), ("sha256:12", "")],
)
def test_what_is_not_there_is_said_with_what_is(store: Store, reference: str, hint: str) -> None:
    append(store, record())
    with pytest.raises(NotFoundError) as caught:
        find_version(store, ID, reference)
    assert hint in caught.value.diagnostics[0].hint
