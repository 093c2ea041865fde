"""Images out of a registry, into the store, so that they count as built there.

What comes is trusted in nothing but the layers' bytes, and of those everything is
checked that can be: size and digest while they are read, what they hold by reading
them back (:mod:`envgraph.image.readback`), a base's layers by their DiffIDs. Then
the image is assembled anew, from the lock and those layers; unless that gives the
registry's manifest, byte for byte, nothing is kept. The nodes' keys come from the lock,
so no answer of a registry decides what a layer or an image counts as.

One thing cannot be computed: what a builder makes of a docker step. Its layers and config
are believed, where the registry is trusted with that (``trust_steps:``); they are held to
everything else (:mod:`envgraph.interchange.chain`). Results of steps are pulled with their
image, or alone, as the beginning of what is built here.

As with pushing, there are no threads and no loop here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from envgraph.errors import IntegrityError, NotFoundError, PlatformError
from envgraph.image.assemble import StoredLayer, assemble_image
from envgraph.image.bases import copy_blob
from envgraph.image.manifest import image_index
from envgraph.image.readback import copy_layer
from envgraph.image.steps import BUILT_KINDS, on_built
from envgraph.interchange.chain import Chain, StepResult, read_chain, wrong_steps
from envgraph.interchange.needed import Needed, wrong_image
from envgraph.interchange.wanted import Layer, Wanted, WantedSteps
from envgraph.model.canonical import NodeKey
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    Descriptor,
    Index,
    Manifest,
    read_document,
)
from envgraph.refresh.observe import (
    Observer,
    image_needs,
    image_record,
    layer_record,
    step_record,
)
from envgraph.registry.artifacts import (
    ENVIRONMENT_TYPE,
    EnvironmentRecord,
    fetch_parts,
    read_contents,
    read_environment,
)
from envgraph.registry.names import STEPS_REPOSITORY, record_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import RetryingRepository
from envgraph.registry.steps import steps_document
from envgraph_store import Digest, Store, Transaction

Count = Callable[[int], None]


@dataclass(slots=True)
class _Opened:
    """What was read of a wanted image: its documents, and which blob each layer is."""

    wanted: Wanted
    manifests: dict[str, tuple[bytes, Manifest]] = field(default_factory=dict)
    index: bytes = b""
    base_documents: dict[Digest, bytes] = field(default_factory=dict)
    chains: dict[str, Chain] = field(default_factory=dict)
    """By platform, what a builder made of it."""


class Puller:
    """Pulls images of one registry into a store; every method may be called from any thread."""

    def __init__(self, store: Store, remote: Remote, *, whole_bases: bool = False) -> None:
        """Bind; asks nothing.

        ``whole_bases``: layers of bases that the store could do without come too, as far
        as the registry has them.
        """
        self._store = store
        self._remote = remote
        self._lock = threading.Lock()
        self._opened: dict[NodeKey, _Opened] = {}
        self._known: dict[NodeKey, EnvironmentRecord] = {}
        self._chains: dict[NodeKey, Chain] = {}
        self._needed = Needed(store, remote, whole_bases=whole_bases)
        self._read: dict[NodeKey, StoredLayer] = {}
        self.bytes_fetched = 0

    # -- opening ---------------------------------------------------------

    def open(self, wanted: Wanted) -> None:
        """Read the manifests, and note the layers that the store lacks.

        NotFoundError when the registry no longer has the image, IntegrityError when
        its documents are not those of the lock.
        """
        if any(platform.nodes.built for platform in wanted.platforms.values()):
            self._check_trust(wanted.title or wanted.repository)
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
            raise wrong_image(what, "it is not for the platforms of the lock")
        self._base_documents(repository, opened)
        for platform, (data, manifest) in opened.manifests.items():
            if wanted.images and wanted.images.get(platform) != Digest.of(data):
                raise wrong_image(what, f"the image for {platform} is not the version's")
            chain = opened.chains.get(platform)
            self._needed.note_image(wanted, wanted.platforms[platform], chain, manifest, what)
        with self._lock:
            self._opened[wanted.key] = opened

    def open_steps(self, wanted: WantedSteps) -> None:
        """Read what the registry has of steps, and note the layers that the store lacks.

        NotFoundError when it no longer has it, IntegrityError when it is of other steps.
        """
        self._check_trust(wanted.title)
        repository = self._remote.repository(STEPS_REPOSITORY)
        what = f"{self._remote.title}: {STEPS_REPOSITORY}@{wanted.digest}"
        described = steps_document(repository.get_manifest(str(wanted.digest)).data, what)
        with repository.open_blob(described.digest, described.size) as body:
            data = body.read(described.size + 1)
        chain = read_chain(data, wanted.lock, wanted.keys, what)
        self._needed.note_steps(wanted, chain)
        with self._lock:
            self._chains[wanted.key] = chain

    def _check_trust(self, title: str) -> None:
        if not self._remote.trusts_steps:
            raise PlatformError(
                f"{title} has docker steps or is a build context, and those of"
                f" {self._remote.title} are not trusted",
                code="pull-built",
                detail="Nobody can tell what a step makes but by running it, and envgraph.yaml"
                " says `trust_steps: false` for that registry.",
                hint="apply its environment file here: a builder makes it from the same lock",
            )

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

    def know(self, wanted: Wanted, contents: EnvironmentRecord) -> None:
        """Take a record that came already: what it says of bases and steps is not asked for."""
        with self._lock:
            self._known[wanted.key] = contents

    def _base_documents(self, repository: RetryingRepository, opened: _Opened) -> None:
        """Config and manifest of each base: from the store, else out of the record.

        Where a builder made a part of an image, what that is, always out of the record.
        """
        wanted = opened.wanted
        known = self._known.get(wanted.key)
        if known is not None:
            opened.base_documents |= known.bases
        told = () if known is None else known.steps
        is_untold = any(p.nodes.built and n not in told for n, p in wanted.platforms.items())
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
        if missing or is_untold:
            try:
                record = fetch_record(self._remote, repository, record_tag(wanted.key))
            except NotFoundError:
                if missing:
                    raise
            else:
                opened.base_documents |= record.bases
                known = record if is_untold else known
        self._read_chains(opened, known)

    def _read_chains(self, opened: _Opened, known: EnvironmentRecord | None) -> None:
        what = f"{self._remote.title}: image {opened.wanted.digest}"
        for name, platform in opened.wanted.platforms.items():
            if not platform.nodes.built:
                continue
            if known is None or name not in known.steps:
                raise NotFoundError(
                    f"{what}: the registry does not say what its docker steps became",
                    code="registry-steps",
                    detail="It was pushed by an early version of envgraph, or after the store"
                    " had lost that.",
                    hint="run `envgraph apply` again: a builder makes it here",
                )
            chain = read_chain(known.steps[name], platform.lock, platform.nodes.built, what)
            opened.chains[name] = chain
            opened.base_documents |= chain.documents

    # -- layers ----------------------------------------------------------

    def layers(self) -> list[Layer]:
        """What has to be fetched, each blob once; call it when every image was opened."""
        return self._needed.all()

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
            try:
                copy_blob(body, write, layer.base, what)
            except IntegrityError as error:
                [first, *_] = error.diagnostics
                if layer.node.kind in BUILT_KINDS and first.code == "base-layer":
                    raise wrong_steps(what, first.summary.removeprefix(f"{what}: ")) from error
                raise
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
            self._finish_platform(platform, data, manifest, opened, observer, batch)
            entries.append((Descriptor.manifest(Digest.of(data), len(data)), platform))
        if opened.index:
            if image_index(entries) != opened.index:
                raise wrong_image(
                    f"{self._remote.title}: index {wanted.digest}", "it is another one"
                )
            batch.add_bytes(opened.index)
            needs = [descriptor.digest for descriptor, _ in entries]
            batch.put_action(str(wanted.key), image_record(opened.index, needs))

    def finish_steps(self, key: NodeKey, batch: Transaction) -> None:
        """Keep what was opened of steps; what the store has of them already stays."""
        chain, observer = self._chains[key], Observer(self._store)
        for document in chain.documents.values():
            batch.add_bytes(document)
        for result in chain.results:
            if observer.built(result.key) is None:
                _keep_result(result, batch)

    def _finish_platform(
        self,
        name: str,
        data: bytes,
        manifest: Manifest,
        opened: _Opened,
        observer: Observer,
        batch: Transaction,
    ) -> None:
        platform, chain = opened.wanted.platforms[name], opened.chains.get(name)
        built = None if chain is None else chain.last
        lock, nodes = on_built(platform.lock, built), platform.nodes
        what = f"{self._remote.title}: image {Digest.of(data)}"
        ours = manifest.layers[len(lock.base.layers) :]
        layers = []
        for node_key, descriptor in zip(nodes.layers, ours, strict=False):
            layer = self._read.get(node_key) or observer.layer(node_key)
            if layer is None or layer.digest != descriptor.digest:
                raise wrong_image(what, f"the layer {descriptor.digest} did not come")
            layers.append(layer)
        config = None
        if lock.base.config is not None:
            config = opened.base_documents.get(lock.base.config)
            if config is None:
                raise wrong_image(what, "the config of its base is not in its record")
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
        for digest in (platform.lock.base.config, platform.lock.base.manifest):
            if digest is not None and digest in opened.base_documents:
                batch.add_bytes(opened.base_documents[digest])
        for result in () if chain is None else chain.results:
            batch.add_bytes(opened.base_documents[result.built.config])
            _keep_result(result, batch)
        needs = image_needs(image, lock.base, built)
        batch.put_action(str(nodes.image), image_record(image.manifest, needs))


def _keep_result(result: StepResult, batch: Transaction) -> None:
    batch.put_action(str(result.key), step_record(result.built, result.builder))


def fetch_record(
    remote: Remote, repository: RetryingRepository, reference: str
) -> EnvironmentRecord:
    """The version behind a record's tag or digest, everything in it verified."""
    what = f"{remote.title}: {repository.name}:{reference}"
    manifest = repository.get_manifest(reference)
    contents = read_contents(manifest.data, ENVIRONMENT_TYPE, what)
    return read_environment(contents, fetch_parts(repository, contents), what)
