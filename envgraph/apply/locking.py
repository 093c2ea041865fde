"""The verb ``lock``: write, compare or update the committed lockfiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from envgraph.apply.pinning import ToPin, pin
from envgraph.diff.packages import PackageChange, compare_packages
from envgraph.errors import Diagnostic, EnvgraphError
from envgraph.lock.find import FoundLock, FoundLocks, LockFinder, PinSource, lockfile_path
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest
from envgraph.model.locked import ContextOrigin, LockedBase, LockedContext, Move
from envgraph.model.spec import EnvironmentSpec
from envgraph.refresh.desired import Loaded, about_environment
from envgraph.refresh.references import missing_references
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.lock.follow import MovingBases

Status = Literal["written", "unchanged", "missing", "stale"]


@dataclass(frozen=True, slots=True)
class LockEntry:
    """What became of one environment's lockfile, and which packages moved.

    ``packages`` are the names that the lock holds; empty where nothing was looked up.
    """

    name: str
    path: Path
    status: Status
    changes: tuple[PackageChange, ...] = ()
    packages: frozenset[str] = frozenset()
    moves: tuple[Move, ...] = ()
    """The images that moved, before and now: the base first."""

    context: tuple[ContextOrigin, ContextOrigin] | None = None
    """Where the build context comes from, when that moved: before and now."""

    def to_json(self) -> dict[str, Any]:
        """The entry of ``lock --json``."""
        bases = [
            {"reference": now.reference, "from": _text(before), "to": _text(now)}
            for before, now in self.moves
        ]
        return {
            "name": self.name,
            "path": str(self.path),
            "status": self.status,
            "changes": [change.to_json() | {"change": change.kind} for change in self.changes],
            "base": bases[0] if bases else None,
            "bases": bases,
            "context": None
            if self.context is None
            else {
                "address": self.context[1].address,
                "from": self.context[0].pinned,
                "to": self.context[1].pinned,
            },
        }


def _text(base: LockedBase) -> str | None:
    return None if base.manifest is None else str(base.manifest)


@dataclass(frozen=True, slots=True)
class LockReport:
    """All lockfiles, and every problem; ``good`` means exit 0."""

    entries: tuple[LockEntry, ...]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def good(self) -> bool:
        """No error, and with ``--check`` nothing missing or stale."""
        bad = any(d.severity == "error" for d in self.diagnostics)
        return not bad and all(e.status in ("written", "unchanged") for e in self.entries)


@dataclass(frozen=True, slots=True)
class _Update:
    """What shall move: packages by name, bases, build contexts."""

    packages: frozenset[str]
    base: bool
    context: bool


def lock_environments(
    config: WorkspaceConfig,
    store: Store,
    loaded: Loaded,
    *,
    update: frozenset[str],
    update_base: bool = False,
    update_context: bool = False,
    check: bool,
    offline: bool,
    now: datetime,
    bases: Callable[[], MovingBases] | None = None,
    shared: PinSource | None = None,
) -> LockReport:
    """Lock every environment; one that fails stops no other.

    ``check`` writes and solves nothing. ``update`` moves only the named packages, in
    every lock that has them; ``update_base`` takes what the bases' references mean now,
    ``update_context`` what the branches and addresses of build contexts do.
    """
    problems = [
        *loaded.diagnostics,
        *missing_references(config, store, loaded.references),
    ]
    entries: list[LockEntry] = []
    asked = _Update(update, update_base, update_context)
    finder = LockFinder(
        config, store, offline=offline, now=now, bases=bases, shared=None if check else shared
    )
    for spec in loaded.specs:
        try:
            if check:
                entry, more = _check(config, finder, spec)
            else:
                entry, more = _write(config, store, finder, spec, asked)
            entries.append(entry)
            problems += more
        except EnvgraphError as error:
            problems += (about_environment(spec, d) for d in error.diagnostics)
    held = frozenset[str]().union(*(entry.packages for entry in entries))
    problems += (_not_held(name) for name in sorted(update - held) if entries)
    return LockReport(tuple(entries), tuple(problems))


def _not_held(name: str) -> Diagnostic:
    return Diagnostic(
        "unknown-package",
        f"no lock here holds a package that is named {name!r}",
        hint="`envgraph show NAME -v` lists the packages of an environment",
    )


def _check(
    config: WorkspaceConfig, finder: LockFinder, spec: EnvironmentSpec
) -> tuple[LockEntry, Sequence[Diagnostic]]:
    path = lockfile_path(config.root, spec.name)
    status = finder.check(spec, definition_digest(spec), spec.platforms or config.platforms)
    problems: list[Diagnostic] = []
    if status != "unchanged":
        problems.append(
            Diagnostic(
                f"lock-{status}",
                f"the lockfile of {spec.name!r} is {status}",
                f"{path} does not hold what {spec.name!r} asks for now",
                spec.source,
                "run `envgraph lock` and commit the file",
            )
        )
    return LockEntry(spec.name, path, status), problems


def _write(
    config: WorkspaceConfig,
    store: Store,
    finder: LockFinder,
    spec: EnvironmentSpec,
    asked: _Update,
) -> tuple[LockEntry, Sequence[Diagnostic]]:
    path = lockfile_path(config.root, spec.name)
    platforms = spec.platforms or config.platforms
    found = finder.find(spec, definition_digest(spec), platforms)
    before = finder.committed_locks(spec.name) or {p: i.lock for p, i in found.locks.items()}
    problems = list(found.diagnostics)
    if any(item.origin == "edited" for item in found.locks.values()):
        return LockEntry(spec.name, path, "stale"), problems  # apply may take it, once it fits
    if asked.base:
        found, more = _each(found, lambda item: finder.update_base(spec, item))
        problems += more
    if asked.context:
        found, more = _each(found, lambda item: finder.update_context(spec, item))
        problems += more
    moves = next((item.moved for item in found.locks.values() if item.moved), ())
    if asked.packages:
        found, more = _each(found, lambda item: _updated(finder, spec, item, asked.packages))
        problems += more
    locks = {platform: item.lock for platform, item in found.locks.items()}
    held = frozenset(package.name for lock in locks.values() for package in lock.packages)
    pinned = all(item.pinned for item in found.locks.values())
    to_pin = ToPin(spec, locks, pinned, found.file_current, found.documents)
    pin(config, store, {spec.name: to_pin})
    if found.file_current:
        return LockEntry(spec.name, path, "unchanged", (), held), problems
    first = next(iter(locks))
    changes = (
        compare_packages(before[first].packages, locks[first].packages) if first in before else ()
    )
    context = (
        _moved_context(before[first].context, locks[first].context) if first in before else None
    )
    return LockEntry(spec.name, path, "written", changes, held, moves, context), problems


def _moved_context(
    before: LockedContext | None, now: LockedContext | None
) -> tuple[ContextOrigin, ContextOrigin] | None:
    one, two = (None if item is None else item.origin for item in (before, now))
    if one is None or two is None or one.pinned == two.pinned:
        return None
    return one, two


def _each(
    found: FoundLocks, change: Callable[[FoundLock], tuple[FoundLock, Sequence[Diagnostic]]]
) -> tuple[FoundLocks, list[Diagnostic]]:
    """Each platform's lock changed; those that stay are the same objects as before."""
    locks: dict[str, FoundLock] = {}
    problems: list[Diagnostic] = []
    for platform, item in found.locks.items():
        locks[platform], more = change(item)
        problems += more
    return FoundLocks(locks, found.file_current and locks == dict(found.locks)), problems


def _updated(
    finder: LockFinder, spec: EnvironmentSpec, item: FoundLock, update: frozenset[str]
) -> tuple[FoundLock, Sequence[Diagnostic]]:
    names = update & {package.name for package in item.lock.packages}
    if not names:
        return item, ()
    fresh, problems = finder.update(spec, item.lock, names)
    if fresh.lock == item.lock:
        return item, problems
    return replace(fresh, documents={**item.documents, **fresh.documents}), problems
