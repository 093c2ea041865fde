"""Records in a chain: their bytes for ever, what holds now, and what is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from envgraph.errors import IntegrityError, NotFoundError
from envgraph.history.find import find_version
from envgraph.history.read import (
    environment_ref,
    history,
    latest,
    latest_listing,
    newest,
    state_of,
    versions,
    whole_record,
)
from envgraph.model.history import Change, ChangeRecord, record_from_bytes
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store
from tests.unit.history.making import ID, TIME, happen, version

GOLDEN = Path(__file__).parents[2] / "golden" / "history"
Golden = Callable[[Path, bytes], None]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


CHANGES = {
    "label": Change("label", "2", "prod", "1"),
    "archive": Change("archive"),
    "restore": Change("restore", "1"),
    "metadata": Change("metadata", "1", description="ü", tags={"b": "1", "a": "2"}),
    "delete": Change("delete", "1"),
}


def test_the_bytes_of_a_version_stay_what_they_are(golden: Golden) -> None:
    made = replace(version("1"), sequence=1, description="d", tags={"t": "1"})
    golden(GOLDEN / "version-1.json", made.to_bytes())
    golden(GOLDEN / "version-2.json", made.chain_bytes())
    golden(GOLDEN / "holdings-1.json", made.holdings_bytes())


def test_a_version_of_an_early_store_is_read_for_ever() -> None:
    read = record_from_bytes((GOLDEN / "version-1.json").read_bytes())
    assert read == replace(version("1"), sequence=1, description="d", tags={"t": "1"})


def test_a_version_of_a_chain_names_no_image_so_that_it_keeps_none() -> None:
    made = version("1")
    data = made.chain_bytes()
    read = record_from_bytes(data)
    assert isinstance(read, VersionRecord)
    assert read == replace(made, members=(), holdings=Digest.of(made.holdings_bytes()))
    assert read.chain_bytes() == data
    for digest in (made.image, *made.images.values(), *made.members):
        assert str(digest).encode() not in data
    for digest in (made.definition, made.runtime, made.locks["linux-64"].record):
        assert str(digest).encode() in data
    assert b"envkey1:" not in data


@pytest.mark.parametrize("event", CHANGES)
def test_the_bytes_of_a_change_stay_what_they_are(event: str, golden: Golden) -> None:
    made = ChangeRecord(ID, "train", 2, Digest.of(b"before"), TIME, CHANGES[event], "test")
    golden(GOLDEN / f"{event}-2.json", made.chain_bytes())
    assert record_from_bytes(made.chain_bytes()) == made


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b'{"schema": "envgraph.history/3", "event": "label"}',
     b'{"schema": "envgraph.history/2", "event": "sold"}',
     b'{"schema": "envgraph.history/2", "event": "delete"}'],
)  # fmt: skip
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        record_from_bytes(data)


def test_latest_is_the_newest_that_is_not_hidden(store: Store) -> None:
    happen(store, version("1"), version("2"), version("3"), version("4", anonymous=True))
    happen(store, Change("archive", "3"))
    top, compared = latest(store, ID, "train"), newest(store, ID, "train")
    assert top is not None
    assert compared is not None
    assert (top.version, compared.version) == ("2", "3")
    happen(store, Change("delete", "3"), Change("delete", "2"))
    top = latest(store, ID, "train")
    assert top is not None
    assert top.version == "1"
    assert [r.version for r in versions(store, ID, "train")] == ["4", "1"]
    assert [r.version for r in versions(store, ID, "train", deleted=True)] == ["4", "3", "2", "1"]


@pytest.mark.parametrize(
    "events",
    [
        [version("1"), version("2")],
        [version("1"), version("2"), Change("archive", "2")],
        [version("1"), Change("archive", "1")],
        [version("1"), Change("label", "1", "prod"), Change("archive", "1")],
        [version("1"), Change("archive")],
        [version("1"), Change("delete", "1")],
        [version("1"), version("2", anonymous=True)],
        [version("1", anonymous=True)],
    ],
)
def test_what_a_ref_lists_as_latest_is_the_latest(
    store: Store, events: list[VersionRecord | Change]
) -> None:
    happen(store, *events)
    top, listed = latest(store, ID, "train"), latest_listing(store, ID, "train")
    assert (listed and (listed.version, listed.final)) == (top and (top.version, top.image.hex))
    assert latest_listing(store, ID, "other") is None


def test_the_listing_of_the_latest_needs_the_ref_and_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    happen(store, version("1"), version("2"))
    for path in (tmp_path / "store" / "blobs" / "sha256").iterdir():
        path.unlink()
    listed = latest_listing(store, ID, "train")
    assert listed is not None
    assert listed.version == "2"


def test_description_and_tags_are_what_they_are_now(store: Store) -> None:
    happen(store, version("1"), Change("metadata", "1", description="new", tags={"a": "b"}))
    found = find_version(store, ID, "train:1")
    assert (found.description, found.tags) == ("new", {"a": "b"})
    assert [r.description for r in versions(store, ID, "train")] == ["new"]
    happen(store, replace(version("1"), description="again"))
    assert find_version(store, ID, "train").description == "again"


def test_a_new_image_of_an_archived_version_leaves_it_archived(store: Store) -> None:
    happen(store, version("1"), version("2"), Change("archive", "2"), version("2"))
    top = latest(store, ID, "train")
    assert top is not None
    assert top.version == "1"


def test_members_come_back_from_the_holdings(store: Store) -> None:
    happen(store, version("1"))
    found = find_version(store, ID, "train")
    assert found.members == ()
    assert whole_record(store, found).members == version("1").members


def test_every_record_can_be_walked(store: Store) -> None:
    happen(store, version("1"), *CHANGES.values())
    found = [record for _, record in history(store, ID, "train")]
    assert [record.sequence for record in found] == [6, 5, 4, 3, 2, 1]


def test_a_chain_that_began_in_an_early_store_goes_on(store: Store) -> None:
    old = replace(version("1"), sequence=1)
    with store.transaction() as batch:
        head = batch.add_bytes(old.to_bytes())
        batch.set_ref(environment_ref(ID, "train"), {"head": str(head), "sequence": 1}, None)
        batch.commit()
    assert latest(store, ID, "train") == old
    listed = latest_listing(store, ID, "train")
    assert listed is not None
    assert (listed.version, listed.final) == ("1", old.image.hex)
    happen(store, version("2"), Change("archive", "1"))
    state = state_of(store, ID, "train")
    assert state is not None
    assert [(v.version, v.archived) for v in state.versions.values()] == [("1", True), ("2", False)]


def test_the_kept_state_names_what_is_kept_and_no_more(store: Store) -> None:
    happen(store, version("1"), version("2"), version("3"))
    happen(store, Change("archive", "1"), Change("delete", "2"))
    assert held(store) == {Digest.of(version("3").holdings_bytes())}
    happen(store, Change("restore", "1"))
    assert held(store) == {Digest.of(version(n).holdings_bytes()) for n in ("1", "3")}
    happen(store, Change("archive"))
    assert held(store) == set()


def held(store: Store) -> set[Digest]:
    ref = store.refs.get(environment_ref(ID, "train"))
    assert ref is not None
    text = store.blobs.read(Digest(ref.value["state"])).decode()
    named = {Digest(word) for word in text.split('"') if word.startswith("sha256:")}
    assert named == {
        Digest(v["holds"]) for v in json.loads(text)["versions"] if v["holds"] is not None
    }
    return named


# -- references ----------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("train", "2"), ("train@latest", "2"), ("train@prod", "1"), ("azureml:train@prod", "1"),
        ("train:1", "1"), ("azureml:train:1", "1"), (f"sha256:{version('1').image.hex}", "1"),
        (f"sha256:{version('1').definition.hex[:9]}", "1"),
        ("/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"
         "/workspaces/Demo/environments/train/labels/prod", "1"),
    ],
)  # fmt: skip
def test_every_form_finds_its_version(store: Store, reference: str, found: str) -> None:
    happen(store, version("1"), version("2"), Change("label", "1", "prod"))
    assert find_version(store, ID, reference, "demo").version == found


ARM = "azureml:/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices"


@pytest.mark.parametrize(
    ("reference", "code", "hint"),
    [
        ("train@prd", "unknown-label", "did you mean prod?"),
        ("train:3", "version-deleted", "history"),
        ("train@gone", "version-deleted", "history"),
        ("train:9", "unknown-version", "it has 2, 1"),
        ("trian", "unknown-name", "did you mean train"),
        (f"{ARM}/workspaces/other/environments/train/versions/1", "other-workspace", "other"),
        ("azureml://registries/r/environments/train", "other-registry", "pull"),
        ("azureml://registries/r/models/train", "bad-reference", ""),
        ("sha256:00000000", "unknown-digest", ""),
        ("n" * 300, "bad-reference", ""), ("../x", "bad-reference", ""),
        ("a\nb", "bad-reference", ""), ("a\u202eb", "bad-reference", ""),
        ("a/b:1", "bad-reference", ""), ("", "bad-reference", ""),
        ("train@", "bad-reference", ""), ("train:", "bad-reference", ""),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_by_its_own_code(
    store: Store, reference: str, code: str, hint: str
) -> None:
    happen(store, version("1"), version("2"), version("3"), Change("label", "1", "prod"))
    happen(store, Change("label", "3", "gone"), Change("delete", "3"))
    with pytest.raises(NotFoundError) as caught:
        find_version(store, ID, reference, "demo")
    [problem] = caught.value.diagnostics
    assert problem.code == code
    assert hint in problem.hint


def test_an_anonymous_version_is_found_by_its_hash(store: Store) -> None:
    number = version("1").definition.hex
    happen(store, replace(version(number), anonymous=True))
    assert find_version(store, ID, f"train:{number}").anonymous
    assert find_version(store, ID, f"train:{number[:12]}").version == number
    assert find_version(store, ID, "train").version == number, "its name is made of its hash"
    with pytest.raises(NotFoundError):
        find_version(store, ID, "train@prod")


def test_an_anonymous_version_is_never_what_a_name_means_beside_others(store: Store) -> None:
    happen(store, version("1"), replace(version("2"), anonymous=True))
    assert find_version(store, ID, "train").version == "1"


def test_a_beginning_that_fits_two_digests_is_refused(store: Store) -> None:
    one = version("1")
    other = replace(version("2"), definition=Digest("sha256:" + one.definition.hex[:20] + "0" * 44))
    happen(store, one, other)
    with pytest.raises(NotFoundError) as caught:
        find_version(store, ID, f"sha256:{one.definition.hex[:12]}")
    assert caught.value.diagnostics[0].code == "ambiguous-digest"
