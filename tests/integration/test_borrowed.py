"""Jobs that name environments of registries: planned, pulled by apply, used by their address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.desk import Desk
from tests.exchange import Machine, good
from tests.services import Channel

ADDRESS = "azureml://registries/shared/environments/train"


@pytest.fixture
def giver(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "giver", demo_channel.url, id="aaaa0001", name="giver")
    give(machine, "alpha=1.0")
    return machine


def give(machine: Machine, *packages: str) -> None:
    """Another version, shared."""
    machine.environment("train", *packages)
    good(machine.apply())
    with machine.open() as workspace:
        workspace.traffic.share("train", to="shared")


@pytest.fixture
def taker(tmp_path: Path, giver: Machine) -> Machine:
    return Machine(
        tmp_path / "taker", giver.channel, giver.plugin, id="bbbb0002", name="taker", own="t"
    )


def job(machine: Machine, *references: str) -> Path:
    path = machine.folder / "job.yml"
    jobs: dict[str, Any] = {
        f"step{i}": {"command": "true", "environment": reference}
        for i, reference in enumerate(references)
    }
    path.write_text(json.dumps({"type": "pipeline", "jobs": jobs}))
    return path


def planned(machine: Machine, path: Path, *, offline: bool = False) -> dict[str, Any]:
    with machine.open(offline=offline) as workspace:
        return workspace.plan([path]).to_json(all_steps=True)


def apply(machine: Machine, path: Path, *, offline: bool = False) -> Any:
    with machine.open(offline=offline) as workspace:
        return workspace.apply(workspace.plan([path]))


def actions(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(s["action"], s["name"]) for s in document["steps"]
            if s["kind"] == "registry-environment"]  # fmt: skip


def test_apply_pulls_what_a_job_uses_and_it_stays_the_registrys(
    giver: Machine, taker: Machine
) -> None:
    path = job(taker, f"{ADDRESS}/versions/1", f"{ADDRESS}/versions/1", f"{ADDRESS}/labels/latest")
    found = planned(taker, path)
    assert found["changes"] is True
    assert found["summary"]["pull"] == 1
    assert actions(found) == [("pull", "train:1")]
    assert "'shared'" in found["steps"][0]["reason"]
    result = good(apply(taker, path))
    assert [item["name"] for item in result.borrowed] == ["train", "train"]
    assert result.bytes_moved > 0
    with taker.open() as workspace:
        assert workspace.list_environments() == []
        assert workspace.store.verify().bad == ()
    assert actions(planned(taker, path)) == [("keep", "train:1")]
    assert planned(taker, path, offline=True)["changes"] is False
    assert good(apply(taker, path, offline=True)).borrowed == ()


def test_a_version_that_is_here_is_not_asked_about_and_a_label_is(
    giver: Machine, taker: Machine
) -> None:
    fixed, moving = job(taker, f"{ADDRESS}/versions/1"), taker.folder / "latest.yml"
    good(apply(taker, fixed))
    giver.shared.calls.clear()
    assert planned(taker, fixed)["changes"] is False
    assert giver.shared.calls == []
    moving.write_text(fixed.read_text().replace("versions/1", "labels/latest"))
    give(giver, "alpha=1.1")
    assert actions(planned(taker, moving)) == [("pull", "train:2")]
    good(apply(taker, moving))
    assert actions(planned(taker, moving)) == [("keep", "train:2")]
    assert actions(planned(taker, moving, offline=True)) == [("keep", "train:2")]


def test_offline_says_what_is_missing_and_does_the_rest(giver: Machine, taker: Machine) -> None:
    taker.environment("own", "alpha")
    path = job(taker, f"{ADDRESS}/versions/1", "azureml:own@latest")
    found = planned(taker, path, offline=True)
    [problem] = [d for d in found["diagnostics"] if d["severity"] == "error"]
    assert problem["code"] == "offline"
    assert problem["source"]["file"] == str(path)
    assert f"envgraph pull {ADDRESS}/versions/1" in problem["hint"]
    assert [e["name"] for e in found["environments"]] == ["own"]


@pytest.mark.parametrize(
    ("reference", "code", "words"),
    [
        (f"{ADDRESS}/versions/9", "unknown-version", "it has 1"),
        (f"{ADDRESS}/labels/prod", "unknown-label", "it has"),
        (ADDRESS.replace("train", "other"), "unknown-name", "list --registry shared"),
        (ADDRESS.replace("shared", "shred"), "unknown-registry", "did you mean shared?"),
    ],
)
def test_what_a_registry_does_not_have_is_an_error_at_its_place(
    giver: Machine, taker: Machine, reference: str, code: str, words: str
) -> None:
    found = planned(taker, job(taker, reference, f"{ADDRESS}/versions/1"))
    [problem] = [d for d in found["diagnostics"] if d["severity"] == "error"]
    assert (problem["code"], problem["source"]["line"]) == (code, 1)
    assert words in problem["hint"]
    assert problem["summary"].startswith("jobs.step0.environment: ")
    assert actions(found) == [("pull", "train:1")]


def test_a_pull_that_fails_stops_nothing_else(giver: Machine, taker: Machine) -> None:
    taker.environment("own", "alpha")
    path = job(taker, f"{ADDRESS}/versions/1", "azureml:own@latest")
    with taker.open() as workspace:
        plan = workspace.plan([path])
        giver.shared.contents.clear()
        result = workspace.apply(plan)
    [failure] = result.failures
    assert failure.diagnostics[0].code == "unknown-name"
    assert [item["name"] for item in result.environments] == ["own"]


def test_a_saved_plan_pulls_and_is_stale_after_the_label_moved(
    giver: Machine, taker: Machine
) -> None:
    from envgraph.errors import StalePlanError
    from envgraph.plan.planfile import load_plan

    path, out = job(taker, f"{ADDRESS}/labels/latest"), taker.root / "saved.plan"
    with taker.open() as workspace:
        workspace.save_plan(workspace.plan([path]), out)
    with taker.open() as workspace:
        result = workspace.apply(workspace.plan(saved=load_plan(out)))
        assert [item["version"] for item in result.borrowed] == ["1"]
    with taker.open() as workspace:
        workspace.save_plan(workspace.plan([path]), out)
    give(giver, "alpha=2.0")
    with taker.open() as workspace, pytest.raises(StalePlanError):
        workspace.plan(saved=load_plan(out))


def test_a_plan_says_that_what_it_asks_for_is_archived(
    tmp_path: Path, demo_channel: Channel
) -> None:
    desk = Desk(tmp_path / "desk", demo_channel.url)
    desk.environment("train", "alpha=1.0")
    desk.apply()
    desk.ok("archive", "train:1")
    for _ in range(2):  # the quick path says it, too
        [remark] = desk.plan()["diagnostics"]
        assert (remark["code"], remark["severity"]) == ("archived", "info")
        assert "envgraph restore train:1" in remark["hint"]
    desk.environment("train", "alpha=1.1")
    assert not [d for d in desk.plan()["diagnostics"] if d["code"] == "archived"]
    desk.ok("archive", "train")
    [remark] = [d for d in desk.plan()["diagnostics"] if d["code"] == "archived"]
    assert "version 2 will be registered, and hidden" in remark["detail"]
    assert "envgraph restore train`" in remark["hint"]
