"""Images go into a registry and come out of it, on another machine, as if built there."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from envgraph.api.registry import RegistryError
from envgraph.registry.retrying import Policy
from envgraph.testing.registry.memory import Contents, MemoryRegistry
from envgraph_store import Digest, Store
from envgraph_store.naming import unescape
from tests.exchange import PACKAGES, Machine, good
from tests.services import Channel


@pytest.fixture
def first(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "first", demo_channel.url)
    machine.environment("train", *PACKAGES)
    return machine


@pytest.mark.parametrize("image", [{}, {"max_layers": 4}, {"compression": "gzip", "max_layers": 8}])
def test_a_second_machine_builds_nothing(
    first: Machine, tmp_path: Path, image: dict[str, object]
) -> None:
    first.settings(image={"bytecode": "none"} | image)
    made = good(first.apply())
    assert made.pushed == 1
    assert made.built >= 7
    second = first.elsewhere(tmp_path / "second")
    plan = second.plan()
    assert plan.summary["build"] == 0
    assert plan.summary["pull"] == 1
    assert plan.summary["push"] == 0
    result = good(second.apply())
    assert (result.built, result.pulled, result.pushed) == (0, 1, 0)
    assert result.environments[0]["image"] == made.environments[0]["image"]
    assert not second.plan().changes
    theirs = recorded(first)
    assert recorded(second)
    for key, record in recorded(second).items():
        if theirs[key].pop("members", []):  # of joined layers the builder keeps no list of paths
            record["paths"] = theirs[key]["paths"]
        assert record | {"members": []} == theirs[key] | {"members": []}


def recorded(machine: Machine) -> dict[str, dict[str, Any]]:
    """Every action record by the text of its key."""
    with Store.open(machine.store) as store:
        keys = [unescape(path.name) for path in (machine.store / "actions").iterdir()]
        found = {key: store.actions.get(key) for key in keys}
    return {key: dict(record) for key, record in found.items() if record is not None}


class Dying(list[str]):
    """A call log that lets so many calls through, and fails every later one."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def append(self, call: str) -> None:
        if self.left == 0:
            raise RegistryError(f"down at {call.split()[0]}", code="registry-down")
        self.left -= 1
        super().append(call)


def tags(machine: Machine) -> dict[str, set[str]]:
    return {name: set(here.tags) for name, here in machine.registry.contents.items() if here.tags}


def test_a_push_that_broke_off_anywhere_is_finished_by_the_next_one(
    first: Machine, tmp_path: Path
) -> None:
    good(first.apply())
    whole = first.registry
    calls = len(whole.calls)
    assert calls > 20
    for count in range(calls):
        first.plugin.registries[""] = broken = MemoryRegistry("broken")
        broken.calls = Dying(count)
        first.now += timedelta(days=2)  # what was remembered counts no longer
        result = first.apply()
        if count >= calls - 4 and not result.failures:  # the last look for rivals was missed
            assert result.pushed == 1
            continue
        assert [d.code for f in result.failures for d in f.diagnostics] == ["registry-down"], count
        for name, here in broken.contents.items():
            for tag in here.tags:
                assert tag.startswith(("record-", "key-", "pin-")), (count, name, tag)
                if tag.startswith("key-"):
                    assert any(t.startswith("record-") for t in here.tags)
        broken.calls = []
        assert good(first.apply()).pushed == 1, count
        assert broken.contents.keys() == whole.contents.keys()
        for name, here in broken.contents.items():
            assert here.tags == whole.contents[name].tags
            assert here.blobs.keys() == whole.contents[name].blobs.keys()
        assert not first.plan().changes


def test_a_second_push_is_one_question(first: Machine) -> None:
    good(first.apply())
    first.registry.calls.clear()
    with first.open() as workspace:
        _, report = workspace.traffic.push("train")
        assert report.count == 1
    [call] = first.registry.calls
    assert call.startswith("resolve envgraph/envgraph_")


def test_layers_are_sent_once_and_mounted_into_every_repository(first: Machine) -> None:
    good(first.apply())
    first.registry.calls.clear()
    first.environment("score", *reversed(PACKAGES))
    result = good(first.apply())
    assert (result.built, result.pushed) == (0, 1)
    sent = [call for call in first.registry.calls if call.startswith("push_blob")]
    mounted = [call for call in first.registry.calls if call.startswith("mount")]
    assert len(mounted) == 8
    assert not any("envgraph/layers" in call.split()[1] for call in sent)
    layers = first.registry.contents["envgraph/layers"]
    assert len(layers.blobs) == 8
    assert not layers.tags


@pytest.mark.parametrize("count", [1, 10, 200])
def test_many_environments_are_asked_for_in_one_go(first: Machine, count: int) -> None:
    (first.folder / "environments" / "train.yml").unlink()
    for number, names in zip(range(count), permutations(PACKAGES), strict=False):
        first.environment(f"train-{number}", *names)
    good(first.apply(parallelism=2))

    def calls(*, fresh: bool = False) -> list[str]:
        first.registry.calls.clear()
        assert not first.plan(fresh=fresh).changes
        return [call.split()[0] for call in first.registry.calls]

    assert calls() == []
    assert calls(fresh=True) == ["resolve"] * count
    first.now += timedelta(days=2)
    assert calls() == ["resolve"] * count
    assert calls() == []


def test_offline_asks_nothing_and_says_so_once(first: Machine) -> None:
    first.registry.calls.clear()
    good(first.apply(offline=True))
    assert first.registry.calls == []
    plan = first.plan(offline=True)
    assert not plan.changes
    assert not plan.complete
    assert [d.code for d in plan.diagnostics].count("registry-not-asked") == 1
    assert first.plan().summary["push"] == 1
    good(first.apply())
    plan = first.plan(offline=True)
    assert plan.complete
    assert not plan.changes


def test_a_registry_that_is_down_stops_only_the_push(first: Machine) -> None:
    first.registry.calls = Dying(0)
    plan = first.plan()
    assert [d.severity for d in plan.diagnostics if d.code == "registry-down"] == ["warning"]
    assert plan.applyable
    result = first.apply()
    assert result.built == 7
    assert result.environments[0]["version"] == "1"
    assert [d.code for f in result.failures for d in f.diagnostics] == ["registry-down"]
    first.registry.calls = []
    plan = first.plan()
    assert (plan.summary["build"], plan.summary["push"]) == (0, 1)
    assert good(first.apply()).pushed == 1


def images(machine: Machine) -> Contents:
    [name] = [n for n in machine.registry.contents if n.startswith("envgraph/envgraph_")]
    return machine.registry.contents[name]


def kept(machine: Machine) -> list[str]:
    return [path.name for path in (machine.store / "actions").iterdir()]


def refused(machine: Machine, code: str) -> None:
    """The machine pulls nothing, and keeps no word of it."""
    result = machine.apply()
    found = {d.code for f in result.failures for d in f.diagnostics}
    assert found == {code}, result.failures
    assert (result.environments, result.pulled) == ((), 0)
    assert kept(machine) == []


def test_wrong_bytes_are_refused_and_nothing_of_them_is_kept(
    first: Machine, tmp_path: Path
) -> None:
    good(first.apply())
    here = images(first)
    layers = first.registry.contents["envgraph/layers"]
    for number, digest in enumerate(sorted(layers.blobs)):
        good_bytes = here.blobs[digest]
        changed = good_bytes[:-1] + bytes([good_bytes[-1] ^ 1])
        for case, data in enumerate([changed, good_bytes[:-1], good_bytes + b"\0", None]):
            if data is None:
                del here.blobs[digest]
            else:
                here.blobs[digest] = data
            machine = first.elsewhere(tmp_path / f"m{number}-{case}")
            policy = Policy(tries=1)
            with machine.open() as workspace:
                workspace.remotes._policy = policy
                result = workspace.apply(workspace.plan(), parallelism=1)
            found = {d.code for f in result.failures for d in f.diagnostics}
            assert found & {"registry-digest", "registry-down", "not-found"}, found
            assert kept(machine) == []
            here.blobs[digest] = good_bytes
        break
    machine = first.elsewhere(tmp_path / "last")
    assert good(machine.apply()).built == 0


def rewritten(machine: Machine, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Let the key's tag show another, whole image: ``change(manifest, config)``."""
    here = images(machine)
    [tag] = [tag for tag in here.tags if tag.startswith("key-")]
    manifest = json.loads(here.manifests[here.tags[tag]].data)
    config = json.loads(here.blobs[Digest(manifest["config"]["digest"])])
    change(manifest, config)
    data = json.dumps(config).encode()
    here.blobs[Digest.of(data)] = data
    manifest["config"] |= {"digest": str(Digest.of(data)), "size": len(data)}
    whole = json.dumps(manifest).encode()
    machine.registry.repository(
        next(n for n in machine.registry.contents if n.startswith("envgraph/envgraph_"))
    ).put_manifest(tag, whole, manifest["mediaType"])


def _variable(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    config["config"]["Env"].append("LD_PRELOAD=/evil.so")


def _command(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    config["config"]["Entrypoint"] = ["/evil"]


def _swapped(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    layers = manifest["layers"]
    layers[1], layers[2] = layers[2], layers[1]
    ids = config["rootfs"]["diff_ids"]
    ids[1], ids[2] = ids[2], ids[1]


def _fewer(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    del manifest["layers"][2:]
    del config["rootfs"]["diff_ids"][2:]


def _annotated(manifest: dict[str, Any], config: dict[str, Any]) -> None:
    manifest["annotations"] = {"a": "b"}


@pytest.mark.parametrize("change", [_variable, _command, _swapped, _fewer, _annotated])
def test_an_image_that_is_not_what_its_key_says_is_refused(
    first: Machine, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    good(first.apply())
    rewritten(first, change)
    refused(first.elsewhere(tmp_path / "second"), "registry-image")


@pytest.mark.parametrize("damage", ["blob gone", "blob changed", "manifest lies"])
def test_what_is_of_no_use_in_the_registry_is_built_and_put_right(
    first: Machine, tmp_path: Path, damage: str
) -> None:
    made = good(first.apply()).environments[0]["image"]
    here = images(first)
    digest = max(first.registry.contents["envgraph/layers"].blobs)
    whole = here.blobs[digest]
    if damage == "manifest lies":
        rewritten(first, _command)
    elif damage == "blob gone":
        del here.blobs[digest]
        del first.registry.contents["envgraph/layers"].blobs[digest]
    else:
        here.blobs[digest] = whole[:-1] + b"x"
    second = first.elsewhere(tmp_path / "second")
    assert second.plan().summary["pull"] == 1
    assert second.apply().failures
    plan = second.plan()
    assert (plan.summary["pull"], plan.summary["build"], plan.summary["push"]) == (0, 7, 1)
    assert good(second.apply()).environments[0]["image"] == made
    assert not second.plan().changes
    if damage != "blob changed":  # a registry that lies about what it has cannot be helped
        third = first.elsewhere(tmp_path / "third")
        assert good(third.apply()).pulled == 1


def test_a_pull_that_broke_off_anywhere_goes_on(first: Machine, tmp_path: Path) -> None:
    good(first.apply())
    whole = first.elsewhere(tmp_path / "whole")
    first.registry.calls = []
    good(whole.apply())
    calls = first.registry.calls
    opened = sum(call.startswith("open_blob") for call in calls)
    assert opened == 8 - 1  # the entrypoint's layer is made here
    for count in range(2, len(calls)):  # two questions belong to the plan
        machine = first.elsewhere(tmp_path / f"m{count}")
        first.registry.calls = Dying(count)
        result = machine.apply()
        if not result.failures:
            assert count > opened
            continue
        assert result.environments == ()
        done = sum(call.startswith("open_blob") for call in first.registry.calls)
        assert kept(machine) == []
        first.registry.calls = []
        assert good(machine.apply()).pulled == 1
        again = sum(call.startswith("open_blob") for call in first.registry.calls)
        assert again <= opened - max(0, done - 1), count
        with Store.open(machine.store) as store:
            assert store.verify().bad == ()
