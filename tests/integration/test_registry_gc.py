"""``store gc --registry``: what this workspace pushed and nothing here needs any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from envgraph.errors import NotFoundError
from envgraph.registry.names import STEPS_REPOSITORY
from tests.desk import Desk
from tests.exchange import Machine, good
from tests.registries import RunningRegistry, docker_registry
from tests.services import Channel
from tests.stepped import steps, with_builder


@pytest.fixture
def first(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "first", demo_channel.url)
    machine.environment("train", "alpha=1.1")
    good(machine.apply())
    return machine


def test_what_another_machine_pushed_is_listed_with_that_reason(
    first: Machine, tmp_path: Path
) -> None:
    second = first.elsewhere(tmp_path / "second")
    second.environment("extra", "gamma")
    good(second.apply())
    with first.open() as workspace:
        before = {name: dict(here.tags) for name, here in first.registry.contents.items()}
        found = workspace.registry_garbage(grace_days=0)
        assert [(item.environment, item.version) for item in found.unneeded] == [("extra", "1")]
        assert found.unneeded[0].reason.startswith("no version in this store has it")
        assert (found.needed, found.foreign, found.unknown) == (1, 0, 0)
        assert found.unneeded[0].size
        after = {name: dict(here.tags) for name, here in first.registry.contents.items()}
        assert before == after
        assert workspace.registry_garbage(grace_days=1).young == 1
        workspace.delete_from_registry(found.unneeded[0])
        assert workspace.registry_garbage(grace_days=0).unneeded == ()
    extra = first.registry.contents[found.unneeded[0].repository]
    assert not {tag for tag in extra.tags if not tag.startswith("pin-")}
    assert not first.plan(fresh=True).changes
    second.now += timedelta(days=2)  # what was pushed is believed to be there for a day
    assert good(second.apply()).pushed == 1
    assert second.plan(fresh=True).summary["push"] == 0


def test_images_of_other_workspaces_are_never_listed(first: Machine, tmp_path: Path) -> None:
    other = Machine(
        tmp_path / "other", first.channel, plugin=first.plugin, id="0743e000", name="other"
    )
    other.environment("theirs", "gamma")
    good(other.apply())
    with first.open() as workspace:
        found = workspace.registry_garbage(grace_days=0)
    assert (found.unneeded, found.needed, found.foreign) == ((), 1, 1)


def test_an_older_version_is_needed_and_a_lost_history_judges_nothing(
    first: Machine, tmp_path: Path
) -> None:
    first.environment("train", "alpha=1.0")
    first.now += timedelta(days=1)
    good(first.apply())
    with first.open() as workspace:
        found = workspace.registry_garbage(grace_days=0)
        assert (found.unneeded, found.needed) == ((), 2)
    empty = first.elsewhere(tmp_path / "empty")
    with empty.open() as workspace, pytest.raises(NotFoundError) as caught:
        workspace.registry_garbage(grace_days=0)
    assert caught.value.diagnostics[0].code == "nothing-known"


def test_a_record_that_lies_is_left_alone(first: Machine, tmp_path: Path) -> None:
    second = first.elsewhere(tmp_path / "second")
    second.environment("extra", "gamma")
    good(second.apply())
    with first.open() as workspace:
        [item] = workspace.registry_garbage(grace_days=0).unneeded
        here = first.registry.contents[item.repository]
        [tag] = [tag for tag in here.tags if tag.startswith("record-")]
        here.tags[tag] = here.tags[next(t for t in here.tags if t.startswith("key-"))]
        found = workspace.registry_garbage(grace_days=0)
    assert (found.unneeded, found.unknown) == ((), 1)


def test_a_deletion_that_broke_off_is_finished_the_next_time(
    first: Machine, tmp_path: Path
) -> None:
    second = first.elsewhere(tmp_path / "second")
    second.environment("extra", "gamma")
    good(second.apply())
    with first.open() as workspace:
        [item] = workspace.registry_garbage(grace_days=0).unneeded
        first.registry.repository(item.repository).delete(str(item.image))
        [left] = workspace.registry_garbage(grace_days=0).unneeded
        assert (left.size, left.reason) == (None, "only its record is left")
        workspace.delete_from_registry(left)
        assert workspace.registry_garbage(grace_days=0).unneeded == ()


def test_results_of_steps_go_with_the_last_image_that_begins_with_them(
    first: Machine, tmp_path: Path
) -> None:
    other = Machine(
        tmp_path / "other", first.channel, plugin=first.plugin, id="0743e000", name="other"
    )
    second = first.elsewhere(tmp_path / "second")
    for machine in (second, other):
        machine.settings(builder={"type": "copying"})
        with_builder(machine)
    steps(second, "extra", "ENV A=b", "COPY one.txt /one")
    good(second.apply())
    steps(other, "theirs", "ENV A=b")
    good(other.apply())
    steps(second, "lost", "ENV C=d")
    good(second.apply())
    shared = first.registry.contents[STEPS_REPOSITORY]
    assert len(set(shared.tags.values())) == 2  # extra's (theirs begins alike) and lost's
    with first.open() as workspace:
        found = workspace.registry_garbage(grace_days=0)
        assert {item.environment for item in found.unneeded} == {"extra", "lost"}
        [artifact] = found.steps
        assert len(artifact.tags) == 1
        assert workspace.registry_garbage(grace_days=1).steps == ()
        for item in (*found.unneeded, *found.steps):
            workspace.delete_from_registry(item)
        after = workspace.registry_garbage(grace_days=0)
        assert (after.unneeded, after.steps) == ((), ())
    assert set(shared.tags.values()).isdisjoint({artifact.artifact})
    assert len(shared.tags) == 2


def test_where_a_record_cannot_be_read_no_step_is_judged(first: Machine, tmp_path: Path) -> None:
    second = first.elsewhere(tmp_path / "second")
    second.settings(builder={"type": "copying"})
    with_builder(second)
    steps(second, "extra", "ENV A=b")
    good(second.apply())
    name = second.plan().environments[0].target.image_name
    here = first.registry.contents[name]
    with first.open() as workspace:
        assert len(workspace.registry_garbage(grace_days=0).steps) == 1
        here.tags["record-" + "0" * 64] = next(iter(here.tags.values()))
        found = workspace.registry_garbage(grace_days=0)
    assert (found.unknown, found.steps) == (1, ())


# -- a real registry ---------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["deletes", "deletes nothing"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningRegistry]:
    with docker_registry(tmp_path / "server", deletes=request.param) as running:
        yield running


def desks(tmp_path: Path, channel: str, host: str) -> tuple[Desk, Desk]:
    """Two machines of one workspace; the second one pushed an environment of its own."""
    found = []
    for name, package in (("train", "alpha"), ("extra", "gamma")):
        desk = Desk(tmp_path / name, channel)
        desk.settings(registry={"type": "oci", "url": host, "insecure": True})
        desk.environment(name, package)
        desk.apply()
        found.append(desk)
    return found[0], found[1]


def test_dockers_registry(
    tmp_path: Path, demo_channel: Channel, server: RunningRegistry, request: pytest.FixtureRequest
) -> None:
    first, _ = desks(tmp_path, demo_channel.url, server.host)
    dry = first.ok("store", "gc", "--registry", "--dry-run", "--grace-days", "0", "--json").json
    [item] = dry["unneeded"]
    assert (item["name"], dry["deleted"], dry["needed"]) == ("extra", [], 1)
    assert first.ok("store", "gc", "--registry", "--dry-run").out.startswith("0 images of this")
    answer = first.ok("store", "gc", "--registry", "--grace-days", "0")
    assert "extra:1" in answer.out
    assert "Nothing was deleted" in answer.err
    assert max(map(len, answer.out.splitlines())) <= 100
    done = first.run("store", "gc", "--registry", "--grace-days", "0", "--delete", "--json")
    if "deletes nothing" in request.node.name:
        assert (done.code, done.errors()) == (1, ["registry-unsupported"])
        assert done.json["deleted"] == []
        return
    assert (done.code, done.json["deleted"]) == (0, [item["image"]])
    left = first.ok("store", "gc", "--registry", "--grace-days", "0", "--json").json
    assert (left["unneeded"], left["needed"]) == ([], 1)
    assert first.plan("--no-memo")["changes"] is False


def test_the_words_are_checked(tmp_path: Path, demo_channel: Channel) -> None:
    desk = Desk(tmp_path / "desk", demo_channel.url)
    for words in (["--delete"], ["--registry", "--delete", "--dry-run"]):
        assert desk.run("store", "gc", *words, "--json").errors() == ["usage"]
    assert desk.run("store", "usage", "--registry", "--json").errors() == ["usage"]
    assert desk.run("store", "gc", "--registry", "--json").errors() == ["unknown-registry"]
