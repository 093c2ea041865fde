"""What a builder made of docker steps comes out of the registry: with its image, and alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from envgraph.api.builder import BuildRequest, BuildResult, Cancel
from envgraph.api.events import Event
from envgraph.errors import EnvgraphError
from envgraph.registry.names import STEPS_REPOSITORY
from envgraph.registry.steps import known_beginning
from envgraph.testing.builder.copying import CopyingBuilder, copying_plugin
from envgraph.testing.registry.memory import MemoryRegistry
from envgraph_store import Digest, Store
from tests.exchange import Machine, good
from tests.services import Channel
from tests.stepped import STEPS, base_in_registry, base_on_disk, recorded, steps, with_builder

EMPTY: tuple[object, ...] = ()


@pytest.fixture
def first(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "first", demo_channel.url)
    machine.settings(builder={"type": "copying"})
    return machine


@pytest.fixture
def builder(first: Machine) -> CopyingBuilder:
    return with_builder(first)


def second_of(first: Machine, root: Path, *, locks: bool = True) -> Machine:
    """Another machine of the workspace: no builder, an empty store."""
    return first.elsewhere(root, locks=locks)


def codes(result: Any) -> list[str]:
    return [d.code for failure in result.failures for d in failure.diagnostics]


def calls(machine: Machine) -> list[str]:
    """What the workspace's registry was asked since the last time."""
    said, machine.registry.calls[:] = list(machine.registry.calls), []
    return said


# -- images ------------------------------------------------------------------


@pytest.mark.parametrize("where", ["scratch", "on disk", "in a registry"])
@pytest.mark.parametrize("locks", [True, False], ids=["lockfile", "no lockfile"])
def test_a_machine_without_a_builder_has_the_image(
    first: Machine, builder: CopyingBuilder, tmp_path: Path, where: str, locks: bool
) -> None:
    image = "scratch"
    if where == "on disk":
        image, _ = base_on_disk(first)
    elif where == "in a registry":
        image, _ = base_in_registry(first, tmp_path / "base")
    steps(first, "train", *STEPS, "LABEL a=b", image=image)
    made = good(first.apply())
    assert len(builder.built) == 4
    second = second_of(first, tmp_path / "second", locks=locks)
    if where == "on disk" and not locks:
        base_on_disk(second)  # what it is has to be found out anew
    plan = second.plan()
    assert (plan.summary["build"], plan.summary["pull"], plan.needs_builder) == (0, 1, EMPTY)
    assert "no-builder" not in {d.code for d in plan.diagnostics}
    assert str(plan.environments[0].image) == made.environments[0]["image"]
    result = good(second.apply())
    assert (result.built, result.pulled, result.pushed) == (0, 1, 0)
    assert result.environments[0]["image"] == made.environments[0]["image"]
    assert not second.plan().changes
    assert not second.plan(offline=True).changes
    theirs, mine = recorded(first.store), recorded(second.store)
    for key, record in mine.items():
        assert record | {"members": []} == theirs[key] | {"members": []}, key
    assert sum(record["schema"] == "envgraph.step/1" for record in mine.values()) == 4
    with first.open() as one, second.open() as other:
        shown = [workspace.describe(workspace.find("train")) for workspace in (one, other)]
        assert shown[0]["layers"] == shown[1]["layers"]
        found = {layer.get("step") for layer in shown[1]["layers"]}
        assert found >= {"COPY one.txt /one", "COPY two.txt /two"}
        assert other.store.verify().bad == ()


def test_several_platforms_come_as_one_index(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    platforms = ["linux-64", "linux-aarch64"]
    first.settings(builder={"type": "copying"}, platforms=platforms)
    steps(first, "train", packages="settings")
    made = good(first.apply())
    assert len(builder.built) == 6
    second = second_of(first, tmp_path / "second")
    result = good(second.apply())
    assert (result.built, result.pulled) == (0, 1)
    assert result.environments == made.environments
    assert not second.plan().changes
    stepped = [r for r in recorded(second.store).values() if r["schema"] == "envgraph.step/1"]
    assert len(stepped) == 6


def test_an_image_that_lost_its_layers_comes_back(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train")
    good(first.apply())
    second = second_of(first, tmp_path / "second")
    good(second.apply())
    [layer] = [
        r["layers"][-1] for r in recorded(second.store).values() if len(r.get("layers", ())) == 2
    ]
    path = second.store / "blobs" / "sha256" / Digest(layer["digest"]).hex
    path.unlink()
    with second.open() as workspace:
        workspace.traffic.pull("train")
        assert workspace.store.verify().bad == ()
    assert not second.plan().changes


# -- the beginning of other environments -------------------------------------


def test_the_same_steps_below_other_packages_need_no_builder(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    for image in ("scratch", base_on_disk(first)[0], base_in_registry(first, tmp_path / "b")[0]):
        name = f"train{len(builder.built)}"
        steps(first, name, image=image)
    good(first.apply())
    second = second_of(first, tmp_path / "second")
    base_on_disk(second)
    for path in sorted((second.folder / "environments").glob("train*.yml")):
        text = path.read_text().replace("alpha", "gamma")
        path.write_text(text)
    plan = second.plan()
    pulled = [s for s in plan.steps if s.kind == "docker-step" and s.action == "pull"]
    assert [s.name for s in pulled] == [STEPS[-1]] * len(pulled)
    assert not plan.needs_builder
    good(second.apply())
    assert not second.plan().changes
    theirs = recorded(first.store)
    for key, record in recorded(second.store).items():
        if record["schema"] == "envgraph.step/1":
            assert record == theirs[key]
    with Store.open(second.store) as store:
        assert store.verify().bad == ()


def test_an_own_step_is_all_that_is_built(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    image, _ = base_on_disk(first)
    steps(first, "train", image=image)
    good(first.apply())
    second = second_of(first, tmp_path / "second")
    (second.folder / "environments" / "train.yml").unlink()
    base_on_disk(second)
    steps(second, "score", *STEPS[:2], "COPY three.txt /three", image=image)
    plan = second.plan()
    assert [s.name for s in plan.needs_builder] == ["COPY three.txt /three"]
    [pulled] = [s for s in plan.steps if s.action == "pull" and s.kind == "docker-step"]
    assert (pulled.name, pulled.reason) == (STEPS[1], "in the registry, with those before it")
    refused = second.apply()
    assert len(refused.failures) == 1
    assert refused.failures[0].diagnostics[0].summary.startswith("score: ")
    assert refused.environments == ()
    assert [s.name for s in second.plan().steps if s.action == "pull"] == []  # it came, and stays
    own = with_builder(second)
    result = good(second.apply())
    assert [r.recipe.instructions[-1].text for r in own.built] == ["COPY three.txt /three"]
    assert result.pushed == 1
    third = second_of(second, tmp_path / "third")
    assert good(third.apply()).environments == result.environments


def test_a_step_that_was_named_is_never_named_anew(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train")
    good(first.apply())
    there = first.registry.contents[STEPS_REPOSITORY]
    before = dict(there.tags)
    assert len(before) == 3
    assert len(set(before.values())) == 1
    steps(first, "score", *STEPS, "LABEL a=b")
    good(first.apply())
    assert {tag: there.tags[tag] for tag in before} == before
    assert len(there.tags) == 4


class Stamping(CopyingBuilder):
    """Makes other bytes of the same steps."""

    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        """Build, and sign the config."""
        with super().build(request, on_event, cancel) as result:
            config = json.loads(result.config)
            config["config"].setdefault("Labels", {})["stamp"] = "other"
            yield replace(result, config=json.dumps(config).encode())


def test_of_two_that_built_apart_every_image_has_its_own_results(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train")
    second = second_of(first, tmp_path / "second")
    with_builder(second)
    second.builders = (copying_plugin(Stamping()),)
    theirs = good(second.apply(offline=True)).environments[0]["image"]
    ours = good(first.apply()).environments[0]["image"]
    assert ours != theirs
    third = second_of(first, tmp_path / "third")
    assert good(third.apply()).environments[0]["image"] == ours
    good(second.apply())  # its image, with its results, is what the key means from now on
    fourth = second_of(first, tmp_path / "fourth")
    assert good(fourth.apply()).environments[0]["image"] == theirs
    steps(fourth, "score", packages="gamma")
    good(fourth.apply())
    assert not fourth.plan().changes
    with fourth.open() as workspace:
        assert workspace.store.verify().bad == ()


# -- how much is asked -------------------------------------------------------


@pytest.mark.parametrize("there", range(9))
def test_a_search_finds_the_beginning(there: int) -> None:
    asked: list[int] = []

    def has(key: int) -> bool:
        asked.append(key)
        return key < there

    assert known_beginning(range(8), has) == there
    assert len(asked) <= 2 + 3


def test_what_is_asked_is_bounded(first: Machine, builder: CopyingBuilder, tmp_path: Path) -> None:
    many = [f"LABEL n{number}=x" for number in range(16)]
    steps(first, "train", *many)
    good(first.apply())
    calls(first)

    def asked(second: Machine) -> list[str]:
        with second.open() as workspace:
            workspace.plan()
        return [call.split()[1] for call in calls(second) if call.startswith("resolve")]

    second = second_of(first, tmp_path / "second")
    assert len(asked(second)) <= 2  # its key and its version: no step
    for number in range(20):  # they begin alike, and have other packages
        steps(second, f"score{number}", *many, packages=("alpha", "gamma")[number % 2])
    found = asked(second)
    assert found.count(STEPS_REPOSITORY) <= 1
    for number in range(20):  # they begin alike, and end each in its own way
        steps(second, f"score{number}", *many[:11], f"LABEL own={number}")
    found = asked(second)
    assert found.count(STEPS_REPOSITORY) <= 20 + 1 + 4  # the search is the same for all of them
    assert not [name for name in asked_offline(second) if name == STEPS_REPOSITORY]


def asked_offline(machine: Machine) -> list[str]:
    machine.plan(offline=True)
    return [call.split()[1] for call in calls(machine)]


def test_a_pull_reads_one_document_more_than_without_steps(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train", *[f"LABEL n{number}=x" for number in range(10)], packages="")
    good(first.apply())
    second = second_of(first, tmp_path / "second")
    with second.open() as workspace:
        plan = workspace.plan()
        calls(first)
        good(workspace.apply(plan))
    said = [call.split()[0] for call in calls(second)]
    assert said.count("get_manifest") == 2  # the image and its record
    assert said.count("open_blob") == 6  # how it was assembled, version, definition, runtime, lock


# -- what is wrong there -----------------------------------------------------


def images(registry: MemoryRegistry) -> str:
    [name] = [n for n in registry.contents if n.startswith("envgraph/envgraph_")]
    return name


Change = Callable[[dict[str, Any]], None]


def _other_key(document: dict[str, Any]) -> None:
    document["results"][-1]["key"] = "envkey1:" + "0" * 64


def _other_base(document: dict[str, Any]) -> None:
    document["base"] = str(Digest.of(b"another"))


def _other_platform(document: dict[str, Any]) -> None:
    document["platform"] = "linux-aarch64"


def _other_config(document: dict[str, Any]) -> None:
    digest = document["results"][-1]["config"]
    document["documents"][digest] = document["documents"][digest].replace("blue", "evil")


def _unfitting_config(document: dict[str, Any]) -> None:
    digest = document["results"][-1]["config"]
    config = json.loads(document["documents"].pop(digest))
    config["rootfs"]["diff_ids"].pop()
    text = json.dumps(config)
    document["results"][-1]["config"] = str(Digest.of(text.encode()))
    document["documents"][str(Digest.of(text.encode()))] = text


def _lost_config(document: dict[str, Any]) -> None:
    document["documents"].pop(document["results"][-1]["config"])


def _wrong_diff_id(document: dict[str, Any]) -> None:
    """DiffIDs that fit each other, and not the layer."""
    wrong = str(Digest.of(b"wrong"))
    for result in document["results"]:
        for layer in result["layers"][:1]:
            old, layer["diff_id"] = layer["diff_id"], wrong
            text = document["documents"][result["config"]].replace(old, wrong)
            result["config"] = str(Digest.of(text.encode()))
            document["documents"][result["config"]] = text
    named = {result["config"] for result in document["results"]}
    document["documents"] = {d: t for d, t in document["documents"].items() if d in named}


def _other_schema(document: dict[str, Any]) -> None:
    document["schema"] = "envgraph.steps/2"


def _no_results(document: dict[str, Any]) -> None:
    document["results"] = []


def _hostile_layer(document: dict[str, Any]) -> None:
    document["results"][-1]["layers"][0]["media_type"] = "text/plain"


WRONG = [
    _other_key, _other_base, _other_platform, _other_config, _unfitting_config, _lost_config,
    _wrong_diff_id, _other_schema, _no_results, _hostile_layer,
]  # fmt: skip


def put_document(registry: MemoryRegistry, name: str, data: bytes, change: Change) -> bytes:
    """The document changed, and kept where artifacts of that repository have it."""
    document = json.loads(data)
    change(document)
    changed = json.dumps(document).encode()
    registry.contents[name].blobs[Digest.of(changed)] = changed
    return changed


def with_wrong_record(registry: MemoryRegistry, change: Change) -> None:
    """The image's record says something else of its steps."""
    name = images(registry)
    here = registry.contents[name]
    [tag] = [tag for tag in here.tags if tag.startswith("record-")]
    manifest = json.loads(here.manifests[here.tags[tag]].data)
    [part] = [p for p in manifest["layers"] if "steps" in p["mediaType"]]
    changed = put_document(registry, name, here.blobs[Digest(part["digest"])], change)
    part |= {"digest": str(Digest.of(changed)), "size": len(changed)}
    data = json.dumps(manifest).encode()
    registry.repository(name).put_manifest(tag, data, manifest["mediaType"])


def with_wrong_steps(registry: MemoryRegistry, change: Change) -> None:
    """The shared results are others."""
    here = registry.contents[STEPS_REPOSITORY]
    [digest] = set(here.tags.values())
    manifest = json.loads(here.manifests[digest].data)
    data = here.blobs[Digest(manifest["config"]["digest"])]
    changed = put_document(registry, STEPS_REPOSITORY, data, change)
    manifest["config"] |= {"digest": str(Digest.of(changed)), "size": len(changed)}
    whole = json.dumps(manifest).encode()
    for tag in list(here.tags):
        registry.repository(STEPS_REPOSITORY).put_manifest(tag, whole, manifest["mediaType"])


def kept(machine: Machine) -> list[str]:
    """Keys of what a registry brought: steps and images."""
    named = ("envgraph.step/1", "envgraph.image/1")
    return [key for key, record in recorded(machine.store).items() if record["schema"] in named]


@pytest.mark.parametrize("change", WRONG)
def test_a_record_that_lies_about_steps_is_refused_and_then_built(
    first: Machine, builder: CopyingBuilder, tmp_path: Path, change: Change
) -> None:
    steps(first, "train", image=base_on_disk(first)[0])
    made = good(first.apply())
    with_wrong_record(first.registry, change)
    second = second_of(first, tmp_path / "second")
    base_on_disk(second)
    result = second.apply()
    assert set(codes(result)) <= {"registry-steps", "registry-image", "registry-record"}, result
    assert codes(result)
    assert (result.environments, kept(second)) == ((), [])
    # The results are shared beside the image, too, and those are good.
    plan = second.plan()
    assert plan.summary["push"] == 1
    assert good(second.apply()).environments == made.environments
    third = second_of(first, tmp_path / "third")
    assert good(third.apply()).pulled == 1


@pytest.mark.parametrize("change", WRONG)
def test_shared_results_that_lie_are_refused_and_then_built(
    first: Machine, builder: CopyingBuilder, tmp_path: Path, change: Change
) -> None:
    steps(first, "train", image=base_on_disk(first)[0])
    good(first.apply())
    with_wrong_steps(first.registry, change)
    second = second_of(first, tmp_path / "second")
    base_on_disk(second)
    steps(second, "train", image="oci:../base:base", packages="gamma")
    assert second.plan().summary["pull"] == 1
    result = second.apply()
    assert set(codes(result)) == {"registry-steps"}, result.failures
    assert kept(second) == []
    assert [s.name for s in second.plan().needs_builder] == list(STEPS)
    assert codes(second.apply())  # nobody builds it here
    assert kept(second) == []
    own = with_builder(second)
    good(second.apply())
    assert len(own.built) == 3
    third = second_of(second, tmp_path / "third")
    steps(third, "train", image="oci:../base:base", packages="beta")
    base_on_disk(third)
    assert not third.plan().needs_builder  # the push has put it right
    good(third.apply())


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
@pytest.mark.parametrize("packages", ["alpha", "gamma"], ids=["image", "steps"])
def test_a_layer_that_is_damaged_there_is_refused(
    first: Machine, builder: CopyingBuilder, tmp_path: Path, damage: str, packages: str
) -> None:
    steps(first, "train")
    good(first.apply())
    made = next(r for r in recorded(first.store).values() if r["schema"] == "envgraph.step/1")
    digest = Digest(made["layers"][0]["digest"])
    for here in first.registry.contents.values():
        if digest in here.blobs:
            data = here.blobs[digest]
            here.blobs[digest] = data[:-1] if damage == "cut" else data[:-1] + b"?"
            if damage == "gone":
                del here.blobs[digest]
    second = second_of(first, tmp_path / "second")
    steps(second, "train", packages=packages)
    with second.open() as workspace:
        workspace.remotes._policy = type(workspace.remotes._policy)(tries=1)
        result = workspace.apply(workspace.plan(), parallelism=1)
    assert codes(result)
    assert set(codes(result)) <= {"registry-digest", "registry-down", "not-found"}
    assert kept(second) == []


def test_one_that_is_wrong_keeps_no_other_from_coming(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    first.settings(builder={"type": "copying"})
    for name in ("one", "two", "three"):
        steps(first, name, f"COPY {name}.txt /own")
    good(first.apply())
    records = {key: r for key, r in recorded(first.store).items() if "kept" in r}
    digest = Digest(
        min(records.values(), key=lambda r: r["layers"][0]["digest"])["layers"][0]["digest"]
    )
    whole = {}
    for name, here in first.registry.contents.items():
        if digest in here.blobs:
            whole[name] = here.blobs[digest]
            here.blobs[digest] = here.blobs[digest][:-1] + b"?"
    second = second_of(first, tmp_path / "second")
    assert second.plan().summary["pull"] == 3
    with second.open() as workspace:
        assert codes(workspace.apply(workspace.plan())) == ["registry-digest"]
    plan = second.plan()
    assert len(plan.needs_builder) == 1
    assert len(plan.pulls) == 2
    assert len(second.apply().environments) == 2
    assert second.plan().needs_builder
    for name, data in whole.items():
        first.registry.contents[name].blobs[digest] = data
    assert second.plan().needs_builder  # as it was, for a day
    assert not second.plan(fresh=True).needs_builder
    good(second.apply())
    assert not second.plan().changes


def test_a_layer_that_lies_here_already_is_held_to_its_diff_id(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train")
    good(first.apply())
    second = second_of(first, tmp_path / "second")
    good(second.apply())
    for path in (second.store / "actions").iterdir():
        path.unlink()  # the blobs are there, and nobody knows of what
    with_wrong_record(first.registry, _wrong_diff_id)
    result = second.apply()
    assert set(codes(result)) <= {"registry-steps", "registry-image"}
    assert codes(result)
    assert kept(second) == []


def test_who_built_it_is_a_name_and_nothing_more(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train")
    good(first.apply())

    def named(document: dict[str, Any]) -> None:
        for result in document["results"]:
            result["builder"] = "\x1b[31mred\n" + "x" * 1000

    with_wrong_record(first.registry, named)
    second = second_of(first, tmp_path / "second")
    good(second.apply())
    found = [
        r["builder"] for r in recorded(second.store).values() if r["schema"] == "envgraph.step/1"
    ]
    assert all(name.startswith("[31mredxxx") and len(name) == 200 for name in found)


# -- trust, and registries that do not answer --------------------------------


def test_a_registry_that_is_not_trusted_with_steps(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train")
    first.environment("plain", "alpha")
    good(first.apply())
    second = second_of(first, tmp_path / "second")
    own = {"type": "memory", "name": "", "trust_steps": False}
    second.settings(registry=own, builder={"type": "copying"})
    calls(first)
    plan = second.plan()
    assert [s.name for s in plan.needs_builder] == list(STEPS)
    [image] = [s for s in plan.steps if s.kind == "image" and s.environments == ("plain",)]
    assert image.action == "pull"
    assert STEPS_REPOSITORY not in {call.split()[1] for call in calls(second)}
    result = second.apply()
    assert [item["name"] for item in result.environments] == ["plain"]
    own_builder = with_builder(second)
    good(second.apply())
    assert len(own_builder.built) == 3


def test_pull_and_bundle_without_a_builder(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    image, _ = base_in_registry(first, tmp_path / "base")
    steps(first, "train", image=image)
    made = good(first.apply()).environments[0]["image"]
    with first.open() as workspace:
        _, report = workspace.traffic.share("train", to="shared")
        assert not report.failures
        workspace.traffic.bundle(["train"], tmp_path / "train.tar")
    other = Machine(
        tmp_path / "other", "file:///nowhere", first.plugin, id="bbbb0002", name="other", own="o"
    )
    with other.open() as workspace:
        workspace.traffic.pull("train", source="shared")
        assert str(workspace.find("train").image) == made
        shown = workspace.describe(workspace.find("train"))
        assert {layer.get("step") for layer in shown["layers"]} >= {STEPS[0], STEPS[2]}
        assert workspace.store.verify().bad == ()
    third = Machine(tmp_path / "third", "file:///nowhere", id="cccc0003", name="third")
    with third.open(offline=True) as workspace:
        [pulled] = workspace.traffic.unbundle(tmp_path / "train.tar")
        assert str(pulled.record.image) == made
        assert workspace.store.verify().bad == ()
        again = workspace.traffic.bundle(["train"], tmp_path / "again.tar")
        assert again[0]
    stepped = {k for k, r in recorded(first.store).items() if r["schema"] == "envgraph.step/1"}
    assert stepped <= set(recorded(third.store))
    distrusting = Machine(
        tmp_path / "four", "file:///nowhere", first.plugin, id="dddd0004", name="four", own="f"
    )
    shared = {"type": "memory", "name": "shared", "trust_steps": False}
    distrusting.settings(registries={"shared": shared})
    with distrusting.open() as workspace, pytest.raises(EnvgraphError) as caught:
        workspace.traffic.pull("train", source="shared")
    assert caught.value.diagnostics[0].code == "pull-built"
    assert kept(distrusting) == []


def test_offline_and_a_registry_that_is_down_leave_the_builder(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train")
    good(first.apply())
    second = second_of(first, tmp_path / "second")
    calls(first)
    plan = second.plan(offline=True)
    assert [s.name for s in plan.needs_builder] == list(STEPS)
    assert calls(second) == []
    first.plugin.registries[""] = down = MemoryRegistry("down")
    down.calls = Dying(0)
    plan = second.plan()
    assert "registry-down" in {d.code for d in plan.diagnostics if d.severity == "warning"}
    assert [s.name for s in plan.needs_builder] == list(STEPS)
    own = with_builder(second)
    result = second.apply()
    assert result.environments
    assert len(own.built) == 3


class Dying(list[str]):
    """A call log that lets so many calls through, and fails every later one."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count

    def append(self, call: str) -> None:
        from envgraph.api.registry import RegistryError

        if self.left == 0:
            raise RegistryError(f"down at {call.split()[0]}", code="registry-down")
        self.left -= 1
        super().append(call)


def test_a_push_that_broke_off_anywhere_is_finished_by_the_next_one(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train", *STEPS[:2], packages="")
    good(first.apply())
    whole = first.registry
    count_all = len(whole.calls)
    for count in range(count_all):
        first.plugin.registries[""] = broken = MemoryRegistry("broken")
        broken.calls = Dying(count)
        first.now += timedelta(days=2)  # what was remembered counts no longer
        first.apply()
        for name, here in broken.contents.items():
            for tag in here.tags:
                if name == STEPS_REPOSITORY:
                    assert all(digest in here.manifests for digest in here.tags.values())
                elif tag.startswith("key-"):
                    assert any(t.startswith("record-") for t in here.tags)
        broken.calls = []
        good(first.apply())
        assert {n: set(h.tags) for n, h in broken.contents.items()} == {
            n: set(h.tags) for n, h in whole.contents.items()
        }, count
        assert not first.plan().changes


def test_a_pull_that_broke_off_anywhere_goes_on(
    first: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    steps(first, "train", *STEPS[:2])
    good(first.apply())
    for packages in ("alpha", "gamma"):
        for count in range(2, 40):
            second = second_of(first, tmp_path / f"{packages}{count}")
            steps(second, "train", *STEPS[:2], packages=packages)
            first.registry.calls = Dying(count)
            result = second.apply()
            left = first.registry.calls.left
            first.registry.calls = []
            if left:
                break
            good(second.apply())
            assert not second.plan().needs_builder
            with Store.open(second.store) as store:
                assert store.verify().bad == ()
            del result
        else:
            pytest.fail("it never came to an end")
