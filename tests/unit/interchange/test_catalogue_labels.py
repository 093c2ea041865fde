"""Labels, and what is archived, in a registry's catalogue: they travel with `share`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envgraph.api.registry import Descriptor
from envgraph.errors import EnvgraphError, IntegrityError, NotFoundError
from envgraph.interchange.catalogue import Catalogue
from envgraph.model.history import Change, ChangeRecord
from envgraph.model.oci import OCI_IMAGE_MANIFEST
from envgraph.registry.artifacts import read_contents
from envgraph.registry.moves import (
    MOVES_TYPE,
    appended,
    moves_artifact,
    read_moves,
    state_of_moves,
)
from envgraph_store import Digest
from tests.exchange import Machine, good
from tests.services import Channel

ADDRESS = "azureml://registries/shared/environments/train"
REPOSITORY = "envgraph/catalogue/train"


@pytest.fixture
def giver(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", name="giver")
    for version in ("1.0", "1.1"):
        machine.environment("train", f"alpha={version}")
        good(machine.apply())
    return machine


@pytest.fixture
def taker(tmp_path: Path, giver: Machine) -> Machine:
    return Machine(
        tmp_path / "taker", giver.channel, giver.plugin, id="bbbb0002", name="taker", own="t"
    )


def share(machine: Machine, reference: str) -> list[tuple[Any, ...]]:
    with machine.open() as workspace:
        _, report = workspace.traffic.share(reference, to="shared")
        assert report.count == 1
        return [(c.event, c.label, c.before, c.version) for c in report.moves]


def do(machine: Machine, verb: str, *words: str, **more: bool) -> None:
    with machine.open() as workspace:
        getattr(workspace.versions, verb)(*words, **more)


def meant(machine: Machine, label: str, *, offline: bool = False) -> str:
    with machine.open(offline=offline) as workspace:
        return workspace.find(f"{ADDRESS}/labels/{label}").version


def code(error: pytest.ExceptionInfo[EnvgraphError]) -> str:
    return error.value.diagnostics[0].code


def test_a_label_travels_with_the_version_that_it_means(giver: Machine, taker: Machine) -> None:
    do(giver, "label", "train:1", "prod")
    do(giver, "label", "train:2", "next")
    assert share(giver, "train:1") == [("label", "prod", None, "1")]
    assert share(giver, "train:2") == [("label", "next", None, "2")]
    assert share(giver, "train:2") == []
    assert (meant(taker, "prod"), meant(taker, "next"), meant(taker, "latest")) == ("1", "2", "2")
    assert meant(taker, "prod", offline=True) == "1"
    with taker.open() as workspace, pytest.raises(NotFoundError) as error:
        workspace.find(f"{ADDRESS}/labels/none")
    assert code(error) == "unknown-label"
    assert "latest, next, prod" in error.value.diagnostics[0].hint
    with taker.open() as workspace:
        pulled = workspace.traffic.pull("train@prod", source="shared")
        assert pulled.record.version == "1"


def test_moves_are_followed_by_the_next_share_and_all_are_kept(
    giver: Machine, taker: Machine
) -> None:
    do(giver, "label", "train:1", "prod")
    share(giver, "train:1")
    do(giver, "label", "train:2", "prod")
    assert share(giver, "train:1") == []  # version 2 is not shared: prod stays where it was
    assert meant(taker, "prod") == "1"
    assert share(giver, "train:2") == [("label", "prod", "1", "2")]
    assert meant(taker, "prod") == "2"
    do(giver, "label", "train:2", "prod", remove=True)
    assert share(giver, "train:1") == [("label", "prod", "2", None)]
    with taker.open() as workspace:
        with pytest.raises(NotFoundError, match="no label 'prod'"):
            workspace.find(f"{ADDRESS}/labels/prod")
        state, entries = workspace.traffic.history(ADDRESS)
    assert dict(state.labels) == {}
    assert [(e.event, e.version) for e in entries] == [
        ("label", None), ("label", "2"), ("label", "1"), ("version", "2"), ("version", "1"),
    ]  # fmt: skip
    assert entries[0].what() == "label prod: taken from 2"


def test_what_is_archived_is_hidden_there_and_latest_moves_by_itself(
    giver: Machine, taker: Machine
) -> None:
    share(giver, "train:1")
    share(giver, "train:2")
    do(giver, "archive", "train:2")
    assert share(giver, "train:1") == [("archive", None, None, "2")]
    assert meant(taker, "latest") == "1"
    with taker.open() as workspace:
        assert [r.version for r in workspace.traffic.listed("shared", all=True)] == ["1"]
        found = workspace.traffic.listings("shared", all=True, archived=True)
        assert [(i.version, i.archived, i.labels) for i in found] == [
            ("1", False, ("latest",)), ("2", True, ()),
        ]  # fmt: skip
        assert workspace.find(f"{ADDRESS}/versions/2").version == "2"
        document = workspace.describe(workspace.find(f"{ADDRESS}/versions/2"), ADDRESS)
        assert (document["archived"], document["registry"]) == (True, "shared")
    do(giver, "restore", "train:2")
    assert share(giver, "train:2") == [("restore", None, None, "2")]
    assert meant(taker, "latest") == "2"


def test_an_archived_version_is_shared_without_becoming_the_latest(
    giver: Machine, taker: Machine
) -> None:
    share(giver, "train:1")
    do(giver, "archive", "train:2")
    assert share(giver, "train:2") == [("archive", None, None, "2")]
    assert meant(taker, "latest") == "1"


def test_another_workspace_moves_no_label_of_a_version_that_is_not_its_own(
    giver: Machine, taker: Machine
) -> None:
    do(giver, "label", "train:1", "prod")
    share(giver, "train:1")
    for packages in ("alpha=2.0", "beta"):
        taker.environment("train", packages)
        good(taker.apply())
    do(taker, "label", "train:1", "mine")  # another version 1 than what is shared
    do(taker, "label", "train:2", "other")
    assert share(taker, "train:2") == [("label", "other", None, "2")]
    assert meant(taker, "prod") == "1"
    with taker.open() as workspace, pytest.raises(NotFoundError):
        workspace.find(f"{ADDRESS}/labels/mine")


def test_moves_of_two_that_share_at_once_are_both_kept(giver: Machine, taker: Machine) -> None:
    """Somebody writes over ours, having read what was there before: it is appended again."""
    share(giver, "train:1")
    with giver.open() as workspace:
        catalogue = Catalogue(workspace.remotes.named("shared"))
        theirs = moves(Change("label", "1", "theirs"))
        real = catalogue._put
        written: list[int] = []

        def put(repository: Any, artifact: Any, tags: list[str], mount: str = "") -> None:
            real(repository, artifact, tags, mount)
            if not written:
                written.append(1)
                real(repository, moves_artifact(theirs), tags)

        catalogue._put = put  # type: ignore[method-assign]
        catalogue.record("train", [Change("label", "1", "ours")], workspace="w",
                         time="2026-11-26T00:00:00Z", tool="t")  # fmt: skip
    assert (meant(taker, "ours"), meant(taker, "theirs")) == ("1", "1")
    with taker.open() as workspace:
        _, entries = workspace.traffic.history(ADDRESS)
    assert [e.event for e in entries].count("label") == 2


def test_labels_are_listed_and_shown(giver: Machine, taker: Machine) -> None:
    do(giver, "label", "train:2", "prod")
    share(giver, "train:2")
    for offline in (False, True):
        with taker.open(offline=offline) as workspace:
            [listed] = workspace.traffic.listings("shared")
            assert listed.labels == ("latest", "prod")
    with taker.open() as workspace:
        record = workspace.find(f"{ADDRESS}/labels/prod")
        document = workspace.describe(record, f"{ADDRESS}/labels/prod")
        assert document["labels"] == ["latest", "prod"]
    giver.shared.calls.clear()
    with taker.open() as workspace:
        workspace.traffic.listings("shared")
    assert not [call for call in giver.shared.calls if call[0].endswith("open_blob")]


def test_a_catalogue_without_moves_is_what_its_tags_say(giver: Machine, taker: Machine) -> None:
    """As an earlier envgraph, or another tool, left it."""
    share(giver, "train:1")
    repository = giver.shared.repository(REPOSITORY)
    manifest = repository.get_manifest("1")
    repository.put_manifest("label-old", manifest.data, OCI_IMAGE_MANIFEST)
    assert meant(taker, "old") == "1"


# -- what a registry may answer ------------------------------------------


def moves(*changes: Change, name: str = "train") -> tuple[ChangeRecord, ...]:
    return appended((), changes, name=name, workspace="w", time="2026-11-25T00:00:00Z", tool="t")


MOVES = moves(
    Change("label", "1", "prod"), Change("label", "2", "prod", "1"), Change("archive", "1"),
    Change("label", None, "prod", "2"), Change("restore", "1"), Change("archive", "2"),
)  # fmt: skip


def read(records: tuple[ChangeRecord, ...], name: str = "train") -> tuple[ChangeRecord, ...]:
    artifact = moves_artifact(records)
    contents = read_contents(artifact.manifest, MOVES_TYPE, "here")
    return read_moves(contents, artifact.blobs, name, "here")


def test_moves_come_back_and_fold() -> None:
    assert read(MOVES) == MOVES
    state = state_of_moves(MOVES)
    assert (dict(state.labels), dict(state.archived), state.known) == ({}, {"2": "w"}, {"prod"})
    assert state_of_moves(MOVES[:2]).meaning() == {"prod": "2"}


@pytest.mark.parametrize(
    "records",
    [
        MOVES[1:], MOVES[:2] + MOVES[3:], (MOVES[0], MOVES[2], MOVES[1]),
        (replace(MOVES[0], time="2027"), *MOVES[1:]),
        moves(Change("label", "1", "x"), name="other"),
        moves(Change("delete", "1")), moves(Change("label", "1", "a/b")), moves(Change("archive")),
        moves(Change("label", "a\nb", "x")),
    ],
)  # fmt: skip
def test_moves_that_were_changed_are_refused(records: tuple[ChangeRecord, ...]) -> None:
    with pytest.raises(IntegrityError) as error:
        read(records)
    assert code(error) == "registry-record"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 100_000, b'{"event":"version"}'])
def test_bytes_that_are_no_moves_are_refused_and_stop_no_version(
    giver: Machine, taker: Machine, data: bytes
) -> None:
    do(giver, "label", "train:1", "prod")
    share(giver, "train:1")
    repository = giver.shared.repository(REPOSITORY)
    from envgraph.registry.artifacts import EMPTY, EMPTY_BYTES, make_artifact
    from envgraph.registry.moves import MOVES as MEDIA_TYPE

    artifact = make_artifact(MOVES_TYPE, (EMPTY, EMPTY_BYTES), [(MEDIA_TYPE, data)])
    import io

    for digest, blob in artifact.blobs.items():
        described = Descriptor("", digest, len(blob))
        repository.push_blob(described, lambda blob=blob: io.BytesIO(blob))  # type: ignore[misc]
    repository.put_manifest("record-moves", artifact.manifest, OCI_IMAGE_MANIFEST)
    assert repository.resolve("record-moves") is not None
    assert Digest.of(artifact.manifest) == artifact.digest
    with taker.open() as workspace, pytest.raises(IntegrityError) as error:
        workspace.find(f"{ADDRESS}/labels/prod")
    assert code(error) == "registry-record"
