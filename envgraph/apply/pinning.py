"""Locks made to last: blobs and pins in the store, then the committed lockfiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envgraph.lock.find import lock_sources, lockfile_path
from envgraph.lock.pins import KnownLockfile, Pins
from envgraph.model.config import WorkspaceConfig
from envgraph.model.documents import lock_bytes
from envgraph.model.locked import LockedEnvironment
from envgraph.model.spec import EnvironmentSpec
from envgraph_store import Digest, Store


@dataclass(frozen=True, slots=True)
class ToPin:
    """One environment's locks by platform. ``settled``: both pins and file hold them."""

    spec: EnvironmentSpec
    locks: Mapping[str, LockedEnvironment]
    pinned: bool
    file_current: bool
    documents: Mapping[Digest, bytes] = field(default_factory=dict)
    """Manifests and configs of bases that were asked for just now."""

    @property
    def settled(self) -> bool:
        """There is nothing to write."""
        return self.pinned and self.file_current


def pin(
    config: WorkspaceConfig, store: Store, environments: Mapping[str, ToPin]
) -> dict[str, dict[str, Digest]]:
    """Record every lock that is new; return the locks' blobs by environment and platform.

    The pins are one durable batch and come first: a lockfile never names a lock that
    the store could lose. Raises InputError when a lockfile cannot be written.
    """
    records = {
        name: {platform: Digest.of(lock_bytes(lock)) for platform, lock in item.locks.items()}
        for name, item in environments.items()
        if item.settled
    }
    new = {name: item for name, item in environments.items() if not item.settled}
    if not new:
        return records
    pins = Pins(store, config.id)
    documents = {digest: data for item in new.values() for digest, data in item.documents.items()}
    saved = pins.save({name: item.locks for name, item in new.items()}, documents.values())
    written = _write(config, new)
    files = {name: KnownLockfile(written[name], saved[name]) for name in new}
    pins.remember_files(files)
    return records | saved


def _write(config: WorkspaceConfig, environments: Mapping[str, ToPin]) -> dict[str, Digest]:
    """Write the lockfiles that are not current; the digests of all of them."""
    paths = {name: lockfile_path(config.root, name) for name in environments}
    current = {name for name, item in environments.items() if item.file_current}
    digests = {name: Digest.of(paths[name].read_bytes()) for name in current}
    stale = {name: item for name, item in environments.items() if name not in current}
    if stale:
        from envgraph.lock.lockfile import NewLockfile, write_lockfiles

        files = [
            NewLockfile(
                paths[name], tuple(item.locks.values()), lock_sources(item.spec, paths[name])
            )
            for name, item in stale.items()
        ]
        digests |= dict(zip(stale, write_lockfiles(files), strict=True))
    return digests
