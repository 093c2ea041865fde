"""Which layers a pull has to fetch: what its images and results of steps need, and is not here.

Layers of ours count as here when the store has recorded them for their node; those of bases
when the blob is here; those of steps when just that result is recorded, since else nobody has
seen that they unpack to their DiffIDs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from envgraph.errors import IntegrityError
from envgraph.image.nodes import ImageNodes, layer_title
from envgraph.image.steps import on_built
from envgraph.interchange.chain import Chain
from envgraph.interchange.wanted import Layer, Platform, Wanted, WantedSteps
from envgraph.model.canonical import NodeKey
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.nodes import Node
from envgraph.model.oci import Descriptor, Manifest
from envgraph.refresh.observe import Observer, base_blobs
from envgraph.registry.names import STEPS_REPOSITORY
from envgraph.registry.remotes import Remote
from envgraph_store import Digest, Store


class Needed:
    """Gathers the layers; every method may be called from any thread."""

    def __init__(self, store: Store, remote: Remote, *, whole_bases: bool) -> None:
        """Bind; nothing is needed yet."""
        self._store = store
        self._remote = remote
        self._whole_bases = whole_bases
        self._lock = threading.Lock()
        self._layers: dict[tuple[Digest, NodeKey], Layer] = {}

    def all(self) -> list[Layer]:
        """Each layer once."""
        return list(self._layers.values())

    def note_steps(self, wanted: WantedSteps, chain: Chain) -> None:
        """What results of steps need: all of a base on disk too, which lies with them."""
        base = wanted.lock.base
        self._note_built(chain, wanted.nodes, STEPS_REPOSITORY)
        if not base.in_registry:
            self._note_base(base, wanted.nodes, STEPS_REPOSITORY, chain.needed(base))

    def note_image(
        self,
        wanted: Wanted,
        platform: Platform,
        chain: Chain | None,
        manifest: Manifest,
        what: str,
    ) -> None:
        """What an image needs; IntegrityError when its layers are not those of lock and steps."""
        nodes = platform.nodes
        base = on_built(platform.lock, None if chain is None else chain.last).base
        below, ours = manifest.layers[: len(base.layers)], manifest.layers[len(base.layers) :]
        if [layer.digest for layer in below] != [layer.digest for layer in base.layers]:
            on = "its base is" if chain is None else "its base and the results of its steps are"
            raise wrong_image(what, f"{on} not what the lock and its record say")
        if len(ours) not in (len(nodes.layers), len(nodes.layers) + 1):
            raise wrong_image(what, f"it has {len(ours)} layers of ours, not {len(nodes.layers)}")
        by_key = {node.key: node for node in nodes.nodes}
        self._note(
            Layer(
                wanted.repository,
                descriptor,
                by_key[key],
                nodes,
                layer_title(by_key[key], by_key),
            )
            for key, descriptor in zip(nodes.layers, ours, strict=False)
        )
        if chain is not None:
            self._note_built(chain, nodes, wanted.repository)
        base = platform.lock.base
        needed = set(base_blobs(base))
        if self._whole_bases:
            layers = {layer.digest for layer in base.layers}
            needed |= layers - self._remote.repository(wanted.repository).missing(layers)
        self._note_base(base, nodes, wanted.repository, needed)

    def _note_base(
        self, base: LockedBase, nodes: ImageNodes, repository: str, needed: Iterable[Digest]
    ) -> None:
        node = next(node for node in nodes.nodes if node.key == nodes.base)
        title, wanted = f"a layer of {base.reference}", set(needed)
        below = [layer for layer in base.layers if layer.digest in wanted]
        self._note(_below(repository, layer, node, title) for layer in below)

    def _note_built(self, chain: Chain, nodes: ImageNodes, repository: str) -> None:
        """The layers of what a builder made; one that is here by another name is read again.

        So each is known to unpack to its DiffID, unless this store has recorded just that.
        """
        by_key = {node.key: node for node in nodes.nodes}
        observer = Observer(self._store)
        seen: set[Digest] = set()
        for result in chain.results:
            is_known = observer.built(result.key) == result.built
            layers = [layer for layer in result.built.layers if layer.digest not in seen]
            seen.update(layer.digest for layer in layers)
            if not is_known:
                node = by_key[result.key]
                made = [_below(repository, layer, node, node.name) for layer in layers]
                with self._lock:
                    for item in made:
                        self._layers.setdefault((item.descriptor.digest, item.node.key), item)

    def _note(self, found: Iterable[Layer]) -> None:
        observer = Observer(self._store)
        with self._lock:
            for layer in found:
                there = observer.layer(layer.node.key) if layer.ours else None
                if there is not None and there.digest == layer.descriptor.digest:
                    continue
                if layer.ours is None and self._store.blobs.has(layer.descriptor.digest):
                    continue
                self._layers.setdefault((layer.descriptor.digest, layer.node.key), layer)


def _below(repository: str, layer: BaseLayer, node: Node, title: str) -> Layer:
    described = Descriptor(layer.media_type, layer.digest, layer.size)
    return Layer(repository, described, node, title=title, base=layer)


def wrong_image(what: str, why: str) -> IntegrityError:
    """The error of whoever finds an image of a registry wrong."""
    return IntegrityError(
        f"{what}: {why}",
        code="registry-image",
        hint="do not trust that registry; nothing of the image was kept",
    )
