"""The plan is a pure difference: what is wanted against what is there."""

from __future__ import annotations

from collections.abc import Mapping

from envgraph.image.nodes import image_nodes
from envgraph.model.canonical import NodeKey
from envgraph.model.config import ImageOptions
from envgraph.model.graph import BuildGraph
from envgraph.model.identity import lock_identity
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.records import LockReference, VersionRecord
from envgraph.model.spec import EnvironmentSpec
from envgraph.plan.inventory import Inventory
from envgraph.plan.plan import Plan, make_plan
from envgraph.plan.target import LockedTarget, LockOrigin, Target
from envgraph_store.digest import Digest

RUNTIME = Digest.of(b"runtime")
OPTIONS = ImageOptions(bytecode="none")


def package(name: str, version: str = "1.0", *, direct: bool = False) -> LockedPackage:
    text = f"{name} {version}"
    return LockedPackage(
        "conda", name, version, "0", "noarch", Digest.of(text.encode()), "demo",
        file_name=f"{name}-{version}-0.conda", size=1000, noarch="generic", direct=direct,
    )  # fmt: skip


def lock(*packages: LockedPackage, definition: str = "d") -> LockedEnvironment:
    named = Digest.of(definition.encode())
    return LockedEnvironment(named, named, "linux-64", LockedBase("scratch"), packages)


def target(
    locked: LockedEnvironment,
    name: str = "train",
    origin: LockOrigin = "committed",
    version: str | None = None,
) -> tuple[Target, BuildGraph]:
    nodes = image_nodes(locked, RUNTIME, OPTIONS, "linux-64")
    spec = EnvironmentSpec(name, image="scratch", version=version)
    wanted = LockedTarget(locked, lock_identity(locked), origin, nodes.image, origin != "new")
    made = Target(
        spec, locked.definition, RUNTIME, {"linux-64": wanted}, nodes.image,
        "envgraph/envgraph_0", origin != "new",
    )  # fmt: skip
    return made, BuildGraph(nodes.nodes, {name: [nodes.image]})


def record(made: Target, version: str = "1") -> VersionRecord:
    return VersionRecord(
        workspace="w", environment=made.name, sequence=1, previous=None, time="", version=version,
        kind="system-managed", definition=made.definition, runtime=made.runtime,
        locks={"linux-64": LockReference(made.first.identity, Digest.of(b"r"))},
        images={"linux-64": Digest.of(b"i")}, image=Digest.of(b"i"), image_name="",
        image_keys={"linux-64": str(made.first.image)},
    )  # fmt: skip


def everything(graph: BuildGraph) -> frozenset[NodeKey]:
    return frozenset(node.key for node in graph)


def registered(
    made: Target, graph: BuildGraph, built: frozenset[NodeKey] | None = None
) -> Inventory:
    versions: Mapping[str, VersionRecord] = {"1": record(made)}
    return Inventory(
        everything(graph) if built is None else built,
        {made.image: Digest.of(b"i")},
        latest={made.name: versions["1"]},
        taken={made.name: versions},
    )


def actions(plan: Plan) -> dict[str, str]:
    return {step.name: step.action for step in plan.steps if step.action != "keep"}


def test_everything_new_is_built_and_tagged() -> None:
    made, graph = target(lock(package("a"), package("b")), origin="new")
    plan = make_plan([made], graph, Inventory())
    assert plan.changes
    assert actions(plan)["a"] == "build"
    assert actions(plan)["train:1"] == "tag"
    assert plan.summary["resolve"] == 1
    assert plan.summary["layers_written"] == 3  # the root layer, a and b
    assert plan.environments[0].action == "create"


def test_nothing_to_do_when_all_is_there() -> None:
    made, graph = target(lock(package("a"), package("b")))
    plan = make_plan([made], graph, registered(made, graph))
    assert not plan.changes
    assert plan.environments[0].action == "no-op"
    assert plan.to_json()["steps"] == []


def test_one_changed_package_builds_one_layer() -> None:
    before, old_graph = target(lock(package("a"), package("b")))
    after, graph = target(lock(package("a", "2.0", direct=True), package("b"), definition="e"))
    there = everything(old_graph)
    seen = Inventory(
        there,
        latest={"train": record(before)},
        taken={"train": {"1": record(before)}},
        previous_locks={"train": {"linux-64": before.first.lock}},
    )
    plan = make_plan([after], graph, seen)
    assert plan.summary["layers_written"] == 1
    assert actions(plan)["a"] == "build"
    [step] = [step for step in plan.steps if step.name == "a"]
    assert step.reason == "changed from 1.0"
    change = plan.environments[0]
    assert (change.action, change.version, change.changed) == (
        "update",
        "2",
        ("definition", "lock"),
    )
    [moved] = change.packages
    assert moved.major
    assert moved.direct


def test_an_order_only_edit_builds_nothing_and_says_so() -> None:
    before, old_graph = target(lock(package("a"), definition="d"))
    after, graph = target(lock(package("a"), definition="reordered"), origin="new")
    seen = Inventory(
        everything(old_graph),
        {after.image: Digest.of(b"i")},
        latest={"train": record(before)},
        taken={"train": {"1": record(before)}},
    )
    plan = make_plan([after], graph, seen)
    assert plan.summary["build"] == 0
    assert plan.summary["layers_written"] == 0
    assert plan.environments[0].note == "resolved the same: nothing to build"
    assert actions(plan) == {"train": "resolve", "train:2": "tag"}


def test_a_lost_layer_is_work_again_and_its_siblings_are_not() -> None:
    made, graph = target(lock(package("a"), package("b")))
    [lost] = [node for node in graph if node.name == "a"]
    seen = registered(made, graph, everything(graph) - {lost.key, made.image})
    plan = make_plan([made], graph, seen)
    assert actions(plan) == {"a": "build", "linux-64": "build"}


def test_the_layers_behind_a_whole_image_are_not_asked_for() -> None:
    made, graph = target(lock(package("a"), package("b")))
    plan = make_plan([made], graph, registered(made, graph, frozenset({made.image})))
    assert not plan.changes


def test_a_taken_version_with_other_content_is_refused() -> None:
    before, old_graph = target(lock(package("a")), version="1")
    after, graph = target(lock(package("a", "2.0"), definition="e"), version="1")
    seen = Inventory(everything(old_graph), latest={"train": record(before)},
                     taken={"train": {"1": record(before)}})  # fmt: skip
    plan = make_plan([after], graph, seen)
    assert not plan.applyable
    assert [d.code for d in plan.diagnostics if d.severity == "error"] == ["version-taken"]


def test_replace_builds_a_package_again_and_what_stands_on_it() -> None:
    made, graph = target(lock(package("a"), package("b")))
    plan = make_plan([made], graph, registered(made, graph), replace=["a"])
    assert actions(plan) == {"a": "build", "linux-64": "build"}
    [step] = [step for step in plan.steps if step.name == "a"]
    assert step.reason == "asked to be replaced"


def test_image_options_alone_keep_the_version() -> None:
    made, graph = target(lock(package("a")))
    seen = registered(made, graph)
    other = record(made)
    changed = VersionRecord(**{
        name: getattr(other, name) for name in VersionRecord.__dataclass_fields__
    } | {"image_keys": {"linux-64": "envkey1:" + "0" * 64}})  # fmt: skip
    seen = Inventory(seen.built, seen.images, latest={"train": changed},
                     taken={"train": {"1": changed}})  # fmt: skip
    plan = make_plan([made], graph, seen)
    assert plan.environments[0].version == "1"
    assert plan.environments[0].changed == ("image",)


def test_json_has_the_contract_fields() -> None:
    made, graph = target(lock(package("a")), origin="new")
    document = make_plan([made], graph, Inventory()).to_json(all_steps=True)
    assert document["format_version"] == "1"
    [environment] = document["environments"]
    assert {"name", "version", "kind", "definition", "lock", "image", "image_name", "action",
            "platforms"} <= environment.keys()  # fmt: skip
    assert {"key", "kind", "name", "action", "reason", "bytes", "environments"} == set(
        document["steps"][0]
    )
    assert set(document["summary"]) == {
        "keep", "resolve", "pull", "build", "push", "tag", "layers_written",
    }  # fmt: skip
