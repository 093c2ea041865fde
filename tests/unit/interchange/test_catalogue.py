"""Environments shared by name: whose registry it is, what is there, what comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envgraph.errors import EnvgraphError, NotFoundError, OfflineError
from envgraph_store import Digest
from tests.exchange import PACKAGES, Machine, good
from tests.services import Channel

ADDRESS = "azureml://registries/shared/environments/train"


@pytest.fixture
def giver(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", name="giver")
    machine.environment("train", *PACKAGES)
    good(machine.apply())
    return machine


@pytest.fixture
def taker(tmp_path: Path, giver: Machine) -> Machine:
    return Machine(
        tmp_path / "taker", "file:///nowhere", giver.plugin, id="bbbb0002", name="taker", own="t"
    )


def share(machine: Machine, reference: str = "train", **more: bool) -> None:
    with machine.open() as workspace:
        _, report = workspace.traffic.share(reference, to="shared", **more)
        assert not report.failures
        assert report.count == 1


def code(error: pytest.ExceptionInfo[EnvgraphError]) -> str:
    return error.value.diagnostics[0].code


def test_what_is_shared_is_pulled_into_another_workspace(giver: Machine, taker: Machine) -> None:
    share(giver)
    with taker.open() as workspace:
        pulled = workspace.traffic.pull("train", source="shared")
        assert pulled.registered
        record = workspace.find("train")
        assert record == pulled.record
        assert record.workspace == "bbbb0002"
        assert record.parent == f"{ADDRESS}/versions/1"
        document = workspace.describe(record)
        assert len(document["layers"]) == 8 - 1
        assert {p["name"] for p in document["packages"]} >= {"alpha", "beta", "python"}
        assert workspace.lock_of(record).packages
        with giver.open() as other:
            assert other.find("train").image == record.image
        again = workspace.traffic.pull("train", source="shared")
        assert (again.bytes_moved, again.record) == (0, record)
        assert workspace.store.verify().bad == ()


def test_an_address_is_pulled_on_demand_and_works_offline_after_that(
    giver: Machine, taker: Machine
) -> None:
    share(giver)
    with (
        taker.open(offline=True) as workspace,
        pytest.raises(OfflineError, match="asks no registry"),
    ):
        workspace.find(f"{ADDRESS}/versions/1")
    with taker.open() as workspace:
        found = workspace.find(f"{ADDRESS}/labels/latest")
        assert found.workspace == "aaaa0001"
        assert workspace.list_environments() == []
    giver.shared.calls.clear()
    with taker.open() as workspace:
        assert workspace.find(f"{ADDRESS}/versions/1") == found
    assert giver.shared.calls == []
    with taker.open(offline=True) as workspace:
        for end in ("/versions/1", "/labels/latest", ""):
            assert workspace.find(ADDRESS + end) == found
        assert [r.environment for r in workspace.traffic.listed("shared")] == ["train"]
        with pytest.raises(OfflineError):
            workspace.find(f"{ADDRESS}/versions/2")


def test_only_the_owner_shares_and_for_others_it_is_curated(giver: Machine, taker: Machine) -> None:
    share(giver, claim=True)
    with taker.open() as workspace:
        [listed] = workspace.traffic.listed("shared")
        assert (listed.kind, listed.version) == ("curated", "1")
        pulled = workspace.traffic.pull("train", source="shared")
        assert (pulled.record.kind, pulled.registered) == ("curated", False)
        assert workspace.list_environments() == []
        assert workspace.describe(workspace.find(ADDRESS))["kind"] == "curated"
        with pytest.raises(EnvgraphError, match="belongs to another registry") as error:
            workspace.traffic.share(ADDRESS, to="shared")
        assert code(error) == "curated"
    taker.channel = giver.channel
    taker.settings()
    taker.environment("mine", "alpha")
    good(taker.apply())
    before = {name: dict(here.tags) for name, here in giver.shared.contents.items()}
    with taker.open() as workspace:
        for claim in (False, True):
            with pytest.raises(EnvgraphError, match="giver") as error:
                workspace.traffic.share("mine", to="shared", claim=claim)
            assert code(error) == "not-owner"
    assert {name: dict(here.tags) for name, here in giver.shared.contents.items()} == before
    with giver.open() as workspace:
        assert workspace.traffic.listed("shared")[0].kind == "system-managed"


def test_a_version_never_changes_once_it_is_shared(giver: Machine) -> None:
    share(giver)
    share(giver)
    giver.environment("train", "alpha=1.0", more="version: '1'\n")
    other = Machine(
        giver.root / "other", giver.channel, giver.plugin, id="cccc0003", name="other", own="o"
    )
    other.environment("train", "alpha=1.0")
    good(other.apply())
    with other.open() as workspace, pytest.raises(EnvgraphError, match="another one") as error:
        workspace.traffic.share("train", to="shared")
    assert code(error) == "version-taken"


def test_latest_is_what_was_shared_last_and_versions_stay(giver: Machine, taker: Machine) -> None:
    share(giver)
    giver.environment("train", "alpha=1.0")
    good(giver.apply())
    share(giver)
    with taker.open() as workspace:
        assert workspace.find(ADDRESS).version == "2"
        assert workspace.find(f"{ADDRESS}/versions/1").version == "1"
        assert [r.version for r in workspace.traffic.listed("shared")] == ["2"]
        assert [r.version for r in workspace.traffic.listed("shared", all=True)] == ["2", "1"]
        with pytest.raises(NotFoundError, match="no version '9'") as error:
            workspace.find(f"{ADDRESS}/versions/9")
        assert "1, 2" in error.value.diagnostics[0].hint
        with pytest.raises(NotFoundError, match="shares no environment"):
            workspace.traffic.pull("other", source="shared")


def test_reserved_names_are_shared_only_by_an_owner(giver: Machine) -> None:
    giver.settings(reserved_prefixes=[])
    giver.environment("AzureML-train", "alpha")
    good(giver.apply())
    giver.settings()
    with giver.open() as workspace:
        with pytest.raises(EnvgraphError, match="reserved prefix 'AzureML-'") as error:
            workspace.traffic.share("AzureML-train", to="shared")
        assert code(error) == "reserved-prefix"
    assert "envgraph/catalogue/xtrain" not in giver.shared.contents
    share(giver, "AzureML-train", claim=True)


def test_a_version_that_is_here_and_another_one_is_not_replaced(
    giver: Machine, taker: Machine
) -> None:
    share(giver)
    taker.channel = giver.channel
    taker.settings()
    taker.environment("train", "alpha=1.0")
    good(taker.apply())
    with taker.open() as workspace:
        with pytest.raises(EnvgraphError, match="here already") as error:
            workspace.traffic.pull("train", source="shared")
        assert code(error) == "version-taken"
        assert workspace.find(f"{ADDRESS}/versions/1").workspace == "aaaa0001"


def test_a_lost_image_is_fetched_again(giver: Machine) -> None:
    with giver.open() as workspace:
        record = workspace.find("train")
        layers = [la["digest"] for la in workspace.describe(record)["layers"]]
        for digest in layers[1:3]:
            (giver.store / "blobs" / "sha256" / Digest(digest).hex).unlink()
    with giver.open() as workspace:
        assert workspace.store.verify().bad
        assert workspace.traffic.pull("train").bytes_moved > 0
        assert workspace.store.verify().bad == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("environment", "evil"),
        lambda d: d.__setitem__("image_name", "envgraph/other"),
        lambda d: d.__setitem__("image", "sha256:" + "0" * 64),
        lambda d: d.__setitem__("definition", "sha256:" + "0" * 64),
        lambda d: d.__setitem__("locks", {}),
        lambda d: d.__setitem__("image_keys", {"linux-64": "envkey1:" + "0" * 64}),
        lambda d: d.__setitem__("images", {"linux-64": "sha256:" + "0" * 64}),
        lambda d: d.__setitem__("version", "a/b"),
        lambda d: d.__setitem__("tags", {"a": 1}),
        lambda d: d.__setitem__("version", "7"),
    ],
)
def test_a_record_that_lies_is_refused(giver: Machine, taker: Machine, change: object) -> None:
    share(giver)
    here = giver.shared.contents["envgraph/catalogue/train"]
    manifest = json.loads(here.manifests[here.tags["1"]].data)
    [part] = [p for p in manifest["layers"] if "version" in p["mediaType"]]
    document = json.loads(here.blobs[Digest(part["digest"])])
    change(document)  # type: ignore[operator]
    data = json.dumps(document).encode()
    here.blobs[Digest.of(data)] = data
    part |= {"digest": str(Digest.of(data)), "size": len(data)}
    giver.shared.repository("envgraph/catalogue/train").put_manifest(
        "1", json.dumps(manifest).encode(), manifest["mediaType"]
    )
    with taker.open() as workspace:
        with pytest.raises(EnvgraphError) as error:
            workspace.traffic.pull("train:1", source="shared")
        assert code(error) in ("registry-record", "registry-image", "integrity"), error.value
        assert workspace.list_environments() == []
        assert list(workspace.store.refs.list("environments/")) == []
        assert list(workspace.store.refs.list("catalogue/")) == []
