"""The plan: steps with actions and reasons, and what happens to each environment. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from envgraph.diff.packages import PackageChange, compare_packages
from envgraph.errors import Diagnostic
from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.graph import BuildGraph
from envgraph.model.locked import LockedBase
from envgraph.model.records import VersionRecord
from envgraph.plan.inventory import Inventory
from envgraph.plan.remarks import (
    archived,
    lacks_libc,
    link_script_warnings,
    no_libc,
    version_taken,
)
from envgraph.plan.steps import (
    ACTIONS,
    BUILT_KINDS,
    LAYER_KINDS,
    Action,
    Borrowed,
    Step,
    base_before,
    lock_steps,
    node_steps,
)
from envgraph.plan.target import Target
from envgraph_store.digest import Digest

IDENTITY: Final = frozenset({"definition", "lock", "runtime"})
"""What a version is: another one of these, another version."""


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
    """The newest version when the plan was made."""

    registered: VersionRecord | None
    """The version that it was compared with: the one asked for, else the newest."""

    note: str = ""
    base_before: LockedBase | None = None
    """The base that the first platform's lock takes the place of; None where it stays."""

    @property
    def is_refused(self) -> bool:
        """A given version exists, and this would make it another."""
        return (
            self.registered is not None
            and self.version == self.registered.version
            and bool(IDENTITY & set(self.changed))
        )

    def to_json(self) -> dict[str, Any]:
        """The environment as programs read it."""
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
            "base": self._base(),
            "action": self.action,
            "changed": list(self.changed),
            "note": self.note,
            "index": _text(self.image) if len(target.platforms) > 1 else None,
            "platforms": {
                platform: {
                    "lock": str(locked.identity),
                    "image": _text(self.images[platform]),
                    "base": _text(locked.lock.base.manifest),
                }
                for platform, locked in target.platforms.items()
            },
            "packages": {
                "added": [c.to_json() for c in self.packages if c.kind == "added"],
                "removed": [c.to_json() for c in self.packages if c.kind == "removed"],
                "changed": [c.to_json() for c in self.packages if c.kind == "changed"],
            },
        }

    def _base(self) -> dict[str, Any]:
        """The first platform's base; ``available`` is what its tag means, where not taken."""
        first = self.target.first
        before, available = self.base_before, first.available
        return {
            "reference": first.lock.base.reference,
            "digest": _text(first.lock.base.manifest),
            "previous": None if before is None else _text(before.manifest),
            "available": None if available is None else _text(available.manifest),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that apply will do, and nothing else. ``steps`` holds kept nodes too."""

    environments: tuple[EnvironmentChange, ...]
    steps: tuple[Step, ...]
    graph: BuildGraph
    diagnostics: tuple[Diagnostic, ...] = ()
    generation: str = ""
    pulls: Mapping[NodeKey, Digest] = field(default_factory=dict)
    """Final images that come out of the registry, and what they are there."""

    step_pulls: Mapping[NodeKey, Digest] = field(default_factory=dict)
    """Steps of a builder that come out of the registry with all before them, and from which
    artifact there."""

    complete: bool = True
    """Nothing was left out because the registry could not be asked."""

    borrowed: tuple[Borrowed, ...] = ()
    """Environments of registries' catalogues that jobs use, and that are not here."""

    @property
    def pushed(self) -> tuple[EnvironmentChange, ...]:
        """The environments whose version goes to the registry."""
        names = {name for s in self.steps if s.action == "push" for name in s.environments}
        return tuple(change for change in self.environments if change.target.name in names)

    @property
    def changes(self) -> bool:
        """Apply would do something."""
        return any(step.action != "keep" for step in self.steps)

    @property
    def needs_builder(self) -> tuple[Step, ...]:
        """The steps that a builder has to run."""
        return tuple(s for s in self.steps if s.kind in BUILT_KINDS and s.action == "build")

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
    changes = []
    for target in targets:
        change = change_of(target, inventory)
        if change.is_refused:
            problems.append(version_taken(target, change))
            continue  # nothing of it is done: not its pins, layers or names
        changes.append(change)
        if (remark := archived(change, inventory)) is not None:
            problems.append(remark)
        if change.action != "no-op" and lacks_libc(target):
            problems.append(no_libc(target))
    graph = graph.restricted([change.target.name for change in changes])
    problems += link_script_warnings(graph, inventory.link_scripts)
    moved = [package for change in changes for package in change.packages]
    bases = {
        locked.lock.base.manifest: before
        for change in changes
        for platform, locked in change.target.platforms.items()
        if locked.lock.base.manifest is not None
        and (before := base_before(change.target, platform, inventory)) is not None
    }
    bases |= {
        now.manifest: before
        for change in changes
        for locked in change.target.platforms.values()
        for before, now in locked.moved
        if now.manifest is not None
    }
    steps = [step for change in changes for step in lock_steps(change.target)]
    nodes = node_steps(graph, inventory, moved, frozenset(replace), bases)
    steps += nodes.steps
    steps += [_tag_step(change) for change in changes]
    pushes = [step for change in changes if (step := push_step(change, inventory)) is not None]
    steps += pushes
    view = inventory.registry
    return Plan(
        tuple(changes),
        tuple(steps),
        graph,
        tuple(problems),
        inventory.generation,
        nodes.pulls,
        nodes.step_pulls,
        view is None or not view.offline or all(_is_whole(c, inventory) for c in changes),
    )


def change_of(target: Target, inventory: Inventory) -> EnvironmentChange:
    """What happens to one environment, given what is there."""
    latest = inventory.latest.get(target.name)
    taken = inventory.taken.get(target.name, {})
    asked = target.spec.version
    if asked is not None and target.spec.anonymous:
        asked = _anonymous_version(target, asked, taken, inventory)
    compared = taken.get(asked) if asked is not None else latest
    changed = () if compared is None else _differences(target, compared, latest, inventory)
    if asked in inventory.deleted.get(target.name, ()) and not set(changed) & IDENTITY:
        compared, changed = None, ()  # what was deleted, and no other, may come back
    if compared is None:
        action: Literal["no-op", "create", "update"] = "create" if latest is None else "update"
        version = asked if asked is not None else _next_version(taken)
    elif not changed:
        action, version = "no-op", compared.version
    elif asked is not None or not set(changed) & IDENTITY:
        action, version = "update", compared.version
    else:
        action, version = "update", _next_version(taken)
    packages: tuple[PackageChange, ...] = ()
    for platform, locked in target.platforms.items():
        before = inventory.previous_locks.get(target.name, {}).get(platform)
        if before is not None:
            packages = compare_packages(before.packages, locked.lock.packages)
        break
    images = {p: inventory.images.get(locked.image) for p, locked in target.platforms.items()}
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
        compared,
        note,
        base_before(target, next(iter(target.platforms)), inventory),
    )


def _differences(
    target: Target, record: VersionRecord, latest: VersionRecord | None, inventory: Inventory
) -> tuple[str, ...]:
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
    if not changed and record == latest and target.name in inventory.unnamed:
        changed.append("name")
    spec = target.spec
    said = (record.description or None, dict(record.tags))
    if not changed and said != (spec.description or None, dict(spec.tags)):
        changed.append("metadata")
    return tuple(changed)


def _anonymous_version(
    target: Target, digest: str, taken: Mapping[str, VersionRecord], inventory: Inventory
) -> str:
    """The digest itself; ``DIGEST-2``, … where its lock was moved since it was registered."""
    version, count = digest, 1
    while (
        version in taken and set(_differences(target, taken[version], None, inventory)) & IDENTITY
    ):
        count += 1
        version = f"{digest}-{count}"
    return version


def _next_version(taken: Mapping[str, VersionRecord]) -> str:
    numbers = [int(v) for v in taken if v.isdecimal() and v.isascii() and len(v) < 19]
    return str(max(numbers, default=0) + 1)


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


def _is_whole(change: EnvironmentChange, inventory: Inventory) -> bool:
    view = inventory.registry
    return view is not None and change.target.name in view.whole


def push_step(change: EnvironmentChange, inventory: Inventory) -> Step | None:
    """The step that brings a version into the registry; None where it is there, or none is."""
    view = inventory.registry
    if view is None or view.offline or _is_whole(change, inventory):
        return None
    target = change.target
    key = node_key("push", {"name": target.name, "version": change.version, "image": target.image})
    size: int | None = view.sizes.get(target.name)
    reason = "not in the registry"
    if view.silent:
        reason = "not known to be in the registry"
    elif target.image in view.images:
        reason, size = "the image is in the registry, not under this version", 0
    name = f"{target.name}:{change.version}"
    return Step(key, "image", name, "push", reason, size, (target.name,))
