"""What is there: an observation of the store, made by ``refresh``, read by ``plan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envgraph.model.canonical import NodeKey
from envgraph.model.locked import LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph_store.digest import Digest


@dataclass(frozen=True, slots=True)
class RegistryView:
    """What the workspace's registry holds of what a plan wants to know."""

    images: Mapping[NodeKey, Digest] = field(default_factory=dict)
    """Final images that it has, of those that were asked for, by their nodes' keys."""

    steps: Mapping[NodeKey, Digest] = field(default_factory=dict)
    """Artifacts with what builders made, of steps that were asked for: the last of each
    environment that is there, whose image is not."""

    trusts_steps: bool = True
    """What it says that steps became is taken."""

    whole: frozenset[str] = frozenset()
    """Environments whose registered version is there, tag and all."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of our layers in an environment's image, by its name: what is sent at most."""

    silent: str = ""
    """Why it was not asked, or gave no answer: what is whole is remembered then."""

    offline: bool = False
    """It may not be asked: nothing is pushed or pulled."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the store holds of what a plan wants to know.

    ``built``: nodes whose result is whole. ``images``: the digests of image nodes
    that are built, or that can be computed because every layer is known.
    ``latest`` and ``taken``: versions by environment name, archived ones too; ``deleted``:
    those of ``taken`` that were deleted. ``previous_locks``: the
    locks of the latest versions, by name and platform. ``link_scripts``: what known
    layers' packages would run when they are installed, and never run in an image.
    """

    built: frozenset[NodeKey] = frozenset()
    images: Mapping[NodeKey, Digest] = field(default_factory=dict)
    latest: Mapping[str, VersionRecord] = field(default_factory=dict)
    taken: Mapping[str, Mapping[str, VersionRecord]] = field(default_factory=dict)
    deleted: Mapping[str, frozenset[str]] = field(default_factory=dict)
    previous_locks: Mapping[str, Mapping[str, LockedEnvironment]] = field(default_factory=dict)
    link_scripts: Mapping[NodeKey, tuple[str, ...]] = field(default_factory=dict)
    unnamed: frozenset[str] = frozenset()
    """Environments whose newest image has lost its name in the layout's index."""

    archived: Mapping[str, bool] = field(default_factory=dict)
    """Environments whose newest version is hidden; True: with the whole environment."""

    generation: str = ""
    registry: RegistryView | None = None
    """None where the workspace has no registry."""
