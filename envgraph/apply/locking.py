"""The verb ``lock``: write, compare or update the committed lockfiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from envgraph.apply.pinning import ToPin, pin
from envgraph.diff.packages import PackageChange, compare_packages
from envgraph.errors import Diagnostic, EnvgraphError
from envgraph.lock.find import FoundLock, FoundLocks, LockFinder, PinSource, lockfile_path
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest
from envgraph.model.spec import EnvironmentSpec
from envgraph.refresh.desired import Loaded, about_environment
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.lock.images import RegistryResolver

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

    def to_json(self) -> dict[str, Any]:
        """The entry of ``lock --json``."""
        return {
            "name": self.name,
            "path": str(self.path),
            "status": self.status,
            "changes": [change.to_json() | {"change": change.kind} for change in self.changes],
        }


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


def lock_environments(
    config: WorkspaceConfig,
    store: Store,
    loaded: Loaded,
    *,
    update: frozenset[str],
    check: bool,
    offline: bool,
    now: datetime,
    bases: RegistryResolver | None = None,
    shared: PinSource | None = None,
) -> LockReport:
    """Lock every environment; one that fails stops no other.

    ``check`` writes and solves nothing. ``update`` moves only the named packages, in
    every lock that has them.
    """
    problems = list(loaded.diagnostics)
    entries: list[LockEntry] = []
    for spec in loaded.specs:
        if spec.build is not None:
            continue
        finder = LockFinder(
            config,
            store,
            offline=offline,
            now=now,
            bases=bases,
            shared=None if check else shared,
        )
        try:
            if check:
                entry, more = _check(config, finder, spec)
            else:
                entry, more = _write(config, store, finder, spec, update)
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
    update: frozenset[str],
) -> tuple[LockEntry, Sequence[Diagnostic]]:
    path = lockfile_path(config.root, spec.name)
    platforms = spec.platforms or config.platforms
    found = finder.find(spec, definition_digest(spec), platforms)
    before = finder.committed_locks(spec.name) or {p: i.lock for p, i in found.locks.items()}
    problems = list(found.diagnostics)
    if any(item.origin == "edited" for item in found.locks.values()):
        return LockEntry(spec.name, path, "stale"), problems  # apply may take it, once it fits
    if update:
        moved: dict[str, FoundLock] = {}
        for platform, item in found.locks.items():
            names = update & {package.name for package in item.lock.packages}
            if not names:
                moved[platform] = item
                continue
            fresh, more = finder.update(spec, item.lock, names)
            problems += more
            moved[platform] = item if fresh.lock == item.lock else fresh
        found = FoundLocks(moved, found.file_current and moved == dict(found.locks))
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
    return LockEntry(spec.name, path, "written", changes, held), problems
