"""``drift`` and ``rebase`` on bases in a registry: how often it is asked, and for what."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.errors import OfflineError
from envgraph.model.oci import Platform
from envgraph.testing.layouts import AMD64, LayoutMaker, MadeImage, tar_bytes
from tests.bases import HOST, IMAGE, SETTINGS, TARS, BaseDesk, upload
from tests.exchange import Machine, good
from tests.services import Channel

ARM64 = Platform("linux", "arm64", "v8")


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> BaseDesk:
    return BaseDesk(tmp_path / "desk", demo_channel.url)


def push(desk: BaseDesk, folder: Path, patch: str = "", tag: str = "1") -> MadeImage:
    """An index over two platforms behind the tag; the image for amd64."""
    layout = LayoutMaker(folder)
    tars = [*TARS, *([tar_bytes({"etc/patch": patch})] if patch else [])]
    images = {p: layout.add_image(tars, platform=p, config=SETTINGS) for p in (AMD64, ARM64)}
    upload(layout, layout.add_index(images), desk.registry, tag)
    return images[AMD64]


def count(calls: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for call in calls:
        kind = call.split()[0]
        found[kind] = found.get(kind, 0) + 1
    return found


def test_each_tag_is_asked_once_and_without_a_body(desk: BaseDesk, tmp_path: Path) -> None:
    push(desk, tmp_path / "one")
    for name in ("a", "b", "c"):
        desk.use(name=name)
    desk.apply_here()
    desk.calls()
    with desk.workspace() as workspace:
        report = workspace.drift()
    assert (report.findings, report.skipped) == ((), ())
    assert count(desk.calls()) == {"resolve": 1}
    push(desk, tmp_path / "two", "patch")
    desk.calls()
    with desk.workspace() as workspace:
        report = workspace.drift()
    assert {(f.environment, f.code) for f in report.findings} == {
        (name, "base-moved") for name in ("a", "b", "c")
    }
    assert count(desk.calls()) == {"resolve": 1}


def test_offline_asks_nothing_and_says_so(desk: BaseDesk, tmp_path: Path) -> None:
    push(desk, tmp_path / "one")
    desk.use()
    desk.apply_here()
    desk.calls()
    with desk.workspace(offline=True) as workspace:
        report = workspace.drift()
        with pytest.raises(OfflineError):
            workspace.remotes.for_host(HOST)
    assert [item.what for item in report.skipped] == [f"base {IMAGE}"]
    assert desk.calls() == []


def test_a_tag_that_is_gone_is_a_finding(desk: BaseDesk, tmp_path: Path) -> None:
    push(desk, tmp_path / "one")
    desk.use()
    desk.apply_here()
    desk.registry.repository("team/base").delete("1")
    with desk.workspace() as workspace:
        report = workspace.drift()
    assert [finding.code for finding in report.findings] == ["base-gone"]
    assert report.skipped == ()


def test_many_environments_read_the_new_base_once(desk: BaseDesk, tmp_path: Path) -> None:
    """An index, a manifest and a config, whatever the number; no layer at all."""
    push(desk, tmp_path / "one")
    for number in range(20):
        desk.use(IMAGE, f"env{number}", "alpha")
    desk.apply_here()
    blobs = desk.blobs()
    new = push(desk, tmp_path / "two", "patch")
    desk.calls()
    with desk.workspace() as workspace:
        plan, rebase = workspace.plan_rebase(on=IMAGE)
        assert len(rebase.locks) == 20
        assert plan.summary["build"] == 0
        result = workspace.apply(plan)
        assert len(result.environments) == 20
        assert result.built == 0
    calls = desk.calls()
    assert count(calls) == {"get_manifest": 2, "open_blob": 1}
    assert not set(map(str, new.layers)) & {word for call in calls for word in call.split()}
    assert not {layer.hex for layer in new.layers} & (desk.blobs() - blobs)
    with desk.workspace() as workspace:
        assert not workspace.plan().changes
        assert workspace.plan_rebase(on=IMAGE)[1].unchanged == tuple(
            sorted(f"env{number}" for number in range(20))
        )


def test_another_image_is_written_in_any_spelling(desk: BaseDesk, tmp_path: Path) -> None:
    push(desk, tmp_path / "one")
    path = desk.use()
    desk.apply_here()
    new = push(desk, tmp_path / "two", "patch", tag="2")
    with desk.workspace() as workspace:
        plan, rebase = workspace.plan_rebase(["train"], base=f"{HOST}/team/base:2")
        workspace.apply(plan)
        rebase.edits["train"].write()
        assert workspace.find("train").changed == ("definition", "lock")
        assert workspace.lock_of(workspace.find("train")).base.manifest == new.manifest.digest
    assert f'"image": "{HOST}/team/base:2"' in path.read_text()
    with desk.workspace(offline=True) as workspace:
        assert not workspace.plan().changes


def test_a_base_named_by_digest_never_moves(desk: BaseDesk, tmp_path: Path) -> None:
    made = push(desk, tmp_path / "one")
    desk.use(f"{HOST}/team/base@{made.manifest.digest}")
    desk.apply_here()
    desk.calls()
    with desk.workspace() as workspace:
        assert workspace.drift().findings == ()
        assert workspace.plan_rebase()[1].locks == {}
        _, rebase = workspace.plan_rebase(["train"])
        assert [d.code for d in rebase.loaded.diagnostics] == ["rebase-digest"]
    assert desk.calls() == []


def test_impact_looks_at_what_the_registry_shares(tmp_path: Path, demo_channel: Channel) -> None:
    giver = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", name="giver")
    giver.environment("train", "alpha=1.1")
    good(giver.apply())
    with giver.open() as workspace:
        workspace.traffic.share("train", to="registry")
    asker = Machine(
        tmp_path / "asker", demo_channel.url, plugin=giver.plugin, id="bbbb0001", name="asker"
    )
    asker.environment("mine", "gamma")
    good(asker.apply())
    with asker.open() as workspace:
        found, remarks = workspace.impact("scratch")
        assert [(i.environment, i.registry) for i in found] == [("mine", ""), ("train", "memory")]
        assert workspace.impact("scratch", all=True)[0] == found
        assert remarks == ()
    with asker.open(offline=True) as workspace:
        found, remarks = workspace.impact("scratch")
    assert [item.environment for item in found] == ["mine"]
    assert [remark.code for remark in remarks] == ["catalogue-not-asked"]
