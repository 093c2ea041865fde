"""What a pull is asked for: images and results of steps, with all that decides them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envgraph.image.nodes import ImageNodes
from envgraph.model.canonical import NodeKey
from envgraph.model.locked import BaseLayer, LockedEnvironment
from envgraph.model.nodes import Node
from envgraph.model.oci import Descriptor
from envgraph_store import Digest


@dataclass(frozen=True, slots=True)
class Platform:
    """One platform of what is pulled: all that decides its image, known beforehand."""

    lock: LockedEnvironment
    runtime: Mapping[str, Any]
    nodes: ImageNodes


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image (or an index over several) by its key, and where it lies.

    ``digest``: what the key's tag meant when it was asked, whatever it means by now.
    """

    key: NodeKey
    repository: str
    digest: Digest
    platforms: Mapping[str, Platform]
    images: Mapping[str, Digest] = field(default_factory=dict)
    """What each platform's image has to be, where a record says it."""

    title: str = ""
    """``train:3``, for people."""

    @property
    def nodes_in(self) -> frozenset[NodeKey]:
        """The nodes whose results are in it."""
        return frozenset(n.key for p in self.platforms.values() for n in p.nodes.nodes)


@dataclass(frozen=True, slots=True)
class WantedSteps:
    """The beginning of a lock's steps, up to and with ``key``; ``digest`` is the artifact's."""

    key: NodeKey
    digest: Digest
    lock: LockedEnvironment
    nodes: ImageNodes
    title: str = ""
    """The last step, for people."""

    @property
    def keys(self) -> tuple[NodeKey, ...]:
        """The steps, in order."""
        built = self.nodes.built
        return built[: built.index(self.key) + 1]

    @property
    def nodes_in(self) -> frozenset[NodeKey]:
        """The nodes whose results are in it."""
        return frozenset([self.nodes.base, *self.keys])


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to fetch: of ours, with its node, or of a base, or of what a builder made."""

    repository: str
    descriptor: Descriptor
    node: Node
    ours: ImageNodes | None = None
    title: str = ""
    base: BaseLayer | None = None
