"""Find the lock of an environment: committed file, store, registry, or else a solve.

The order is fixed: what was pinned once is found again before anything is asked
of a channel, so a channel that moved on, or is gone, changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from envgraph.errors import Diagnostic, SourceLocation
from envgraph.lock.contract import pin_key_of
from envgraph.lock.pins import KnownLockfile, Pins
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedBase, LockedEnvironment
from envgraph.model.names import escape_name
from envgraph.model.spec import EnvironmentSpec
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError

if TYPE_CHECKING:
    from envgraph.lock.images import RegistryResolver, ResolvedBase

Origin = Literal["committed", "edited", "store", "registry", "new"]


class PinSource(Protocol):
    """Where other machines leave their pins."""

    def find(self, definition: Digest, pin_key: Digest, /) -> LockedEnvironment | None:
        """The lock that holds for a pin key; None where none is known."""
        ...


@dataclass(frozen=True, slots=True)
class FoundLock:
    """A lock and where it was found. ``pinned``: the store knows it.

    ``documents``: manifest and config of a base that was asked for just now, by digest.
    """

    lock: LockedEnvironment
    origin: Origin
    pinned: bool
    documents: Mapping[Digest, bytes] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class FoundLocks:
    """The locks of one environment by platform, in the asked order.

    ``file_current``: the committed lockfile holds exactly these locks.
    """

    locks: Mapping[str, FoundLock]
    file_current: bool
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def documents(self) -> dict[Digest, bytes]:
        """Manifests and configs of the bases that were asked for just now."""
        return {
            digest: data for item in self.locks.values() for digest, data in item.documents.items()
        }


@dataclass(frozen=True, slots=True)
class _Committed:
    """The lockfile. ``known``: this store recorded exactly these bytes, and holds their locks."""

    locks: Mapping[str, LockedEnvironment] = field(default_factory=dict)
    edited: bool = False
    known: bool = False
    diagnostics: tuple[Diagnostic, ...] = ()


def lockfile_path(root: str | Path, name: str) -> Path:
    """``locks/<name>.conda-lock.yml`` below the workspace, the name escaped."""
    return Path(root) / "locks" / f"{escape_name(name)}.conda-lock.yml"


def lock_sources(spec: EnvironmentSpec, lockfile: Path) -> tuple[str, ...]:
    """The files that were locked, relative to the lockfile's folder, for people."""
    folder = lockfile.parent
    return tuple(Path(os.path.relpath(name, folder)).as_posix() for name in spec.inputs)


class LockFinder:
    """Finds or makes the locks of a workspace's environments.

    ``saved`` are locks that a saved plan solved, by the text of their pin key.
    Nothing is kept: apply records what was new.
    """

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        offline: bool,
        now: datetime,
        saved: Mapping[str, LockedEnvironment] | None = None,
        bases: RegistryResolver | None = None,
        shared: PinSource | None = None,
    ) -> None:
        """Bind the parts; opens nothing. ``bases`` resolves base images in registries.

        ``shared``: the pins of other machines, asked where neither file nor store has one.
        """
        self._config = config
        self._store = store
        self._pins = Pins(store, config.id)
        self._offline = offline
        self._now = now
        self._saved = saved or {}
        self._bases = bases
        self._shared = shared

    def find(
        self, spec: EnvironmentSpec, definition: Digest, platforms: Sequence[str]
    ) -> FoundLocks:
        """The lock of every platform, solved only where none is known.

        Raises ResolveError, FetchError or OfflineError where a solve gave none.
        """
        committed = self._committed(spec.name)
        found: dict[str, FoundLock] = {}
        diagnostics = list(committed.diagnostics)
        for platform in platforms:
            key = pin_key_of(spec, platform, self._config, definition)
            lock = self._known(key, platform, committed) or self._shared_pin(definition, key)
            if lock is None:
                previous = committed.locks.get(platform)
                lock, more = self._solve(spec, definition, platform, previous)
                diagnostics += more
            found[platform] = lock
        current = not committed.edited and {
            platform: item.lock for platform, item in found.items()
        } == dict(committed.locks)
        if committed.edited:
            diagnostics.append(_edited(lockfile_path(self._config.root, spec.name)))
        return FoundLocks(found, current, tuple(diagnostics))

    def check(
        self, spec: EnvironmentSpec, definition: Digest, platforms: Sequence[str]
    ) -> Literal["unchanged", "missing", "stale"]:
        """Whether the committed lockfile answers the definition; solves nothing."""
        committed = self._committed(spec.name)
        if not committed.locks:
            return "missing"
        for platform in platforms:
            lock = committed.locks.get(platform)
            if lock is None or lock.pin_key != pin_key_of(spec, platform, self._config, definition):
                return "stale"
        return (
            "stale" if committed.edited or len(committed.locks) != len(platforms) else "unchanged"
        )

    def committed_locks(self, name: str) -> Mapping[str, LockedEnvironment]:
        """The locks in the committed lockfile; empty without one."""
        return self._committed(name).locks

    def update(
        self, spec: EnvironmentSpec, lock: LockedEnvironment, names: frozenset[str]
    ) -> tuple[FoundLock, tuple[Diagnostic, ...]]:
        """A new generation of a lock in which only ``names`` (and what they force) moved."""
        return self._solve(spec, lock.definition, lock.platform, lock, lock.base, names)

    def _known(self, key: Digest, platform: str, committed: _Committed) -> FoundLock | None:
        pinned = self._pins.find(key)
        lock = committed.locks.get(platform)
        if lock is not None and lock.pin_key == key:
            # Two environments of one definition may have locks of different days: what this
            # store recorded for the file is settled, whichever of them the pin names.
            settled = committed.known or pinned == lock
            if committed.edited and not settled:
                return FoundLock(lock, "edited", False)
            return FoundLock(lock, "committed", settled)
        if str(key) in self._saved:
            return FoundLock(self._saved[str(key)], "new", False)
        if pinned is not None:
            return FoundLock(pinned, "store", True)
        return None

    def _shared_pin(self, definition: Digest, key: Digest) -> FoundLock | None:
        lock = None if self._shared is None else self._shared.find(definition, key)
        return None if lock is None else FoundLock(lock, "registry", False)

    def _committed(self, name: str) -> _Committed:
        path = lockfile_path(self._config.root, name)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return _Committed()
        known = self._pins.known_file(name)
        if known is not None and known.file == Digest.of(data):
            locks = self._remembered(known)
            if locks is not None:
                return _Committed(locks, known=True)
        from envgraph.lock.lockfile import read_lockfile

        content = read_lockfile(path)
        return _Committed(content.locks, content.edited, False, tuple(content.diagnostics))

    def _remembered(self, known: KnownLockfile) -> dict[str, LockedEnvironment] | None:
        try:
            return {platform: self._pins.read(record) for platform, record in known.locks.items()}
        except StoreError:
            return None

    def _solve(
        self,
        spec: EnvironmentSpec,
        definition: Digest,
        platform: str,
        previous: LockedEnvironment | None,
        base: LockedBase | None = None,
        update: frozenset[str] = frozenset(),
    ) -> tuple[FoundLock, tuple[Diagnostic, ...]]:
        from envgraph.lock.keep import StoredPackages
        from envgraph.lock.resolve import lock_environment

        if previous is not None and previous.base.reference == (spec.image or "scratch"):
            # A change of packages is no reason to take another base (`base_images: freeze`).
            base = base or previous.base
        resolved = None
        if base is None:
            resolved = self._resolve_base(spec, platform)
            base = resolved.locked
        outcome = lock_environment(
            spec,
            platform,
            self._config,
            base=base,
            definition=definition,
            previous=previous,
            update=None if previous is None else update,
            offline=self._offline,
            now=self._now,
            packages=StoredPackages(self._store),
        )
        said = outcome.diagnostics
        if not update:  # the plan lists every change; nobody asked for an update
            said = tuple(d for d in said if d.code != "update-moved")
        if resolved is None:
            return FoundLock(outcome.lock, "new", False), said
        found = FoundLock(outcome.lock, "new", False, resolved.documents)
        return found, (*resolved.remarks, *said)

    def _resolve_base(self, spec: EnvironmentSpec, platform: str) -> ResolvedBase:
        from envgraph.lock.images import resolve_base

        image = spec.image or "scratch"
        return resolve_base(image, spec.image_path, platform, registry=self._bases)


def _edited(path: Path) -> Diagnostic:
    return Diagnostic(
        "lock-edited",
        f"{path.name} was edited by hand",
        "its pins are a new generation: apply records them and writes the file anew",
        SourceLocation(str(path)),
        "to go back, restore the file from version control, or delete it",
        "warning",
    )
