"""How each kind of node is built: from the store, into the store.

Every method here runs on the executor's threads. A node's result becomes visible
as a whole: its blobs and its action record belong to one batch, and the batch is
durable before anything that stands on it starts.

What only one kind of node needs is imported when the first of that kind is built: an
apply of known packages then fetches nothing and reads no archive, and starts sooner.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from envgraph.api.events import Event
from envgraph.apply.batches import Batches
from envgraph.apply.counter import Counter
from envgraph.apply.overlaps import Member, check_overlaps
from envgraph.apply.toolchain import Toolchains
from envgraph.errors import BuildError, Diagnostic, IntegrityError
from envgraph.image.assemble import StoredLayer, assemble_image
from envgraph.image.content import LayerContent
from envgraph.image.fixedlayers import write_root_layer
from envgraph.image.group import write_group
from envgraph.image.manifest import Descriptor, image_index
from envgraph.image.nodes import layer_title, package_options
from envgraph.image.steps import BUILT_KINDS, on_built
from envgraph.model.canonical import NodeKey
from envgraph.model.config import WorkspaceConfig
from envgraph.model.graph import BuildGraph
from envgraph.model.locked import LockedPackage
from envgraph.model.nodes import Node
from envgraph.refresh.observe import (
    Observer,
    Subject,
    base_blobs,
    image_needs,
    image_record,
    layer_record,
)
from envgraph_store import Digest, Store, Transaction

if TYPE_CHECKING:
    from envgraph.apply.builders import Builders
    from envgraph.lock.registry_bases import RegistryBases

_TO_END: Final = 15.0
"""Seconds that a builder has to end a step which was cancelled."""


class NodeBuilder:
    """Builds nodes into one store. ``settle`` makes what is finished durable."""

    def __init__(
        self,
        store: Store,
        config: WorkspaceConfig,
        graph: BuildGraph,
        subjects: Mapping[NodeKey, Subject],
        toolchains: Toolchains,
        *,
        offline: bool,
        on_event: Callable[[Event], None],
        bases: Callable[[], RegistryBases] | None = None,
        builders: Builders | None = None,
    ) -> None:
        """Bind the parts; opens nothing."""
        self._cancel = threading.Event()
        self._idle = threading.Condition()
        self._at_builder = 0
        self.halt = threading.Event()
        """Set, nothing is tried again: what runs may end, and nothing new begins."""

        self._builders = builders
        self._bases = bases
        self._store = store
        self._config = config
        self._graph = graph
        self._subjects = subjects
        self._toolchains = toolchains
        self._offline = offline
        self._on_event = on_event
        self._lock = threading.Lock()
        self._batches = Batches(store)
        self.observer = Observer(store)
        """What lies in the store; it looks again whenever a batch was settled."""

        self._users = _users(graph, subjects)
        self.bytes_written = 0
        self.layers_built = 0
        self.remarks: list[Diagnostic] = []
        self.link_scripts: dict[NodeKey, tuple[str, ...]] = {}

    def settle(self, close: bool) -> None:
        """Make whole batches durable and visible; with ``close`` the open one ends too."""
        if self._batches.settle(close):
            self.observer.look_again()

    def close(self) -> None:
        """End what a builder still runs, and drop what was not settled.

        A builder ends a step that is cancelled; it is waited for, and not for ever.
        """
        self._cancel.set()
        self.halt.set()
        with self._idle:
            self._idle.wait_for(lambda: not self._at_builder, _TO_END)
        self._batches.close()

    @property
    def _batch(self) -> Transaction:
        return self._batches.mine

    # -- archives --------------------------------------------------------

    def fetch(self, node: Node) -> None:
        """Bring a package's archive into the store; it is verified on the way."""
        package = node.package
        if package is None or self._store.packages.has(package.sha256):
            return
        from envgraph.conda.fetch import fetch_package

        users = self._users.get(node.needs[0])
        size = package.size or None
        with (
            self._batches.writing(),
            self._batch.writer("packages", expect=package.sha256, size=size) as writer,
        ):
            fetch_package(
                package,
                self._config,
                writer.write,
                offline=self._offline,
                conda=None if users is None else users.spec.conda,
                progress=Counter(self._on_event, node),
            )
            writer.finish()

    # -- nodes -----------------------------------------------------------

    def build(self, node: Node) -> None:
        """Build one node of any kind that a plan holds."""
        makers: Mapping[str, Callable[[Node], None]] = {
            "base-image": self._base,
            "root-layer": self._root,
            "conda-package": self._package,
            "pip-package": self._package,
            "layer-group": self._group,
            "docker-step": self._built,
            "build-context": self._built,
            "image": self._image,
            "image-index": self._index,
        }
        maker = makers.get(node.kind)
        if maker is None:
            raise BuildError(f"nothing here builds a {node.kind}", code="no-builder")
        if node.kind in BUILT_KINDS:
            maker(node)  # into a batch of its own: who waits for it shall see it at once
            return
        with self._batches.writing():
            maker(node)

    def _base(self, node: Node) -> None:
        base = node.base
        if base is None or base.is_scratch:
            return
        if base.in_registry and not self._store.blobs.missing(base_blobs(base)):
            return  # kept with the lock
        from envgraph.image.bases import copy_base
        from envgraph.lock.images import open_base

        subject = next(
            found
            for found in self._subjects.values()
            if (found.nodes.base == node.key and found.lock.base.reference == base.reference)
            or base in found.lock.images.values()
        )
        path, platform = subject.spec.image_path, subject.lock.platform
        registry = None if self._bases is None else self._bases()
        resolved = open_base(base, path, platform, registry=registry)
        if base.in_registry:
            for data in resolved.documents.values():
                self._batch.add_bytes(data)
            return
        copy_base(
            resolved,
            self._store.blobs.has,
            lambda digest, size: self._batch.writer("blobs", expect=digest, size=size),
        )

    def _root(self, node: Node) -> None:
        options = self._users[node.key].nodes.options
        self._write_layer(node, lambda write: write_root_layer(options, write))

    def _package(self, node: Node) -> None:
        package = _package_of(node)
        subject = self._users[node.key]
        options = package_options(package, subject.nodes.options)
        compiler = None
        if options.bytecode_key:
            compiler = self._toolchains.compiler(subject.lock)
        if package.manager == "pip":
            from envgraph.image.wheel import write_wheel_layer as writer
        else:
            from envgraph.image.layer import write_conda_layer as writer
        with self._store.packages.open(package.sha256) as archive:
            self._write_layer(
                node, lambda write: writer(archive, package, options, write, compiler)
            )

    def _group(self, node: Node) -> None:
        options = self._users[node.key].nodes.options
        members = [self._layer(key) for key in node.needs]
        with ExitStack() as stack:
            opened = [
                (layer.content, stack.enter_context(self._store.blobs.open(layer.digest)))
                for layer in members
            ]
            self._write_layer(
                node,
                lambda write: write_group(opened, options, write),
                members=[layer.digest for layer in members],
            )

    def _write_layer(
        self,
        node: Node,
        make: Callable[[Callable[[bytes], object]], LayerContent],
        members: Sequence[Digest] = (),
    ) -> None:
        batch = self._batch
        count = Counter(self._on_event, node)  # a layer is about as large as its archive
        with batch.writer("blobs") as writer:

            def write(data: bytes) -> None:
                writer.write(data)
                count(len(data))

            content = make(write)
            digest = writer.finish()
        listing = batch.add_bytes(content.listing())
        layer = StoredLayer(digest, content, listing, layer_title(node, self._graph))
        batch.put_action(str(node.key), layer_record(layer, members))
        with self._lock:
            self.layers_built += 1
            if node.package is not None and content.post_link_scripts:
                self.link_scripts[node.key] = content.post_link_scripts
            self.bytes_written += content.size

    def _built(self, node: Node) -> None:
        """A docker step or a build context: made by a builder."""
        if self._builders is None:
            raise BuildError(f"no builder was given for {node.name}", code="no-builder")
        from envgraph.apply.alone import alone
        from envgraph.apply.stepwise import StepMaker

        maker = StepMaker(
            self._store,
            self._config,
            self._builders,
            self._bases,
            offline=self._offline,
            on_event=self._on_event,
            cancel=self._cancel,
            halt=self.halt,
        )
        with alone(self._store, node, self._cancel, self._on_event):
            self.observer.look_again()
            if self.observer.built(node.key) is not None:
                return  # by another apply, since this one was planned
            with self._at_work(), self._store.transaction() as batch:
                made = maker.make(node, self._users[node.key], self.observer, batch)
                batch.commit()
            self.observer.look_again()
        with self._lock:
            self.layers_built += made.layers
            self.bytes_written += made.bytes

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._idle:
            self._at_builder += 1
        try:
            yield
        finally:
            with self._idle:
                self._at_builder -= 1
                self._idle.notify_all()

    # -- images ----------------------------------------------------------

    def _layer(self, key: NodeKey) -> StoredLayer:
        layer = self.observer.layer(key)
        if layer is None:
            raise IntegrityError(
                f"the layer of {self._graph[key].name} is gone from the store",
                hint="plan again: it will be built anew",
            )
        return layer

    def _image(self, node: Node) -> None:
        subject = self._subjects[node.key]
        built = None
        if subject.nodes.built:
            built = self.observer.built(subject.nodes.built[-1])
            if built is None:
                raise IntegrityError(
                    "what the builder made is gone from the store",
                    hint="plan again: it will be built anew",
                )
        lock = on_built(subject.lock, built)
        base = lock.base
        layers = [self._layer(key) for key in subject.nodes.layers]
        self._check_overlap(subject)
        config = None if base.config is None else self._store.blobs.read(base.config)
        image = assemble_image(lock, subject.runtime, layers, config, subject.nodes.options)
        needs = image_needs(image, base, built)
        self._keep_image(node, image.manifest, needs, [image.config, image.wrapper])

    def _index(self, node: Node) -> None:
        entries = []
        for key in node.needs:
            record = self._store.actions.get(str(key))
            if record is None:
                raise IntegrityError("an image of another platform is gone from the store")
            digest = Digest(record["manifest"])
            size = self._store.blobs.size(digest)
            entries.append((Descriptor.manifest(digest, size), self._subjects[key].lock.platform))
        needs = [descriptor.digest for descriptor, _ in entries]
        self._keep_image(node, image_index(entries), needs, [])

    def _keep_image(
        self, node: Node, manifest: bytes, needs: Sequence[Digest], parts: Sequence[bytes]
    ) -> None:
        batch = self._batch
        for part in filter(None, parts):
            batch.add_bytes(part)
        batch.add_bytes(manifest)
        batch.put_action(str(node.key), image_record(manifest, needs))
        with self._lock:
            self.bytes_written += len(manifest) + sum(map(len, parts))

    def _check_overlap(self, subject: Subject) -> None:
        """Remark on paths with two owners; the members in the order of the layers."""
        nodes = [self._graph[key] for key in subject.nodes.layers]
        parts = [
            part
            for node in nodes
            for part in ([node] if node.package else [self._graph[key] for key in node.needs])
        ]
        members = [
            Member(part.package.title, layer)
            for part in parts
            if part.package is not None and (layer := self.observer.layer(part.key)) is not None
        ]
        blobs = self._store.blobs
        options = subject.nodes.options
        remarks = check_overlaps(members, blobs.read, blobs.open, options, subject.spec.source)
        with self._lock:
            self.remarks += remarks


def _package_of(node: Node) -> LockedPackage:
    if node.package is None:
        raise BuildError(f"{node.name} is no package")
    return node.package


def _users(graph: BuildGraph, subjects: Mapping[NodeKey, Subject]) -> dict[NodeKey, Subject]:
    """For each node, one subject whose lock and options it is built with."""
    users: dict[NodeKey, Subject] = {}
    for key, subject in subjects.items():
        for node in graph.reachable([key]):
            users.setdefault(node.key, subject)
    return users
