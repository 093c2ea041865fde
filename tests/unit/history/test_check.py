"""What ``store verify`` says of histories: whole ones pass, and no tampering does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envgraph.history.check import broken_histories
from envgraph.history.read import environment_ref, history
from envgraph.model.history import Change, ChangeRecord
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store
from envgraph_store.naming import escape
from tests.unit.history.making import ID, happen, version

REF = environment_ref(ID, "train")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        happen(opened, version("1"), version("2"), Change("label", "1", "prod"))
        happen(opened, Change("archive", "2"))
        happen(opened, version("3"))
        yield opened


def problems(store: Store) -> list[str]:
    return [found.problem for found in broken_histories(store)]


def rewrite(store: Store, **changes: Any) -> None:
    ref = store.refs.get(REF)
    assert ref is not None
    store.refs.set(REF, {**ref.value, **changes}, ref.generation)


def chain(store: Store) -> list[VersionRecord | ChangeRecord]:
    return [record for _, record in history(store, ID, "train")][::-1]


def relink(store: Store, records: list[VersionRecord | ChangeRecord]) -> str:
    """Somebody who can compute hashes writes the whole chain anew; its head."""
    previous: Digest | None = None
    with store.transaction() as batch:
        for number, record in enumerate(records, 1):
            placed = replace(record, sequence=number, previous=previous)
            previous = batch.add_bytes(placed.chain_bytes())
        batch.commit()
    return str(previous)


def test_a_whole_history_has_no_problem(store: Store) -> None:
    assert problems(store) == []
    happen(store, version("1", "other"), name="other")
    assert problems(store) == []


def test_each_record_that_is_changed_is_noticed(store: Store) -> None:
    for digest, _ in list(history(store, ID, "train")):
        path = store.root / "blobs" / "sha256" / digest.hex
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data.replace(b'"train"', b'"brain"'))
        assert len(problems(store)) == 1
        path.write_bytes(data)
        path.chmod(0o444)
    assert problems(store) == []


def test_each_record_that_is_gone_is_noticed(store: Store) -> None:
    for digest, _ in list(history(store, ID, "train")):
        path = store.root / "blobs" / "sha256" / digest.hex
        data = path.read_bytes()
        path.unlink()
        assert len(problems(store)) == 1
        path.write_bytes(data)
    assert problems(store) == []


@pytest.mark.parametrize("number", range(5))
def test_a_record_that_is_left_out_is_noticed_even_when_all_is_hashed_anew(
    store: Store, number: int
) -> None:
    records = chain(store)
    del records[number]
    rewrite(store, head=relink(store, records), sequence=len(records))
    assert len(problems(store)) == 1


def test_records_in_another_order_are_noticed_even_when_all_is_hashed_anew(store: Store) -> None:
    records = chain(store)
    records[0], records[1] = records[1], records[0]
    rewrite(store, head=relink(store, records))
    assert len(problems(store)) == 1


def test_a_history_that_was_cut_back_is_noticed(store: Store) -> None:
    records = chain(store)[:-1]
    head = Digest.of(records[-1].chain_bytes())
    kept = store.refs.load(escape(REF), 2)["value"]
    assert kept["head"] == str(head)  # the value before the last one, just as it was
    ref = store.refs.get(REF)
    assert ref is not None
    store.refs.set(REF, kept, ref.generation)
    assert len(problems(store)) == 1


def test_a_state_that_says_otherwise_is_noticed(store: Store) -> None:
    ref = store.refs.get(REF)
    assert ref is not None
    document = json.loads(store.blobs.read(Digest(ref.value["state"])))
    document["labels"] = {"prod": "3"}
    with store.transaction() as batch:
        state = batch.add_bytes(json.dumps(document).encode())
        batch.commit()
    rewrite(store, state=str(state))
    assert len(problems(store)) == 1


@pytest.mark.parametrize(
    "changes", [{"head": "sha256:12"}, {"head": 7}, {"sequence": 9}, {"state": None}]
)
def test_a_ref_that_is_no_ref_is_a_problem_and_no_crash(
    store: Store, changes: dict[str, Any]
) -> None:
    rewrite(store, **changes)
    assert len(problems(store)) == 1


def test_a_history_of_another_environment_is_noticed(store: Store) -> None:
    ref = store.refs.get(REF)
    assert ref is not None
    store.refs.set(environment_ref(ID, "copy"), ref.value, None)
    store.refs.set(environment_ref("other", "train"), ref.value, None)
    assert len(problems(store)) == 2
