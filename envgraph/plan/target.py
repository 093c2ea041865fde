"""What should be: one environment with its locks and the graph nodes it ends in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from envgraph.model.canonical import NodeKey
from envgraph.model.locked import LockedBase, LockedEnvironment, Move
from envgraph.model.spec import EnvironmentSpec
from envgraph_store.digest import Digest

LockOrigin = Literal["committed", "edited", "store", "registry", "new"]


@dataclass(frozen=True, slots=True)
class LockedTarget:
    """The lock of one platform and where it was found."""

    lock: LockedEnvironment
    identity: Digest
    origin: LockOrigin
    image: NodeKey
    lockfile_current: bool = True
    """The committed lockfile holds this lock; False when apply has to write it."""

    documents: Mapping[Digest, bytes] = field(default_factory=dict, compare=False)
    """Manifest and config of a base that was asked for just now: kept with the lock."""

    left: LockedBase | None = None
    """The pinned base that this lock leaves for what its tag means now."""

    available: LockedBase | None = None
    """What the base's tag means now, where that was found and is not taken."""

    moved: tuple[Move, ...] = ()
    """Where a pinned lock is left: every image that is another one now."""


@dataclass(frozen=True, slots=True)
class Target:
    """One environment as desired. ``platforms`` keeps the workspace's order."""

    spec: EnvironmentSpec
    definition: Digest
    runtime: Digest
    platforms: Mapping[str, LockedTarget]
    image: NodeKey
    """The final node: the image, or the index over several platforms."""

    image_name: str
    pinned: bool = True
    """The store knows these pins; False when apply has to record them."""

    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The environment's name."""
        return self.spec.name

    @property
    def first(self) -> LockedTarget:
        """The first platform's lock."""
        return next(iter(self.platforms.values()))
