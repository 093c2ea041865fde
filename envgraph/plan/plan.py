"""The plan: steps with actions and reasons, and what happens to each environment. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from envgraph.diff.packages import PackageChange, compare_packages
from envgraph.errors import Diagnostic
from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.graph import BuildGraph
from envgraph.model.nodes import Node
from envgraph.model.records import VersionRecord
from envgraph.plan.inventory import Inventory
from envgraph.plan.target import Target
from envgraph_store.digest import Digest

Action = Literal["keep", "resolve", "pull", "build", "push", "tag"]
ACTIONS: Final[tuple[Action, ...]] = ("keep", "resolve", "pull", "build", "push", "tag")
LAYER_KINDS: Final = frozenset(
    {"root-layer", "docker-step", "conda-package", "pip-package", "layer-group", "activation-layer"}
)


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
        """The step as CONTRACT.md has it."""
        return {
            "key": str(self.key),
            "kind": self.kind,
            "name": self.name,
            "action": self.action,
            "reason": self.reason,
            "bytes": self.bytes,
            "environments": list(self.environments),
        }


@dataclass(frozen=True, slots=True)
class EnvironmentChange:
    """What happens to one environment: nothing, a first version, or a further one."""

    target: Target
    action: Literal["no-op", "create", "update"]
    version: str
    changed: tuple[str, ...]
    image: Digest | None
    images: Mapping[str, Digest | None]
    packages: tuple[PackageChange, ...]
    previous: VersionRecord | None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The environment as CONTRACT.md has it."""
        target = self.target
        first = next(iter(target.platforms))
        return {
            "name": target.name,
            "version": self.version,
            "kind": target.spec.kind,
            "definition": str(target.definition),
            "lock": str(target.first.identity),
            "image": _text(self.images[first]),
            "image_name": target.image_name,
            "action": self.action,
            "changed": list(self.changed),
            "note": self.note,
            "index": _text(self.image) if len(target.platforms) > 1 else None,
            "platforms": {
                platform: {"lock": str(locked.identity), "image": _text(self.images[platform])}
                for platform, locked in target.platforms.items()
            },
            "packages": {
                "added": [c.to_json() for c in self.packages if c.kind == "added"],
                "removed": [c.to_json() for c in self.packages if c.kind == "removed"],
                "changed": [c.to_json() for c in self.packages if c.kind == "changed"],
            },
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that apply will do, and nothing else. ``steps`` holds kept nodes too."""

    environments: tuple[EnvironmentChange, ...]
    steps: tuple[Step, ...]
    graph: BuildGraph
    diagnostics: tuple[Diagnostic, ...] = ()
    generation: str = ""

    @property
    def changes(self) -> bool:
        """Apply would do something."""
        return any(step.action != "keep" for step in self.steps)

    @property
    def applyable(self) -> bool:
        """No environment is in error."""
        return not any(d.severity == "error" for d in self.diagnostics)

    @property
    def summary(self) -> dict[str, int]:
        """Steps by action; ``build`` counts layers, since a manifest costs nothing."""
        count = Counter(
            step.action
            for step in self.steps
            if not (step.action == "build" and step.kind in ("image", "image-index"))
        )
        layers = sum(1 for s in self.steps if s.action == "build" and s.kind in LAYER_KINDS)
        return {action: count[action] for action in ACTIONS} | {"layers_written": layers}

    def to_json(self, *, all_steps: bool = False) -> dict[str, Any]:
        """The object of ``plan --json``."""
        return {
            "format_version": "1",
            "changes": self.changes,
            "applyable": self.applyable,
            "environments": [change.to_json() for change in self.environments],
            "steps": [step.to_json() for step in self.steps if all_steps or step.action != "keep"],
            "summary": self.summary,
            "diagnostics": [d.to_json() for d in self.diagnostics],
        }


def _text(digest: Digest | None) -> str | None:
    return None if digest is None else str(digest)


def make_plan(
    targets: Sequence[Target],
    graph: BuildGraph,
    inventory: Inventory,
    *,
    replace: Collection[str] = (),
    diagnostics: Sequence[Diagnostic] = (),
) -> Plan:
    """Compare what is wanted with what is there.

    ``replace`` names packages (or environments) whose layers are built again even
    though they are there.
    """
    problems = list(diagnostics)
    changes = [_change(target, inventory, problems) for target in targets]
    node_steps = _node_steps(graph, inventory, changes, frozenset(replace))
    steps = [step for target in targets for step in _lock_steps(target)]
    steps += node_steps
    steps += [_tag_step(change) for change in changes]
    return Plan(tuple(changes), tuple(steps), graph, tuple(problems), inventory.generation)


def _change(target: Target, inventory: Inventory, problems: list[Diagnostic]) -> EnvironmentChange:
    latest = inventory.latest.get(target.name)
    taken = inventory.taken.get(target.name, {})
    asked = target.spec.version
    compared = taken.get(asked) if asked is not None else latest
    changed = () if compared is None else _differences(target, compared)
    if compared is None:
        action: Literal["no-op", "create", "update"] = "create" if latest is None else "update"
        version = asked if asked is not None else "1"
    elif not changed:
        action, version = "no-op", compared.version
    elif changed == ("image",):
        action, version = "update", compared.version
    elif asked is not None:
        action, version = "update", asked
        problems.append(_taken(target, asked, changed))
    else:
        action, version = "update", _next_version(taken)
    packages: tuple[PackageChange, ...] = ()
    for platform, locked in target.platforms.items():
        before = inventory.previous_locks.get(target.name, {}).get(platform)
        if before is not None:
            packages = compare_packages(before.packages, locked.lock.packages)
        break
    images = {p: inventory.images.get(locked.image) for p, locked in target.platforms.items()}
    if action != "no-op" and target.first.lock.base.is_scratch and target.first.lock.packages:
        problems.append(_no_libc(target))
    note = ""
    if changed == ("definition",):
        note = "resolved the same: nothing to build"
    return EnvironmentChange(
        target,
        action,
        version,
        changed,
        inventory.images.get(target.image),
        images,
        packages,
        latest,
        note,
    )


def _differences(target: Target, record: VersionRecord) -> tuple[str, ...]:
    changed = []
    if target.definition != record.definition:
        changed.append("definition")
    wanted = {platform: locked.identity for platform, locked in target.platforms.items()}
    if wanted != {platform: lock.identity for platform, lock in record.locks.items()}:
        changed.append("lock")
    if target.runtime != record.runtime:
        changed.append("runtime")
    keys = {platform: str(locked.image) for platform, locked in target.platforms.items()}
    if not changed and keys != dict(record.image_keys):
        changed.append("image")
    return tuple(changed)


def _next_version(taken: Mapping[str, VersionRecord]) -> str:
    numbers = [int(v) for v in taken if v.isdecimal() and v.isascii() and len(v) < 19]
    return str(max(numbers, default=0) + 1)


def _taken(target: Target, version: str, changed: tuple[str, ...]) -> Diagnostic:
    return Diagnostic(
        "version-taken",
        f"version {version} of {target.name!r} exists with another {' and '.join(changed)}",
        "a version never changes once it is registered",
        target.spec.source,
        "give a new version, or leave `version:` out and it is counted up",
    )


def _no_libc(target: Target) -> Diagnostic:
    return Diagnostic(
        "no-libc",
        f"{target.name!r} stands on `scratch`: its image has no C library",
        "conda packages for Linux need glibc from the base; `envgraph run` is not concerned",
        target.spec.source,
        "name a base with glibc: `image: oci:PATH`, or image.default_base in envgraph.yaml",
        "warning",
    )


def _lock_steps(target: Target) -> list[Step]:
    steps = []
    for platform, locked in target.platforms.items():
        lock = locked.lock
        key = node_key("lock", {"pin": lock.pin_key, "lock": locked.identity})
        title = f"{target.name} ({platform})" if len(target.platforms) > 1 else target.name
        count = len(lock.packages)
        reason = {
            "new": f"{count} package{'' if count == 1 else 's'} pinned now",
            "edited": "the lockfile was edited by hand: a new generation of pins",
            "store": "pinned before; the lockfile is missing or old and will be written",
            "committed": "pinned in the lockfile",
        }[locked.origin]
        settled = locked.origin == "committed" and target.pinned and locked.lockfile_current
        if locked.origin == "store" and locked.lockfile_current:
            settled, reason = True, "pinned before"
        if locked.origin == "committed" and not settled:
            reason = "pinned in the lockfile; new to this store"
            if target.pinned:
                reason = "the lockfile holds other platforms too: it is written anew"
        steps.append(
            Step(key, "lock", title, "keep" if settled else "resolve", reason, None, (target.name,))
        )
    return steps


def _tag_step(change: EnvironmentChange) -> Step:
    target = change.target
    key = node_key("version", {"name": target.name, "image": target.image})
    if change.action == "no-op":
        action: Action = "keep"
        reason = f"version {change.version} is registered"
    elif change.action == "create":
        action, reason = "tag", "new environment"
    else:
        action, reason = "tag", f"{', '.join(change.changed) or 'version'} changed"
    name = f"{target.name}:{change.version}"
    return Step(key, "version", name, action, reason, None, (target.name,))


def _node_steps(
    graph: BuildGraph,
    inventory: Inventory,
    changes: Sequence[EnvironmentChange],
    replace: frozenset[str],
) -> list[Step]:
    wanted = _needed(graph, inventory, replace)
    new_keys = _new_packages(changes)
    steps = []
    for node in graph:
        names = graph.environments(node.key)
        forced = _is_forced(node, graph, replace)
        if node.key not in wanted:
            steps.append(Step(node.key, node.kind, node.name, "keep", "in the store", None, names))
            continue
        action: Action = "pull" if node.kind == "base-image" else "build"
        reason = "asked to be replaced" if forced else _reason(node, new_keys, wanted)
        size = 0 if node.package and node.package.sha256 in inventory.archives else node.size
        steps.append(
            Step(node.key, node.kind, node.name, action, reason, _bytes(node, size), names)
        )
    return steps


def _is_forced(node: Node, graph: BuildGraph, replace: frozenset[str]) -> bool:
    """Named itself, or needed by named environments only."""
    names = graph.environments(node.key)
    return node.name in replace or (bool(names) and replace.issuperset(names))


def _bytes(node: Node, to_fetch: int | None) -> int | None:
    return node.size if node.size is not None else to_fetch


def _needed(graph: BuildGraph, inventory: Inventory, replace: frozenset[str]) -> frozenset[NodeKey]:
    """What must be made: final nodes that are missing, and what they lack in turn.

    The inputs of a node that is there are not looked at: a joined layer stands
    without the layers that it was joined from.
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

    def visit(key: NodeKey) -> None:
        if key in needed or (key in inventory.built and not is_tainted(key)):
            return
        needed.add(key)
        for need in graph[key].needs:
            visit(need)

    for keys in graph.roots.values():
        for key in keys:
            visit(key)
    return frozenset(needed)


def _new_packages(changes: Sequence[EnvironmentChange]) -> dict[tuple[str, str], PackageChange]:
    return {(c.manager, c.name): c for change in changes for c in change.packages}


def _reason(
    node: Node, changed: Mapping[tuple[str, str], PackageChange], wanted: frozenset[NodeKey]
) -> str:
    if node.package is not None:
        change = changed.get((node.package.manager, node.package.name))
        if change is not None and change.before is not None and change.after is not None:
            before = change.to_json()["from"]
            return f"changed from {before}"
        return "not in the store"
    if any(need in wanted for need in node.needs):
        return "made from what is rebuilt"
    return "not in the store"
