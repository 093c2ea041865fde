"""Images out of a registry, into the store, so that they count as built there.

What comes is trusted in nothing but the layers' bytes, and of those everything is
checked that can be: size and digest while they are read, what they hold by reading
them back (:mod:`envgraph.image.readback`), a base's layers by their DiffIDs. Then
the image is assembled anew, from the lock and those layers; unless that gives the
registry's manifest, byte for byte, nothing is kept. The nodes' keys come from the lock,
so no answer of a registry decides what a layer or an image counts as.

As with pushing, there are no threads and no loop here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from envgraph.errors import IntegrityError, PlatformError
from envgraph.image.assemble import StoredLayer, assemble_image
from envgraph.image.bases import copy_blob
from envgraph.image.manifest import image_index
from envgraph.image.nodes import ImageNodes, layer_title
from envgraph.image.readback import copy_layer
from envgraph.model.canonical import NodeKey
from envgraph.model.locked import BaseLayer, LockedEnvironment
from envgraph.model.nodes import Node
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    Descriptor,
    Index,
    Manifest,
    read_document,
)
from envgraph.refresh.observe import Observer, base_blobs, image_record, layer_record
from envgraph.registry.artifacts import (
    ENVIRONMENT_TYPE,
    EnvironmentRecord,
    fetch_parts,
    read_contents,
    read_environment,
)
from envgraph.registry.names import record_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import RetryingRepository
from envgraph_store import Digest, Store, Transaction

Count = Callable[[int], None]


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


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to fetch: of ours, with its node, or of a base."""

    repository: str
    descriptor: Descriptor
    node: Node
    ours: ImageNodes | None = None
    title: str = ""
    base: BaseLayer | None = None


@dataclass(slots=True)
class _Opened:
    """What was read of a wanted image: its documents, and which blob each layer is."""

    wanted: Wanted
    manifests: dict[str, tuple[bytes, Manifest]] = field(default_factory=dict)
    index: bytes = b""
    base_documents: dict[Digest, bytes] = field(default_factory=dict)


class Puller:
    """Pulls images of one registry into a store; every method may be called from any thread."""

    def __init__(self, store: Store, remote: Remote, *, whole_bases: bool = False) -> None:
        """Bind; asks nothing.

        ``whole_bases``: layers of bases that the store could do without come too, as far
        as the registry has them.
        """
        self._whole_bases = whole_bases
        self._store = store
        self._remote = remote
        self._lock = threading.Lock()
        self._opened: dict[NodeKey, _Opened] = {}
        self._known: dict[NodeKey, Mapping[Digest, bytes]] = {}
        self._layers: dict[tuple[Digest, NodeKey], Layer] = {}
        self._read: dict[NodeKey, StoredLayer] = {}
        self.bytes_fetched = 0

    # -- opening ---------------------------------------------------------

    def open(self, wanted: Wanted) -> None:
        """Read the manifests, and note the layers that the store lacks.

        NotFoundError when the registry no longer has the image, IntegrityError when
        its documents are not those of the lock.
        """
        if any(platform.nodes.built for platform in wanted.platforms.values()):
            raise PlatformError(
                f"{wanted.title or wanted.repository} has docker steps or is a build context, and"
                " such images are not pulled",
                code="pull-built",
                detail="Nothing here could tell whether the registry's layers are what the steps"
                " make.",
                hint="apply its environment file here: a builder makes it from the same lock",
            )
        repository = self._remote.repository(wanted.repository)
        opened = _Opened(wanted)
        final = repository.get_manifest(str(wanted.digest))
        what = f"{self._remote.title}: image {wanted.digest}"
        document = read_document(final.data, final.media_type, what)
        if isinstance(document, Index):
            opened.index = final.data
            self._open_index(repository, document, opened, what)
        elif len(wanted.platforms) == 1:
            [platform] = wanted.platforms
            opened.manifests[platform] = (final.data, document)
        if set(opened.manifests) != set(wanted.platforms):
            raise _wrong(what, "it is not for the platforms of the lock")
        for platform, (data, manifest) in opened.manifests.items():
            if wanted.images and wanted.images.get(platform) != Digest.of(data):
                raise _wrong(what, f"the image for {platform} is not the version's")
            self._note_layers(wanted, wanted.platforms[platform], manifest, what)
        self._base_documents(repository, opened)
        with self._lock:
            self._opened[wanted.key] = opened

    def _open_index(
        self, repository: RetryingRepository, index: Index, opened: _Opened, what: str
    ) -> None:
        from envgraph.image.manifest import platform_of

        by_platform = {str(entry.platform): entry for entry in index.manifests}
        for platform in opened.wanted.platforms:
            entry = by_platform.get(str(platform_of(platform)))
            if entry is None:
                continue
            data = repository.get_manifest(str(entry.digest))
            manifest = read_document(data.data, data.media_type, what)
            if isinstance(manifest, Manifest):
                opened.manifests[platform] = (data.data, manifest)

    def _note_layers(
        self, wanted: Wanted, platform: Platform, manifest: Manifest, what: str
    ) -> None:
        base, nodes = platform.lock.base, platform.nodes
        below, ours = manifest.layers[: len(base.layers)], manifest.layers[len(base.layers) :]
        if [layer.digest for layer in below] != [layer.digest for layer in base.layers]:
            raise _wrong(what, "its base is not the one of the lock")
        if len(ours) not in (len(nodes.layers), len(nodes.layers) + 1):
            raise _wrong(what, f"it has {len(ours)} layers of ours, not {len(nodes.layers)}")
        by_key = {node.key: node for node in nodes.nodes}
        found = [
            Layer(
                wanted.repository,
                descriptor,
                by_key[key],
                nodes,
                layer_title(by_key[key], by_key),
            )
            for key, descriptor in zip(nodes.layers, ours, strict=False)
        ]
        needed = set(base_blobs(base))
        if self._whole_bases:
            layers = {layer.digest for layer in base.layers}
            needed |= layers - self._remote.repository(wanted.repository).missing(layers)
        found += [
            Layer(
                wanted.repository,
                Descriptor(layer.media_type, layer.digest, layer.size),
                by_key[nodes.base],
                title=f"a layer of {base.reference}",
                base=layer,
            )
            for layer in base.layers
            if layer.digest in needed
        ]
        observer = Observer(self._store)
        with self._lock:
            for layer in found:
                there = observer.layer(layer.node.key) if layer.ours else None
                if there is not None and there.digest == layer.descriptor.digest:
                    continue
                if layer.ours is None and self._store.blobs.has(layer.descriptor.digest):
                    continue
                self._layers.setdefault((layer.descriptor.digest, layer.node.key), layer)

    def know(self, wanted: Wanted, documents: Mapping[Digest, bytes]) -> None:
        """Take documents of bases that came with a record: they need not be asked for."""
        with self._lock:
            self._known[wanted.key] = documents

    def _base_documents(self, repository: RetryingRepository, opened: _Opened) -> None:
        """Config and manifest of each base: from the store, else out of the record."""
        wanted = opened.wanted
        opened.base_documents |= self._known.get(wanted.key, {})
        missing = set()
        for platform in wanted.platforms.values():
            base = platform.lock.base
            named = [
                d
                for d in (base.config, base.manifest)
                if d is not None and d not in opened.base_documents
            ]
            lacking = self._store.blobs.missing(named)
            missing |= lacking
            for digest in named:
                if digest not in lacking:
                    data = self._store.blobs.read(digest, DOCUMENT_LIMIT)
                    opened.base_documents[digest] = data
        if missing:
            record = fetch_record(self._remote, repository, record_tag(wanted.key))
            opened.base_documents |= record.bases

    # -- layers ----------------------------------------------------------

    def layers(self) -> list[Layer]:
        """What has to be fetched, each blob once; call it when every image was opened."""
        return list(self._layers.values())

    def fetch(self, layer: Layer, batch: Transaction, count: Count) -> None:
        """Bring one layer into ``batch``; IntegrityError when anything about it is wrong.

        A blob that an earlier pull has left is read where it is. What node the layer
        belongs to is recorded with the image, when that has turned out to be right.
        """
        digest, size = layer.descriptor.digest, layer.descriptor.size
        what = f"{self._remote.title}: {layer.title or 'layer'} ({digest})"
        if self._store.blobs.has(digest):
            with self._store.blobs.open(digest) as body:
                self._copy(layer, body, lambda data: None, what)
            return
        repository = self._remote.repository(layer.repository)
        writer = batch.writer("blobs", expect=digest, size=size)

        def write(data: bytes) -> None:
            writer.write(data)
            count(len(data))

        with writer, repository.open_blob(digest, size) as body:
            self._copy(layer, body, write, what)
            writer.finish()
        with self._lock:
            self.bytes_fetched += size

    def _copy(
        self, layer: Layer, body: BinaryIO, write: Callable[[bytes], None], what: str
    ) -> None:
        if layer.ours is None:
            copy_blob(body, write, layer.base, what)
            return
        content = copy_layer(
            body,
            write,
            size=layer.descriptor.size,
            options=layer.ours.options,
            what=what,
            whiteouts=layer.node.kind == "root-layer",
        )
        listing = Digest.of(content.listing())
        stored = StoredLayer(layer.descriptor.digest, content, listing, layer.title)
        with self._lock:
            self._read[layer.node.key] = stored

    # -- images ----------------------------------------------------------

    def finish(self, key: NodeKey, batch: Transaction) -> None:
        """Assemble the image of the layers that came, and keep it when it is the same."""
        opened = self._opened[key]
        wanted = opened.wanted
        observer = Observer(self._store)
        entries = []
        for platform, (data, manifest) in opened.manifests.items():
            found = wanted.platforms[platform]
            self._finish_platform(found, data, manifest, opened, observer, batch)
            entries.append((Descriptor.manifest(Digest.of(data), len(data)), platform))
        if opened.index:
            if image_index(entries) != opened.index:
                raise _wrong(f"{self._remote.title}: index {wanted.digest}", "it is another one")
            batch.add_bytes(opened.index)
            needs = [descriptor.digest for descriptor, _ in entries]
            batch.put_action(str(wanted.key), image_record(opened.index, needs))

    def _finish_platform(
        self,
        platform: Platform,
        data: bytes,
        manifest: Manifest,
        opened: _Opened,
        observer: Observer,
        batch: Transaction,
    ) -> None:
        lock, nodes = platform.lock, platform.nodes
        what = f"{self._remote.title}: image {Digest.of(data)}"
        ours = manifest.layers[len(lock.base.layers) :]
        layers = []
        for node_key, descriptor in zip(nodes.layers, ours, strict=False):
            layer = self._read.get(node_key) or observer.layer(node_key)
            if layer is None or layer.digest != descriptor.digest:
                raise _wrong(what, f"the layer {descriptor.digest} did not come")
            layers.append(layer)
        config = None
        if lock.base.config is not None:
            config = opened.base_documents.get(lock.base.config)
            if config is None:
                raise _wrong(what, "the config of its base is not in its record")
        image = assemble_image(lock, platform.runtime, layers, config, nodes.options)
        if image.manifest != data:
            raise IntegrityError(
                f"{what}: its lock and layers make another image ({image.digest})",
                code="registry-image",
                detail="A layer, the config or the order is not what the lock says.",
                hint="do not trust that registry; nothing of the image was kept",
            )
        for node_key in nodes.layers:
            if (came := self._read.get(node_key)) is not None:
                batch.add_bytes(came.content.listing())
                batch.put_action(str(node_key), layer_record(came))
        for part in filter(None, [image.config, image.wrapper, image.manifest]):
            batch.add_bytes(part)
        for digest in (lock.base.config, lock.base.manifest):
            if digest is not None and digest in opened.base_documents:
                batch.add_bytes(opened.base_documents[digest])
        wanted = set(base_blobs(lock.base)) - {lock.base.manifest, lock.base.config}
        below = [layer.digest for layer in lock.base.layers if layer.digest in wanted]
        needs = [image.config_digest, *image.layers, *below]
        batch.put_action(str(nodes.image), image_record(image.manifest, needs))


def fetch_record(
    remote: Remote, repository: RetryingRepository, reference: str
) -> EnvironmentRecord:
    """The version behind a record's tag or digest, everything in it verified."""
    what = f"{remote.title}: {repository.name}:{reference}"
    manifest = repository.get_manifest(reference)
    contents = read_contents(manifest.data, ENVIRONMENT_TYPE, what)
    return read_environment(contents, fetch_parts(repository, contents), what)


def _wrong(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{what}: {why}",
        code="registry-image",
        hint="do not trust that registry; nothing of the image was kept",
    )
