"""Look at the store and say what is there: the Inventory that a plan is made against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from envgraph.errors import EnvgraphError
from envgraph.history.fold import EnvironmentState
from envgraph.history.read import image_ref, read_version, state_of, versions
from envgraph.image.assemble import AssembledImage, StoredLayer, assemble_image
from envgraph.image.nodes import ImageNodes
from envgraph.image.steps import BUILT_KINDS, BuiltImage, on_built
from envgraph.lock.pins import Pins
from envgraph.model.canonical import NodeKey
from envgraph.model.graph import BuildGraph
from envgraph.model.locked import LockedBase, LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph.model.spec import EnvironmentSpec
from envgraph.plan.inventory import Inventory
from envgraph.plan.target import Target
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError

STEP_SCHEMA: Final = "envgraph.step/1"
LAYER_SCHEMA: Final = "envgraph.layer/1"
IMAGE_SCHEMA: Final = "envgraph.image/1"


def layer_record(layer: StoredLayer, members: Iterable[Digest] = ()) -> dict[str, object]:
    """The action record of a node that made a layer."""
    joined = [str(digest) for digest in members]
    return {"schema": LAYER_SCHEMA, "members": joined} | layer.to_json()


def step_record(built: BuiltImage, builder: str) -> dict[str, object]:
    """The action record of a node that a builder made; ``builder`` says which, for people."""
    return {"schema": STEP_SCHEMA, "builder": builder} | built.to_json()


def image_record(manifest: bytes, needs: Iterable[Digest]) -> dict[str, object]:
    """The action record of an image or index; ``needs`` is what must be there with it."""
    return {
        "schema": IMAGE_SCHEMA,
        "manifest": str(Digest.of(manifest)),
        "size": len(manifest),
        "needs": [str(need) for need in dict.fromkeys(needs)],
    }


def image_needs(image: AssembledImage, base: LockedBase, built: BuiltImage | None) -> list[Digest]:
    """What must be there with an image: its own, what a builder made, all of a base on disk.

    ``base`` is what our layers lie on, so with what the builder made.
    """
    needs = [image.config_digest, *image.layers]
    if built is not None:
        needs += built.blobs[1:]
    if not base.in_registry:
        needs += [layer.digest for layer in base.layers]
    return needs


@dataclass(frozen=True, slots=True)
class Subject:
    """One platform of one environment: what was asked, its lock, runtime and nodes."""

    spec: EnvironmentSpec
    lock: LockedEnvironment
    runtime: Mapping[str, Any]
    nodes: ImageNodes
    documents: Mapping[Digest, bytes] = field(default_factory=dict)
    """Manifest and config of a base that was asked for just now."""


class Observer:
    """Answers "is this node's result whole?" and remembers what it read.

    What is remembered holds for as long as nothing can be collected: while a plan is
    made, or under one lease.
    """

    def __init__(self, store: Store) -> None:
        """Bind; nothing is read yet."""
        self._store = store
        self._present: dict[Digest, bool] = {}
        self._layers: dict[NodeKey, StoredLayer | None] = {}
        self._built: dict[NodeKey, BuiltImage] = {}

    def look_again(self) -> None:
        """Forget what was absent: it may have been made since. Safe while threads ask."""
        for digest in [digest for digest, there in list(self._present.items()) if not there]:
            self._present.pop(digest, None)
        for key in [key for key, layer in list(self._layers.items()) if layer is None]:
            self._layers.pop(key, None)

    def has(self, digests: Iterable[Digest]) -> bool:
        """All these blobs are in the store (by name; content is checked when read)."""
        unknown = [digest for digest in digests if digest not in self._present]
        missing = self._store.blobs.missing(unknown)
        self._present.update({digest: digest not in missing for digest in unknown})
        return all(self._present.get(digest, False) for digest in digests)

    def layer(self, key: NodeKey) -> StoredLayer | None:
        """The layer that a node made, when its blob is there."""
        layer = self._layers.get(key)
        if layer is None and key not in self._layers:
            layer = self._layers[key] = self._read_layer(key)
        return layer

    def _read_layer(self, key: NodeKey) -> StoredLayer | None:
        record = self._store.actions.get(str(key))
        if record is None or record.get("schema") != LAYER_SCHEMA:
            return None
        try:
            layer = StoredLayer.from_json(record)
        except (KeyError, ValueError, TypeError):
            return None
        return layer if self.has([layer.digest, layer.paths]) else None

    def built(self, key: NodeKey) -> BuiltImage | None:
        """What a builder made for a node, when its config and layers are there."""
        if key in self._built:
            return self._built[key]
        record = self._store.actions.get(str(key))
        if record is None or record.get("schema") != STEP_SCHEMA:
            return None
        try:
            found = BuiltImage.from_json(record)
        except (KeyError, ValueError, TypeError):
            return None
        if not self.has(found.blobs):
            return None
        self._built[key] = found
        return found

    def image(self, key: NodeKey) -> Digest | None:
        """The manifest (or index) that a node made, when everything below it is there."""
        record = self._store.actions.get(str(key))
        if record is None or record.get("schema") != IMAGE_SCHEMA:
            return None
        try:
            needed = [Digest(record["manifest"]), *(Digest(text) for text in record["needs"])]
        except (KeyError, ValueError, TypeError):
            return None
        return needed[0] if self.has(needed) else None

    def base(self, base: LockedBase) -> bool:
        """What an image on this base needs is in the store; always true for ``scratch``."""
        return base.is_scratch or self.has(base_blobs(base))


def base_blobs(base: LockedBase) -> list[Digest]:
    """What an image needs of its base to be made.

    Of a base on disk everything: that may be gone tomorrow. Of one in a registry its
    manifest and config: the layers come only where they are needed
    (:func:`envgraph.image.bases.ensure_base`).
    """
    if base.manifest is None or base.config is None:
        return []
    layers = () if base.in_registry else (layer.digest for layer in base.layers)
    return list(dict.fromkeys([base.manifest, base.config, *layers]))


def observe(
    store: Store,
    workspace_id: str,
    graph: BuildGraph,
    targets: Sequence[Target],
    subjects: Mapping[NodeKey, Subject],
    *,
    everything: bool = False,
) -> Inventory:
    """Read as little as the plan needs: a whole image's layers are not opened.

    ``everything``: they are, since the plan will build some of them again.
    """
    generation = store.generation()
    observer = Observer(store)
    built: set[NodeKey] = set()
    images: dict[NodeKey, Digest] = {}
    scripts: dict[NodeKey, tuple[str, ...]] = {}
    waiting = [key for keys in graph.roots.values() for key in keys]
    seen: set[NodeKey] = set()
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        node = graph[key]
        if node.kind in ("image", "image-index"):
            digest = observer.image(key)
            if digest is not None:
                images[key] = digest
                if key not in subjects or observer.base(subjects[key].lock.base):
                    built.add(key)
        elif node.base is not None:
            if observer.base(node.base):
                built.add(key)
        elif node.kind in BUILT_KINDS:
            if observer.built(key) is not None:
                built.add(key)
        elif (layer := observer.layer(key)) is not None:
            built.add(key)
            if node.package is not None and layer.content.post_link_scripts:
                scripts[key] = layer.content.post_link_scripts
        if everything or key not in built or node.kind == "image-index":
            waiting.extend(node.needs)
    built -= {  # an index is as whole as its images
        key
        for key in built
        if graph[key].kind == "image-index" and not built.issuperset(graph[key].needs)
    }
    for key, subject in subjects.items():
        if key not in images and (digest := _predict(store, observer, subject)) is not None:
            images[key] = digest
    registered = _versions(store, workspace_id, targets)
    return Inventory(
        built=frozenset(built),
        images=images,
        latest=registered.newest,
        taken=registered.taken,
        deleted=registered.deleted,
        previous_locks=registered.locks,
        link_scripts=scripts,
        unnamed=frozenset(registered.unnamed),
        archived=registered.archived,
        generation=generation,
    )


def _predict(store: Store, observer: Observer, subject: Subject) -> Digest | None:
    """The digest of an image whose layers are all known: nothing is written for it."""
    layers = [observer.layer(key) for key in subject.nodes.layers]
    lock = subject.lock
    if any(layer is None for layer in layers):
        return None
    if subject.nodes.built:
        below = observer.built(subject.nodes.built[-1])
        if below is None:
            return None
        lock = on_built(lock, below)
    base = lock.base
    config = None
    if base.config is not None:
        config = subject.documents.get(base.config)
        if config is None and not observer.has([base.config]):
            return None
        config = config or store.blobs.read(base.config)
    known = [layer for layer in layers if layer is not None]
    options = subject.nodes.options
    return assemble_image(lock, subject.runtime, known, config, options).digest


@dataclass(slots=True)
class _Versions:
    """What is registered of the environments that are asked about."""

    newest: dict[str, VersionRecord] = field(default_factory=dict)
    taken: dict[str, dict[str, VersionRecord]] = field(default_factory=dict)
    deleted: dict[str, frozenset[str]] = field(default_factory=dict)
    locks: dict[str, dict[str, LockedEnvironment]] = field(default_factory=dict)
    unnamed: set[str] = field(default_factory=set)
    archived: dict[str, bool] = field(default_factory=dict)


def _versions(store: Store, workspace_id: str, targets: Sequence[Target]) -> _Versions:
    found = _Versions()
    pins = Pins(store, workspace_id)
    for target in targets:
        state = state_of(store, workspace_id, target.name)
        if state is None:
            continue
        found.deleted[target.name] = frozenset(v.version for v in state.versions.values()
                                               if v.deleted)  # fmt: skip
        newest = state.compared
        if newest is None:
            found.taken[target.name] = _all_of(store, workspace_id, target.name)
            continue
        record = found.newest[target.name] = read_version(store, newest)
        if state.is_hidden(newest):
            found.archived[target.name] = state.archived
        if _is_unnamed(store, state, record):
            found.unnamed.add(target.name)
        wanted = {p: locked.identity for p, locked in target.platforms.items()}
        if {p: lock.identity for p, lock in record.locks.items()} != wanted:
            found.locks[target.name] = _locks(pins, record)
        asked = target.spec.version
        keys = {p: str(locked.image) for p, locked in target.platforms.items()}
        settled = (record.definition, record.runtime, dict(record.image_keys)) == (
            target.definition,
            target.runtime,
            keys,
        )
        if target.name in found.locks or not settled or asked not in (None, record.version):
            found.taken[target.name] = _all_of(store, workspace_id, target.name)
        else:
            found.taken[target.name] = {record.version: record}
    return found


def _all_of(store: Store, workspace_id: str, name: str) -> dict[str, VersionRecord]:
    """The newest record of every version that ever was, the deleted ones too."""
    taken: dict[str, VersionRecord] = {}
    for record in versions(store, workspace_id, name, deleted=True):
        taken.setdefault(record.version, record)
    return taken


def _is_unnamed(store: Store, state: EnvironmentState, record: VersionRecord) -> bool:
    """No name leads to the newest image: somebody removed the ref. Archived ones have none."""
    if not state.holds(state.versions[record.version]):
        return False
    ref = store.refs.get(image_ref(record.workspace, state.name))
    return ref is None or ref.value.get("digest") != str(record.image)


def _locks(pins: Pins, record: VersionRecord) -> dict[str, LockedEnvironment]:
    found: dict[str, LockedEnvironment] = {}
    for platform, reference in record.locks.items():
        try:
            found[platform] = pins.read(reference.record)
        except (StoreError, EnvgraphError):
            continue
    return found
