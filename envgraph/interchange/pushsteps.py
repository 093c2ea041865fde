"""What builders made of steps, into ``envgraph/steps``, where any environment finds it.

A step's tag is never moved: who has pulled it stands on it. So a chain's artifact is put under
the keys that have no tag yet, in the order of the steps, and there is nothing to send where
the last one has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from envgraph.interchange.chain import read_chain
from envgraph.interchange.parcel import Parcel
from envgraph.model.canonical import NodeKey
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.oci import LAYER_TYPES, OCI_IMAGE_MANIFEST, Descriptor
from envgraph.registry.names import STEPS_REPOSITORY, key_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.steps import known_beginning, steps_manifest
from envgraph_store import Digest


@dataclass(frozen=True, slots=True)
class StepsShipment:
    """One platform's chain on its way: the keys that it gets tags for, and what it consists of."""

    keys: tuple[NodeKey, ...]
    document: bytes
    manifest: bytes
    layers: tuple[BaseLayer, ...]
    base: LockedBase
    own: frozenset[Digest] = field(default_factory=frozenset)
    """Of ``layers``, those of the base."""

    @property
    def described(self) -> Descriptor:
        """The document's blob."""
        return Descriptor("", Digest.of(self.document), len(self.document))

    def put(self, remote: Remote) -> None:
        """Name it; all that it consists of is there."""
        repository = remote.repository(STEPS_REPOSITORY)
        for key in self.keys:
            repository.put_manifest(key_tag(key), self.manifest, OCI_IMAGE_MANIFEST)


def look_at_steps(remote: Remote, parcel: Parcel, *, again: bool = False) -> list[StepsShipment]:
    """What of a version's steps is not there. ``again``: all of it is put, and looked at.

    Asks once for each platform whose steps are all there; else for as many as a search takes.
    """
    return list(_lacking(remote, parcel, again))


def _lacking(remote: Remote, parcel: Parcel, again: bool) -> Iterator[StepsShipment]:
    repository = remote.repository(STEPS_REPOSITORY)
    for platform, data in parcel.contents.steps.items():
        lock, nodes = parcel.contents.locks[platform], parcel.nodes[platform]
        chain = read_chain(data, lock, nodes.built, parcel.title)
        keys = [result.key for result in chain.results]
        there = 0
        if not again:
            there = known_beginning(keys, lambda key: repository.resolve(key_tag(key)) is not None)
        if there == len(keys):
            continue
        layers = tuple(chain.needed(lock.base).values())
        manifest = steps_manifest(
            data,
            [
                Descriptor(LAYER_TYPES[layer.media_type], layer.digest, layer.size)
                for layer in layers
            ],
        )
        own = frozenset(layer.digest for layer in lock.base.layers)
        yield StepsShipment(tuple(keys[there:]), data, manifest, layers, lock.base, own)
