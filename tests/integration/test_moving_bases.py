"""Base tags that move: frozen, followed or asked about; a plan's digest is what apply uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import RegistryError
from envgraph.errors import Diagnostic
from envgraph.plan.plan import Plan
from envgraph.plan.planfile import load_plan
from envgraph.refresh import quick
from envgraph.testing.layouts import AMD64, LayoutMaker, MadeImage, tar_bytes
from envgraph.testing.registry.memory import MemoryRepository
from envgraph_store import Digest
from tests.bases import HOST, IMAGE, REPOSITORY, TARS, BaseDesk, upload
from tests.services import Channel

PATCHED = [tar_bytes({"etc/os-release": b"ID=patched\n"}), TARS[1]]


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel, monkeypatch: pytest.MonkeyPatch) -> BaseDesk:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return BaseDesk(tmp_path / "desk", demo_channel.url)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutMaker:
    return LayoutMaker(tmp_path / "made")


@pytest.fixture
def old(desk: BaseDesk, layout: LayoutMaker) -> MadeImage:
    made = layout.add_image(TARS)
    upload(layout, made.manifest, desk.registry, "1")
    return made


def move(desk: BaseDesk, layout: LayoutMaker) -> MadeImage:
    """Give the tag another image, as a patch does."""
    made = layout.add_image(PATCHED)
    upload(layout, made.manifest, desk.registry, "1")
    desk.calls()
    return made


def planned(desk: BaseDesk, *, offline: bool = False, follow_base: bool = False) -> Plan:
    with desk.workspace(offline=offline) as workspace:
        return workspace.plan(follow_base=follow_base)


def base_of(desk: BaseDesk, name: str = "train") -> Digest | None:
    with desk.workspace(offline=True) as workspace:
        return workspace.lock_of(workspace.find(name)).base.manifest


def remarks(plan: Plan) -> dict[str, Diagnostic]:
    return {d.code: d for d in plan.diagnostics}


def pinned_packages(desk: BaseDesk) -> list[str]:
    with desk.workspace(offline=True) as workspace:
        return [p.title for p in workspace.lock_of(workspace.find("train")).packages]


def test_frozen_until_the_user_updates(desk: BaseDesk, layout: LayoutMaker, old: MadeImage) -> None:
    desk.use()
    desk.apply_here()
    new = move(desk, layout)
    assert not planned(desk).changes
    assert desk.calls() == []
    with desk.workspace() as workspace:
        [entry] = workspace.lock(update_base=True).entries
    assert entry.status == "written"
    told = entry.to_json()["base"]
    assert (told["from"], told["to"]) == (str(old.manifest.digest), str(new.manifest.digest))
    plan = planned(desk)
    [change] = plan.environments
    assert change.to_json()["base"]["previous"] == str(old.manifest.digest)
    assert (change.action, change.changed, change.packages) == ("update", ("lock",), ())
    assert plan.summary["build"] == 0
    desk.apply_here(offline=True)
    assert base_of(desk) == new.manifest.digest
    with desk.workspace() as workspace:
        [entry] = workspace.lock(update_base=True).entries
        assert entry.status == "unchanged"
        assert [r.version for r in workspace.list_environments(all=True)] == ["1", "2"]


def test_followed_with_one_question_a_tag(
    desk: BaseDesk, layout: LayoutMaker, old: MadeImage
) -> None:
    desk.settings(base_images="follow")
    for name in ("train", "serve"):
        desk.use(name=name)
    desk.use(f"{HOST}/{REPOSITORY}@{old.manifest.digest}", "fixed", "beta")
    first = desk.apply_here()
    desk.calls()
    assert not planned(desk).changes
    assert desk.calls() == [f"resolve {REPOSITORY} 1"]
    packages = pinned_packages(desk)
    new = move(desk, layout)
    plan = planned(desk)
    [step] = [s for s in plan.steps if s.kind == "base-image" and s.action != "keep"]
    shorts = [made.manifest.digest.hex[:12] for made in (old, new)]
    assert (step.action, step.reason) == ("pull", f"moved: {shorts[0]} → {shorts[1]}")
    changes = {c.target.name: c for c in plan.environments}
    assert [changes[n].action for n in ("train", "serve", "fixed")] == ["update", "update", "no-op"]
    assert changes["train"].to_json()["base"] == {
        "reference": IMAGE,
        "digest": str(new.manifest.digest),
        "previous": str(old.manifest.digest),
        "available": None,
    }
    assert changes["train"].image is not None, "every layer is known"
    assert plan.summary["build"] == 0
    second = desk.apply_here()
    assert second["train"] != first["train"]
    assert second["train"] == str(changes["train"].image)
    assert second["fixed"] == first["fixed"]
    assert base_of(desk) == new.manifest.digest
    assert pinned_packages(desk) == packages
    assert not planned(desk).changes
    assert desk.layers_opened(new) == []


def test_one_workspace_asks_anew_for_each_plan(
    desk: BaseDesk, layout: LayoutMaker, old: MadeImage
) -> None:
    """A notebook keeps its workspace open for days."""
    desk.settings(base_images="follow")
    desk.use()
    desk.apply_here()
    with desk.workspace() as workspace:
        assert not workspace.plan().changes
        move(desk, layout)
        assert workspace.plan().changes


def test_a_move_is_followed_together_with_other_changes(
    desk: BaseDesk, layout: LayoutMaker, old: MadeImage
) -> None:
    desk.settings(base_images="follow")
    desk.use()
    desk.apply_here()
    new = move(desk, layout)
    desk.use(IMAGE, "train", "alpha", "tool")
    desk.apply_here()
    assert base_of(desk) == new.manifest.digest


def test_an_index_that_moved_for_others_only_is_no_change(
    desk: BaseDesk, layout: LayoutMaker
) -> None:
    made = layout.add_image(TARS)
    upload(layout, layout.add_index({AMD64: made}), desk.registry, "1")
    desk.settings(base_images="follow")
    desk.use()
    desk.apply_here()
    desk.calls()
    assert not planned(desk).changes
    assert desk.calls() == [f"resolve {REPOSITORY} 1"], "the lock knows the index, too"
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [made.manifest.to_json() | {"platform": AMD64.to_json()}],
        "annotations": {"another": "index"},
    }
    upload(layout, layout.add_document(index, str(index["mediaType"])), desk.registry, "1")
    assert not planned(desk).changes


@pytest.mark.parametrize("mode", ["follow", "ask"])
def test_what_is_pinned_goes_on_where_nobody_can_be_asked(
    desk: BaseDesk, layout: LayoutMaker, old: MadeImage, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.settings(base_images=mode)
    for number in range(3):
        desk.use(name=f"env{number}")
    desk.apply_here()
    move(desk, layout)
    offline = planned(desk, offline=True)
    assert not offline.changes
    assert [d.code for d in offline.diagnostics] == ["base-not-asked"]
    assert "--offline" in offline.diagnostics[0].summary
    assert desk.calls() == []
    del desk.registry.contents[REPOSITORY].tags["1"]
    gone = planned(desk)
    assert not gone.changes
    assert [d.code for d in gone.diagnostics] == ["base-not-asked"]
    assert "no tag '1'" in gone.diagnostics[0].summary
    asked = []

    def refuse(self: MemoryRepository, reference: str) -> None:
        asked.append(reference)
        raise RegistryError("it does not answer", code="registry-down")

    monkeypatch.setattr(MemoryRepository, "resolve", refuse)
    down = planned(desk)
    assert not down.changes
    assert [d.code for d in down.diagnostics] == ["base-not-asked"]
    assert "does not answer" in down.diagnostics[0].summary
    assert len(asked) == 1


def test_asking_is_a_remark_and_a_flag_takes_it(
    desk: BaseDesk, layout: LayoutMaker, old: MadeImage
) -> None:
    desk.settings(base_images="ask")
    desk.use()
    first = desk.apply_here()
    new = move(desk, layout)
    plan = planned(desk)
    assert not plan.changes
    remark = remarks(plan)["base-moved"]
    assert old.manifest.digest.hex[:12] in remark.summary
    assert new.manifest.digest.hex[:12] in remark.summary
    assert "--follow-base" in remark.hint
    assert plan.environments[0].to_json()["base"]["available"] == str(new.manifest.digest)
    assert desk.apply_here() == first
    assert base_of(desk) == old.manifest.digest
    assert planned(desk, follow_base=True).changes
    with desk.workspace() as workspace:
        workspace.apply(workspace.plan(follow_base=True))
    assert base_of(desk) == new.manifest.digest
    assert not remarks(planned(desk))


@pytest.mark.parametrize("saved", [False, True])
def test_a_tag_that_moves_between_plan_and_apply(
    desk: BaseDesk, layout: LayoutMaker, old: MadeImage, saved: bool
) -> None:
    """Apply uses the digest that was planned (RELIABILITY 53)."""
    desk.settings(base_images="follow")
    desk.use(name="first")
    desk.apply_here()
    new = move(desk, layout)
    desk.use(name="second")
    with desk.workspace() as workspace:
        plan = workspace.plan()
        path = desk.root / "saved.plan"
        if saved:
            workspace.save_plan(plan, path)
        else:
            upload(layout, layout.add_image(TARS[:1]).manifest, desk.registry, "1")
            assert not workspace.apply(plan).failures
    if saved:
        desk.registry.contents.clear()
        desk.calls()
        with desk.workspace() as workspace:
            again = workspace.plan(saved=load_plan(path))
            assert [s.reason for s in again.steps if s.kind in ("base-image", "lock")] == [
                s.reason for s in plan.steps if s.kind in ("base-image", "lock")
            ]
            assert not workspace.apply(again).failures
        assert desk.calls() == [], "a saved plan carries manifest and config"
    assert base_of(desk, "first") == base_of(desk, "second") == new.manifest.digest


def remembered(desk: BaseDesk) -> bool:
    """Whether a plan that found nothing to do left a snapshot for the quick path."""
    with desk.workspace() as workspace:
        plan = workspace.plan()
        assert not plan.changes
        workspace.remember_nothing_to_do(plan, human="No changes.\n", answer="{}\n")
    question = quick.question(desk.folder, [])
    return Path(quick.snapshot_path(str(desk.store), question)).exists()


@pytest.mark.parametrize(
    ("mode", "image", "kept"),
    [
        ("freeze", IMAGE, True),
        ("follow", IMAGE, False),
        ("ask", IMAGE, False),
        ("follow", "digest", True),
        ("follow", "scratch", True),
    ],
)
def test_the_quick_path_answers_only_where_nobody_has_to_be_asked(
    desk: BaseDesk, old: MadeImage, mode: str, image: str, kept: bool
) -> None:
    desk.settings(base_images=mode)
    desk.use(f"{HOST}/{REPOSITORY}@{old.manifest.digest}" if image == "digest" else image)
    desk.apply_here()
    assert remembered(desk) is kept


def test_a_hand_edited_lock_is_not_followed(
    desk: BaseDesk, layout: LayoutMaker, old: MadeImage
) -> None:
    desk.settings(base_images="follow")
    desk.use()
    desk.apply_here()
    move(desk, layout)
    path = desk.lockfile("train")
    path.write_text(path.read_text().replace("version: '2.0'", "version: '2.1'"))
    plan = planned(desk)
    assert "lock-edited" in remarks(plan)
    assert plan.environments[0].target.first.lock.base.manifest == old.manifest.digest


def test_json_of_a_base_on_disk_and_of_none(desk: BaseDesk, layout: LayoutMaker) -> None:
    made = layout.add_image(TARS)
    layout.name(made.manifest, "base")
    desk.use(f"oci:{layout.folder}:base")
    desk.use("scratch", "bare")
    document: dict[str, Any] = json.loads(json.dumps(planned(desk).to_json()))
    bases = {item["name"]: item["base"] for item in document["environments"]}
    assert bases["train"]["digest"] == str(made.manifest.digest)
    assert bases["bare"] == {
        "reference": "scratch",
        "digest": None,
        "previous": None,
        "available": None,
    }


def test_a_move_is_followed_where_pins_are_shared(
    desk: BaseDesk, layout: LayoutMaker, old: MadeImage
) -> None:
    """A followed base is a new generation of the pin, not the loser of a race for it."""
    own = {"type": "memory", "name": "own"}
    desk.settings(base_images="follow", registry=own)
    desk.use()
    desk.apply_here()
    new = move(desk, layout)
    desk.apply_here()
    assert base_of(desk) == new.manifest.digest
    assert not planned(desk).changes
    desk.settings(registry=own)
    with desk.workspace() as workspace:
        assert not workspace.plan().changes
