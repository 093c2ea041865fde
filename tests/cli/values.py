"""Small plans made by hand, for views: no file, no store, no solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from envgraph.errors import Diagnostic
from envgraph.image.nodes import image_nodes
from envgraph.model.canonical import NodeKey
from envgraph.model.config import ImageOptions
from envgraph.model.graph import BuildGraph
from envgraph.model.identity import lock_identity
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.nodes import Node
from envgraph.model.records import LockReference, VersionRecord
from envgraph.model.spec import CondaSpec, EnvironmentSpec
from envgraph.plan.inventory import Inventory
from envgraph.plan.plan import Plan, make_plan
from envgraph.plan.target import LockedTarget, LockOrigin, Target
from envgraph_store.digest import Digest

IMAGE = Digest.of(b"image")
OPTIONS = ImageOptions(bytecode="none")


def package(title: str, size: int = 1_200_000, *, direct: bool = False) -> LockedPackage:
    """``numpy 1.26.4``, or ``pip:rich 13.0`` for a wheel."""
    manager, _, title = title.rpartition(":")
    name, version = title.split()
    pip = manager == "pip"
    return LockedPackage(
        "pip" if pip else "conda",
        name,
        version,
        "" if pip else "h0_0",
        "" if pip else "linux-64",
        Digest.of(title.encode()),
        "" if pip else "demo",
        file_name=f"{name}-{version}-h0_0.conda",
        url=f"https://example.com/linux-64/{name}-{version}-h0_0.conda",
        size=size,
        direct=direct,
    )


def packages(*titles: str, direct: Sequence[str] = ()) -> tuple[LockedPackage, ...]:
    """Packages whose names are in ``direct`` were asked for."""
    return tuple(
        package(
            title, 1_000_000 * (index + 1), direct=title.split()[0].removeprefix("pip:") in direct
        )
        for index, title in enumerate(titles)
    )


def lock_of(
    *content: LockedPackage, definition: str = "definition", platform: str = "linux-64"
) -> LockedEnvironment:
    """A lock on scratch."""
    named = Digest.of(definition.encode())
    return LockedEnvironment(named, named, platform, LockedBase("scratch"), content)


@dataclass(frozen=True)
class Wanted:
    """An environment as wanted now, and (``before``) as its version 1 has it."""

    name: str
    now: LockedEnvironment
    before: LockedEnvironment | None = None
    origin: LockOrigin = "committed"
    runtime: str = "runtime"
    runtime_before: str = "runtime"
    pinned: bool = True
    lockfile_current: bool = True
    there: frozenset[str] = field(default_factory=frozenset)
    """Names of packages whose layers are in the store, as they are wanted now."""


def plan_of(
    *wanted: Wanted, diagnostics: Sequence[Diagnostic] = (), replaced: Sequence[str] = ()
) -> Plan:
    """The plan for these environments; all layers of what was before are in the store."""
    targets: list[Target] = []
    nodes: dict[NodeKey, Node] = {}
    built: set[NodeKey] = set()
    inventory = Inventory()
    roots: dict[str, list[NodeKey]] = {}
    for item in wanted:
        target, made = _target(item)
        targets.append(target)
        nodes |= {node.key: node for node in made}
        roots[item.name] = [target.image]
        built |= {node.key for node in made if node.name in item.there}
        built |= {node.key for node in made if node.base is not None and node.base.is_scratch}
        if item.before is not None:
            old, old_nodes = _target(replace(item, now=item.before, runtime=item.runtime_before))
            built |= {node.key for node in old_nodes}
            record = _record(old)
            inventory = replace(
                inventory,
                images={**inventory.images, old.image: IMAGE},
                latest={**inventory.latest, item.name: record},
                taken={**inventory.taken, item.name: {"1": record}},
                previous_locks={
                    **inventory.previous_locks,
                    item.name: {item.before.platform: item.before},
                },
            )
    inventory = replace(inventory, built=frozenset(built))
    graph = BuildGraph(nodes.values(), roots)
    return make_plan(targets, graph, inventory, replace=replaced, diagnostics=diagnostics)


def _target(item: Wanted) -> tuple[Target, tuple[Node, ...]]:
    runtime = Digest.of(item.runtime.encode())
    made = image_nodes(item.now, runtime, OPTIONS, "linux-64")
    locked = LockedTarget(
        item.now,
        lock_identity(item.now),
        item.origin,
        made.image,
        item.origin != "new" and item.lockfile_current,
    )
    target = Target(
        EnvironmentSpec(item.name, image="scratch", conda=CondaSpec()),
        item.now.definition,
        runtime,
        {item.now.platform: locked},
        made.image,
        "envgraph/envgraph_" + "0" * 32,
        item.origin != "new" and item.pinned,
    )
    return target, made.nodes


def _record(target: Target) -> VersionRecord:
    platforms = {p: LockReference(t.identity, IMAGE) for p, t in target.platforms.items()}
    return VersionRecord(
        workspace="w",
        environment=target.name,
        sequence=1,
        previous=None,
        time="2026-11-23T04:25:00Z",
        version="1",
        kind="system-managed",
        definition=target.definition,
        runtime=target.runtime,
        locks=platforms,
        images=dict.fromkeys(platforms, IMAGE),
        image=IMAGE,
        image_name=target.image_name,
        image_keys={p: str(t.image) for p, t in target.platforms.items()},
    )
