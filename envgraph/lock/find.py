"""Find the lock of an environment: committed file, store, registry, or else a solve.

The order is fixed: what was pinned once is found again before anything is asked
of a channel, so a channel that moved on, or is gone, changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from envgraph.errors import Diagnostic, SourceLocation
from envgraph.lock.contract import pin_key_of
from envgraph.lock.follow import BaseFollower, Mode, MovingBases, SavedLocks, has_moved
from envgraph.lock.make import LockMaker
from envgraph.lock.pins import KnownLockfile, Pins
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedBase, LockedEnvironment, Move, moved_bases
from envgraph.model.names import escape_name
from envgraph.model.spec import EnvironmentSpec
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError

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
    left: LockedBase | None = None
    """The pinned base that this lock leaves for what its tag means now."""

    available: LockedBase | None = None
    """What the base's tag means now, where that was found and is not taken."""

    moved: tuple[Move, ...] = ()
    """Where this lock leaves a pinned one: every image that is another one now."""


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
    """The files that were locked, relative to the lockfile's folder, for people.

    Of a build context and of folders that steps copy, the folder alone (and the Dockerfile):
    the tree's digest says the rest, and may cover ten thousand files.
    """
    folder = lockfile.parent
    trees = [f"{s.folder}/{item.path}" for s in spec.docker_steps for item in s.inputs]
    kept = set()
    if spec.build is not None and spec.build.folder:
        trees.append(spec.build.folder)
        kept.add(f"{spec.build.folder}/{spec.build.dockerfile_path}")
    below = tuple(f"{tree}/" for tree in trees)
    names = (name for name in spec.inputs if name in kept or not name.startswith(below))
    return tuple(_shown(os.path.relpath(name, folder)) for name in names)


def _shown(path: str) -> str:
    """A path as text: bytes that are no UTF-8 are written out."""
    return os.fsencode(Path(path).as_posix()).decode("utf-8", "backslashreplace")


class LockFinder:
    """Finds or makes the locks of a workspace's environments.

    ``saved`` are the locks of a saved plan. Nothing is kept: apply records what was new.
    """

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        offline: bool,
        now: datetime,
        saved: SavedLocks | None = None,
        bases: Callable[[], MovingBases] | None = None,
        moving: Mode = "freeze",
        shared: PinSource | None = None,
    ) -> None:
        """Bind the parts; opens nothing.

        ``bases`` gives what resolves base images in registries; ``moving`` says what to
        do about their tags when they have moved. A saved plan has settled that.
        ``shared``: the pins of other machines, asked where neither file nor store has one.
        """
        self._config = config
        self._store = store
        self._pins = Pins(store, config.id)
        self._offline = offline
        self._now = now
        self._saved = saved or SavedLocks()
        mode: Mode = "freeze" if saved is not None else moving
        self._follower = BaseFollower(mode, bases, offline=offline, now=now)
        self._bases = bases
        self._shared = shared
        self._maker = LockMaker(config, store, offline=offline, now=now, bases=bases)

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
            lock = self._known(spec.name, key, platform, committed)
            lock = lock or self._shared_pin(definition, key)
            if lock is None:
                previous = committed.locks.get(platform)
                around = [*filter(None, [previous]), *(item.lock for item in found.values()),
                          *committed.locks.values()]  # fmt: skip
                context = next((known.context for known in around if known.context), None)
                made = self._maker.make_once(spec, key, definition, platform, previous, context)
                lock = FoundLock(made.lock, "new", False, made.documents)
                diagnostics += made.remarks
            lock, more = self._moved(spec, lock)
            diagnostics += more
            found[platform] = lock
        current = not committed.edited and {
            platform: item.lock for platform, item in found.items()
        } == dict(committed.locks)
        if committed.edited:
            diagnostics.append(_edited(lockfile_path(self._config.root, spec.name)))
        return FoundLocks(found, current, tuple(diagnostics))

    def known(
        self, spec: EnvironmentSpec, definition: Digest, platforms: Sequence[str]
    ) -> FoundLocks | None:
        """The locks that are pinned; None where one would have to be solved, or was edited."""
        committed = self._committed(spec.name)
        found: dict[str, FoundLock] = {}
        for platform in platforms:
            key = pin_key_of(spec, platform, self._config, definition)
            lock = self._known(spec.name, key, platform, committed)
            if lock is None or lock.origin == "edited":
                return None
            found[platform] = lock
        current = {platform: item.lock for platform, item in found.items()}
        return FoundLocks(found, current == dict(committed.locks))

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
        made = self._maker.make(spec, lock.definition, lock.platform, lock, lock.base, names)
        return FoundLock(made.lock, "new", False, made.documents), made.remarks

    def update_base(
        self, spec: EnvironmentSpec, found: FoundLock
    ) -> tuple[FoundLock, tuple[Diagnostic, ...]]:
        """The same packages on what the base's reference means now, if that is another base."""
        from envgraph.lock.follow import rebase_lock

        bases = None if self._bases is None else self._bases()
        rebased = rebase_lock(
            found.lock,
            now=self._now,
            registry=bases,
            reference=spec.image or "scratch",
            image_path=spec.image_path,
        )
        if rebased.lock == found.lock:
            return found, ()
        base = rebased.base
        documents = {**found.documents, **base.documents}
        moved = moved_bases(found.lock, rebased.lock)
        return FoundLock(
            rebased.lock, "new", False, documents, found.lock.base, moved=moved
        ), base.remarks

    def update_context(
        self, spec: EnvironmentSpec, found: FoundLock
    ) -> tuple[FoundLock, tuple[Diagnostic, ...]]:
        """The build context as its branch, tag or address has it now, if that is another one.

        Images that its Dockerfile named before stay as they are pinned.
        """
        lock = found.lock
        if lock.context is None or lock.context.origin is None:
            return found, ()
        made = self._maker.make(
            spec, lock.definition, lock.platform, lock, context=lock.context, update_context=True
        )
        if made.lock.context == lock.context and made.lock.images == lock.images:
            return found, made.remarks
        documents = {**found.documents, **made.documents}
        return FoundLock(made.lock, "new", False, documents), made.remarks

    def _moved(
        self, spec: EnvironmentSpec, found: FoundLock
    ) -> tuple[FoundLock, tuple[Diagnostic, ...]]:
        """The lock on its moved base, or with a remark about it, as the workspace wants."""
        if found.origin == "edited":
            return found, ()
        rebased, remarks = self._follower.look(found.lock)
        if rebased is None:
            return found, remarks
        before, now = found.lock.base, rebased.lock.base
        moved = moved_bases(found.lock, rebased.lock)
        if self._follower.mode == "follow":
            documents = {**found.documents, **rebased.base.documents}
            return FoundLock(rebased.lock, "new", False, documents, before, moved=moved), remarks
        available = None if now.manifest == before.manifest else now
        if not moved:  # an index that names the same image: nothing to ask about
            return found, remarks
        return replace(found, available=available), (*remarks, has_moved(spec, moved))

    def _known(
        self, name: str, key: Digest, platform: str, committed: _Committed
    ) -> FoundLock | None:
        pinned = self._pins.find(key)
        lock = committed.locks.get(platform)
        settled_move = self._saved.moves.get((name, key))
        if settled_move is not None:
            before = lock or pinned
            documents = self._saved.documents_of(settled_move.base)
            left = None if before is None else before.base
            moved = () if before is None else moved_bases(before, settled_move)
            return FoundLock(settled_move, "new", False, documents, left, moved=moved)
        if lock is not None and lock.pin_key == key:
            # Two environments of one definition may have locks of different days: what this
            # store recorded for the file is settled, whichever of them the pin names.
            settled = committed.known or pinned == lock
            if committed.edited and not settled:
                return FoundLock(lock, "edited", False)
            return FoundLock(lock, "committed", settled)
        if key in self._saved.solved:
            saved = self._saved.solved[key]
            return FoundLock(saved, "new", False, self._saved.documents_of(saved.base))
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


def _edited(path: Path) -> Diagnostic:
    return Diagnostic(
        "lock-edited",
        f"{path.name} was edited by hand",
        "its pins are a new generation: apply records them and writes the file anew",
        SourceLocation(str(path)),
        "to go back, restore the file from version control, or delete it",
        "warning",
    )
