"""Versions into a registry: blobs first, then manifests, then the names that show them.

Each layer of ours goes once to ``envgraph/layers`` and is mounted from there. A base's
layers are mounted from where the base lies, when that is the same registry; else they
come from the store, or from the base's own registry. The order within a version::

    layers, configs, documents ─▶ steps ─▶ manifests ─▶ record-… ─▶ key-… ─▶ <version>

The version's tag comes last and says that all of it is there, so the second push of a
version is one question. A push that broke off anywhere is finished by the next one:
nothing is named before it is whole, and what is there is not sent again.

A :class:`Pusher` has no threads and no loop: :mod:`envgraph.apply.transfer` has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from envgraph.api.registry import RegistryError
from envgraph.errors import IntegrityError, NotFoundError, ResolveError
from envgraph.model.locked import LockedBase
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    read_document,
)
from envgraph.model.records import VersionRecord
from envgraph.registry.artifacts import Artifact, environment_artifact
from envgraph.registry.names import LAYERS, STEPS_REPOSITORY, key_tag, record_tag, version_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import RetryingRepository
from envgraph_store import Digest, Store

if TYPE_CHECKING:
    from envgraph.image.bases import LayerSource
    from envgraph.interchange.parcel import Parcel
    from envgraph.interchange.pushsteps import StepsShipment

Count = Callable[[int], None]
_BULK: Final = 16
"""Blobs in one question: several questions run at once where each blob is a request."""


class MountBase(Protocol):
    """Takes a base's layer over from where the base lies, when that is the same host."""

    def __call__(self, base: LockedBase, repository: str, digest: Digest, /) -> bool:
        """Whether the repository has the layer now."""
        ...


@dataclass(slots=True)
class Piece:
    """A blob that repositories lack. ``data``: it is in memory; else it is in the store."""

    descriptor: Descriptor
    repositories: list[str]
    ours: bool = False
    data: bytes | None = None
    base: LockedBase | None = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.descriptor.size


@dataclass(frozen=True, slots=True)
class Question:
    """Some blobs (and whether each is a layer of ours) that a repository is asked for."""

    repository: str
    blobs: tuple[tuple[Digest, bool], ...]


@dataclass(slots=True)
class Shipment:
    """What became of one version: the tag that shows it, and what had to be sent for it."""

    record: VersionRecord
    repository: str
    tag: str
    parcel: Parcel | None = None
    """None where all of it was there already."""

    whole: bool = False
    """All of it is there."""

    records: Artifact | None = None
    manifests: list[tuple[Digest, bytes, str]] = field(default_factory=list)
    steps: list[StepsShipment] = field(default_factory=list)
    """What builders made and the registry lacks, of each platform."""


class Pusher:
    """Pushes versions to one registry; every method may be called from any thread."""

    def __init__(
        self,
        store: Store,
        remote: Remote,
        *,
        base_layers: LayerSource | None = None,
        mount_base: MountBase = lambda base, repository, digest: False,
    ) -> None:
        """Bind; asks nothing."""
        self._store = store
        self._remote = remote
        self._base_layers = base_layers
        self._mount_base = mount_base
        self._lock = threading.Lock()
        self._pieces: dict[tuple[Digest, bool], Piece] = {}
        self._wanted: dict[str, set[tuple[Digest, bool]]] = {}
        self.bytes_sent = 0

    # -- looking ---------------------------------------------------------

    def look(
        self,
        record: VersionRecord,
        pack: Callable[[], Parcel],
        *,
        thorough: bool = False,
        steps_again: bool = False,
    ) -> Shipment:
        """Ask what is there of a version; if it is not all, ``pack`` it and note the rest.

        ``thorough``: the blobs are asked for even though the tag says that all is there.
        ``steps_again``: the results of its steps are put whatever is there.
        """
        repository = self._remote.repository(record.image_name)
        shipment = Shipment(record, record.image_name, version_tag(record.version))
        if self._is_taken(repository, shipment) and not thorough:
            shipment.whole = True
            return shipment
        shipment.parcel = parcel = pack()
        shipment.records = environment_artifact(parcel.contents)
        self._note_blobs(shipment)
        if parcel.contents.steps:
            from envgraph.interchange.pushsteps import look_at_steps

            shipment.steps = look_at_steps(self._remote, parcel, again=steps_again)
            self._note_steps(shipment.steps)
        return shipment

    def _is_taken(self, repository: RetryingRepository, shipment: Shipment) -> bool:
        """Whether the version's tag shows this image; if another, take the tag of M51."""
        record = shipment.record
        found = repository.resolve(shipment.tag)
        if found is not None and found.digest != record.image:
            shipment.tag = version_tag(record.version, record.image)
            found = repository.resolve(shipment.tag)
        return found is not None and found.digest == record.image

    def _note_blobs(self, shipment: Shipment) -> None:
        assert shipment.records is not None
        name = shipment.repository
        pieces: dict[Digest, Piece] = {}
        for digest, data in shipment.records.blobs.items():
            pieces[digest] = Piece(Descriptor("", digest, len(data)), [], data=data)
        for manifest, base in self._manifests(shipment):
            config = manifest.config
            pieces.setdefault(config.digest, Piece(config, []))
            below = {layer.digest for layer in base.layers}
            for layer in manifest.layers:
                theirs = layer.digest in below
                found = Piece(layer, [], ours=not theirs, base=base if theirs else None)
                pieces.setdefault(layer.digest, found)
        with self._lock:
            for digest, piece in pieces.items():
                self._pieces.setdefault((digest, piece.ours), piece)
                self._wanted.setdefault(name, set()).add((digest, piece.ours))

    def _note_steps(self, shipments: Iterable[StepsShipment]) -> None:
        with self._lock:
            for item in shipments:
                found = [Piece(item.described, [], data=item.document)]
                for layer in item.layers:
                    described = Descriptor(layer.media_type, layer.digest, layer.size)
                    base = item.base if layer.digest in item.own else None
                    found.append(Piece(described, [], ours=base is None, base=base))
                for piece in found:
                    key = piece.descriptor.digest, piece.ours
                    self._pieces.setdefault(key, piece)
                    self._wanted.setdefault(STEPS_REPOSITORY, set()).add(key)

    def _manifests(self, shipment: Shipment) -> Iterator[tuple[Manifest, LockedBase]]:
        """Each platform's manifest with its base; notes the documents in the order to put them."""
        parcel, record = shipment.parcel, shipment.record
        assert parcel is not None
        for platform, digest in record.images.items():
            data = self._store.blobs.read(digest, limit=DOCUMENT_LIMIT)
            manifest = read_document(data, OCI_IMAGE_MANIFEST, f"image {digest}")
            assert isinstance(manifest, Manifest)
            shipment.manifests.append((digest, data, OCI_IMAGE_MANIFEST))
            yield manifest, parcel.contents.locks[platform].base
        if len(record.images) > 1:
            data = self._store.blobs.read(record.image, limit=DOCUMENT_LIMIT)
            if not isinstance(read_document(data, OCI_IMAGE_INDEX, "index"), Index):
                raise IntegrityError(f"{record.image} is no index")
            shipment.manifests.append((record.image, data, OCI_IMAGE_INDEX))

    def questions(self) -> list[Question]:
        """What to ask each repository, when every version was looked at; bulk by bulk."""
        return [
            Question(name, tuple(part))
            for name, wanted in self._wanted.items()
            for part in _parts(sorted(wanted))
        ]

    def ask(self, question: Question) -> None:
        """Note which blobs a repository lacks."""
        keys = {key[0]: key for key in question.blobs}
        lacking = self._remote.repository(question.repository).missing(keys)
        with self._lock:
            for digest in lacking:
                piece = self._pieces[keys[digest]]
                if question.repository == LAYERS:
                    piece.repositories.insert(0, LAYERS)
                else:
                    piece.repositories.append(question.repository)

    def layer_questions(self) -> list[Question]:
        """What to ask ``envgraph/layers``: those of our layers that a version's place lacks."""
        lacking = sorted(
            key for key, piece in self._pieces.items() if key[1] and piece.repositories
        )
        return [Question(LAYERS, tuple(part)) for part in _parts(lacking)]

    # -- sending ---------------------------------------------------------

    def pieces(self) -> list[Piece]:
        """What has to be sent, each blob once; call it when everything was asked."""
        return [piece for piece in self._pieces.values() if piece.repositories]

    def send(self, piece: Piece, count: Count) -> None:
        """Bring a blob to every repository that lacks it; ``count`` is told the bytes sent."""
        digest = piece.descriptor.digest
        first = LAYERS if piece.ours else ""
        for name in piece.repositories:
            repository = self._remote.repository(name)
            if name == LAYERS:
                self._upload(repository, piece, count)
                continue
            mounted = bool(first) and repository.mount(digest, first)
            if not mounted and piece.base is not None:
                mounted = self._mount_base(piece.base, name, digest)
            if not mounted:
                self._upload(repository, piece, count)
            first = first or name

    def _upload(self, repository: RetryingRepository, piece: Piece, count: Count) -> None:
        def source() -> BinaryIO:
            return cast(BinaryIO, _Counted(self._open(piece), count))

        try:
            repository.push_blob(piece.descriptor, source)
        except IntegrityError:
            if piece.data is None and self._store.blobs.has(piece.descriptor.digest):
                self._store.blobs.check(piece.descriptor.digest)  # says what to do if it is ours
            raise
        with self._lock:
            self.bytes_sent += piece.size

    def _open(self, piece: Piece) -> BinaryIO:
        """The blob; what is sent is verified by whoever takes it, so it is not read twice."""
        digest = piece.descriptor.digest
        if piece.data is not None:
            import io

            return io.BytesIO(piece.data)
        if self._store.blobs.has(digest):
            return Path(self._store.blobs.path(digest)).open("rb")
        return self._open_base(piece)

    def _open_base(self, piece: Piece) -> BinaryIO:
        base, digest = piece.base, piece.descriptor.digest
        layers = () if base is None else [la for la in base.layers if la.digest == digest]
        if base is None or not layers:
            raise NotFoundError(
                f"{digest} is not in the store", hint="run `envgraph apply`: it is made again"
            )
        if self._base_layers is None:
            raise ResolveError(
                f"a layer of the base {base.reference} is not in the store",
                code="base-gone",
                detail=f"{self._remote.title} does not have it either: {digest}",
                hint="push the base to that registry first, with any tool",
            )
        return cast(BinaryIO, _Entered(self._base_layers.open_layer(base, layers[0])))

    # -- showing ---------------------------------------------------------

    def finish(self, shipment: Shipment) -> None:
        """Put the manifests and names; everything that they name is there."""
        parcel = shipment.parcel
        if shipment.whole or shipment.records is None or parcel is None:
            return
        for steps in shipment.steps:
            steps.put(self._remote)
        repository = self._remote.repository(shipment.repository)
        *below, (_, data, media_type) = shipment.manifests
        for digest, part, kind in below:
            repository.put_manifest(str(digest), part, kind)
        records = shipment.records.manifest
        repository.put_manifest(record_tag(parcel.key), records, OCI_IMAGE_MANIFEST)
        repository.put_manifest(key_tag(parcel.key), data, media_type)
        repository.put_manifest(shipment.tag, data, media_type)
        shipment.whole = True


def _parts(keys: list[tuple[Digest, bool]]) -> Iterator[list[tuple[Digest, bool]]]:
    for start in range(0, len(keys), _BULK):
        yield keys[start : start + _BULK]


class _Counted:
    """A source that tells how much was read of it."""

    def __init__(self, source: BinaryIO, count: Count) -> None:
        self._source = source
        self._count = count

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._count(len(data))
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Entered:
    """A body behind a context manager, as a source that is closed."""

    def __init__(self, manager: AbstractContextManager[BinaryIO]) -> None:
        self._manager = manager
        self._body = manager.__enter__()

    def read(self, size: int = -1, /) -> bytes:
        return self._body.read(size)

    def close(self) -> None:
        self._manager.__exit__(None, None, None)


def unreachable(error: Exception) -> bool:
    """Whether a registry gave no answer: what is here can go on without it."""
    return isinstance(error, RegistryError) and error.diagnostics[0].code == "registry-down"


def total(pieces: Iterable[Piece]) -> int:
    """Bytes of all pieces."""
    return sum(piece.size for piece in pieces)
