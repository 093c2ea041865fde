"""The steps of a plan: what must be done about each lock and node, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from envgraph.diff.packages import PackageChange
from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.graph import BuildGraph
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage, Move
from envgraph.model.nodes import Node
from envgraph.plan.inventory import Inventory, RegistryView
from envgraph.plan.target import Target
from envgraph_store.digest import Digest

Action = Literal["keep", "resolve", "pull", "build", "push", "tag"]
ACTIONS: Final[tuple[Action, ...]] = ("keep", "resolve", "pull", "build", "push", "tag")
BUILT_KINDS: Final = frozenset({"docker-step", "build-context"})
"""What a builder makes. Pulled images are assembled again from their lock, but for these:
what the registry says of them is believed, or they are built where they are missing."""
BORROWED: Final = "registry-environment"
"""The kind of a step for an environment of a registry's catalogue."""

LAYER_KINDS: Final = frozenset(
    {
        "root-layer", "docker-step", "build-context", "conda-package", "pip-package",
        "layer-group", "activation-layer",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A version of a registry's catalogue that a job uses by its address, and apply pulls.

    ``label`` is what named it, where no version did.
    """

    registry: str
    name: str
    version: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One node (or one lock) and what will be done about it, and why."""

    key: NodeKey
    kind: str
    name: str
    action: Action
    reason: str
    bytes: int | None
    environments: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The step as programs read it."""
        return {
            "key": str(self.key),
            "kind": self.kind,
            "name": self.name,
            "action": self.action,
            "reason": self.reason,
            "bytes": self.bytes,
            "environments": list(self.environments),
        }


def built_platforms(graph: BuildGraph, built: Iterable[Step]) -> tuple[str, ...]:
    """The platforms of the images that stand on these steps, which a builder runs."""
    keys = {step.key for step in built}
    images = (node for node in graph if node.kind == "image")
    found = (
        image.name
        for image in images
        if any(node.key in keys for node in graph.reachable([image.key]))
    )
    return tuple(dict.fromkeys(found))


def _moved(before: LockedBase, now: LockedBase) -> str:
    return f"{before.short} \N{RIGHTWARDS ARROW} {now.short}"


def _moves(moves: Sequence[Move], lock: LockedEnvironment) -> str:
    """Which images moved: the base, and those that steps or a Dockerfile name."""
    rest = "" if lock.context is not None else "; the packages stay"
    if len(moves) == 1 and moves[0][1] == lock.base and lock.context is None:
        return f"the base moved: {_moved(*moves[0])}{rest}"
    said = ", ".join(f"{now.reference} {_moved(before, now)}" for before, now in moves)
    return f"moved: {said}{rest}"


def _context(lock: LockedEnvironment) -> str:
    """A build context at an address, by what it was pinned to."""
    origin = None if lock.context is None else lock.context.origin
    if origin is None:
        return ""
    what = "commit" if origin.kind == "git" else "archive"
    return f"the build context ({what} {origin.short}) and "


def lock_steps(target: Target) -> list[Step]:
    """One step for each platform's lock: kept, or resolved (pinned, recorded, written)."""
    steps = []
    for platform, locked in target.platforms.items():
        lock = locked.lock
        key = node_key("lock", {"pin": lock.pin_key, "lock": locked.identity})
        title = f"{target.name} ({platform})" if len(target.platforms) > 1 else target.name
        count = len(lock.packages)
        reason = {
            "new": f"{_context(lock)}{count} package{'' if count == 1 else 's'} pinned now",
            "edited": "the lockfile was edited by hand: a new generation of pins",
            "store": "pinned before; the lockfile is missing or old and will be written",
            "committed": "pinned in the lockfile",
            "registry": "pinned by another machine; taken over from the registry",
        }[locked.origin]
        if locked.left is not None:
            reason = _moves(locked.moved or ((locked.left, lock.base),), lock)
        settled = locked.origin == "committed" and target.pinned and locked.lockfile_current
        if locked.origin == "store" and locked.lockfile_current:
            settled, reason = True, "pinned before"
        if locked.origin == "committed" and not settled:
            reason = "pinned in the lockfile; new to this store"
            if target.pinned:
                reason = "the lockfile is written anew"
        steps.append(
            Step(key, "lock", title, "keep" if settled else "resolve", reason, None, (target.name,))
        )
    return steps


@dataclass(frozen=True, slots=True)
class NodeSteps:
    """One step for each node; and what comes out of the registry: images, results of steps."""

    steps: tuple[Step, ...]
    pulls: Mapping[NodeKey, Digest]
    step_pulls: Mapping[NodeKey, Digest]


def base_before(target: Target, platform: str, inventory: Inventory) -> LockedBase | None:
    """The base of the same name that the platform's base takes the place of."""
    locked = target.platforms[platform]
    before = locked.left
    if before is None:
        previous = inventory.previous_locks.get(target.name, {}).get(platform)
        before = None if previous is None else previous.base
    now = locked.lock.base
    if before is None or before.reference != now.reference or before.manifest == now.manifest:
        return None
    return before


def node_steps(
    graph: BuildGraph,
    inventory: Inventory,
    changes: Iterable[PackageChange],
    replace: frozenset[str],
    bases: Mapping[Digest, LockedBase] = {},
) -> NodeSteps:
    """One step for each node: kept, pulled or built. ``changes`` explain the new packages.

    ``bases`` explain new bases: by their manifest, the one that they take the place of.
    """
    wanted, pulls, step_pulls = _needed(graph, inventory, replace)
    before = {
        change.after: change.before
        for change in changes
        if change.before is not None and change.after is not None
    }
    come = {node.key for node in graph.reachable([*pulls, *step_pulls])}
    steps = []
    for node in graph:
        names = graph.environments(node.key)
        forced = _is_forced(node, graph, replace)
        if node.key in step_pulls:
            reason = "in the registry, with those before it"
            steps.append(Step(node.key, node.kind, node.name, "pull", reason, None, names))
            continue
        if node.key in pulls:
            size = _inputs(graph, node)
            step = Step(node.key, node.kind, node.name, "pull", "in the registry", size, names)
            steps.append(step)
            continue
        if node.key not in wanted:
            there = node.key in inventory.built or node.key not in come
            reason = "in the store" if there else _comes_with(node)
            steps.append(Step(node.key, node.kind, node.name, "keep", reason, None, names))
            continue
        action: Action = "pull" if node.kind == "base-image" else "build"
        reason = "asked to be replaced" if forced else _reason(node, before, wanted, bases)
        if not forced and node.kind in BUILT_KINDS and _on_moved(graph, node, bases):
            reason = "runs again: its base moved"
        steps.append(Step(node.key, node.kind, node.name, action, reason, node.size, names))
    return NodeSteps(tuple(steps), pulls, step_pulls)


def _on_moved(graph: BuildGraph, node: Node, bases: Mapping[Digest, LockedBase]) -> bool:
    """An image below a step, or one that it names, takes the place of another."""
    below = graph.reachable([node.key]) if bases else ()
    return any(item.base is not None and item.base.manifest in bases for item in below)


def _comes_with(node: Node) -> str:
    return "comes out of the registry" if node.kind in BUILT_KINDS else "comes with the image"


def _inputs(graph: BuildGraph, node: Node) -> int:
    """Bytes of what the layers of an image were made from: about what it weighs."""
    below = graph.reachable([node.key])
    return sum(part.size or 0 for part in below if part.package is not None)


def _is_forced(node: Node, graph: BuildGraph, replace: frozenset[str]) -> bool:
    """Named itself, or needed by named environments only."""
    names = graph.environments(node.key)
    return node.name in replace or (bool(names) and replace.issuperset(names))


def _needed(
    graph: BuildGraph, inventory: Inventory, replace: frozenset[str]
) -> tuple[frozenset[NodeKey], dict[NodeKey, Digest], dict[NodeKey, Digest]]:
    """What must be made: final nodes that are missing, and what they lack in turn.

    The inputs of a node that is there are not looked at: a joined layer stands
    without the layers that it was joined from. A final image that the registry has is
    pulled instead, and what comes with it need not be made for any other image either. So
    is what it has of docker steps: with the last one that it has come all before it.
    """
    forced = {node.key for node in graph if _is_forced(node, graph, replace)}
    needed: set[NodeKey] = set()
    tainted: dict[NodeKey, bool] = {}

    def is_tainted(key: NodeKey) -> bool:
        if key not in tainted:
            tainted[key] = False
            node = graph[key]
            tainted[key] = key in forced or (
                bool(forced) and any(is_tainted(need) for need in node.needs)
            )
        return tainted[key]

    roots = [key for keys in graph.roots.values() for key in keys]
    view = inventory.registry or RegistryView()
    pulls = {
        key: view.images[key]
        for key in roots
        if key in view.images
        and key not in inventory.built
        and not is_tainted(key)
        and (view.trusts_steps or not is_built(graph, key))
    }
    step_pulls: dict[NodeKey, Digest] = {}
    there = set(inventory.built) | _coming(graph, pulls)

    def visit(key: NodeKey) -> None:
        if key in needed or (key in there and not is_tainted(key)):
            return
        if key in view.steps and not is_tainted(key):
            step_pulls[key] = view.steps[key]
            return
        needed.add(key)
        for need in graph[key].needs:
            visit(need)

    for key in roots:
        visit(key)
    return frozenset(needed), pulls, step_pulls


def is_built(graph: BuildGraph, key: NodeKey) -> bool:
    """A builder makes part of it."""
    return any(node.kind in BUILT_KINDS for node in graph.reachable([key]))


def _coming(graph: BuildGraph, pulls: Iterable[NodeKey]) -> set[NodeKey]:
    """The nodes whose results are in pulled images: not what their layers were joined from."""
    found: set[NodeKey] = set()
    for key in pulls:
        images = [key] if graph[key].kind == "image" else list(graph[key].needs)
        found |= {key, *images}
        found.update(need for image in images for need in graph[image].needs)
        found.update(node.key for node in graph.reachable([key]) if node.kind in BUILT_KINDS)
    return found


def _reason(
    node: Node,
    before: Mapping[LockedPackage, LockedPackage],
    wanted: frozenset[NodeKey],
    bases: Mapping[Digest, LockedBase],
) -> str:
    if node.base is not None and node.base.manifest is not None:
        left = bases.get(node.base.manifest)
        if left is not None:
            return f"moved: {_moved(left, node.base)}"
    if node.package is not None:
        old = before.get(node.package)
        if old is None:
            return "not in the store"
        return f"changed from {old.label(node.package)}"
    if any(need in wanted for need in node.needs):
        return "made from what is rebuilt"
    return "not in the store"
