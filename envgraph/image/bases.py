"""A base image's blobs, copied out of where it lies, with every claim checked.

The lock says digest, size and DiffID of each layer, as the base's own documents
claimed them. Copying proves all three in one pass: bytes that are not the digest,
and layers that do not unpack to their DiffID, are refused before they are kept.
Only base layers that the store lacks are read at all.

Bases on disk are copied whole when an image is made on them. Of a base in a registry
the store has manifest and config; its layers come when something here needs them
(:func:`ensure_base`): a container, an export, a registry that cannot mount them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from envgraph.api.events import Event
from envgraph.errors import EnvgraphError, IntegrityError, ResolveError
from envgraph.image.compress import Decompressed, open_gzip, open_zstd
from envgraph.lock.images import ResolvedBase
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.oci import LAYER_TYPES
from envgraph_store.digest import Digest

if TYPE_CHECKING:
    from envgraph_store import Store

_CHUNK: Final = 1 << 20
_MOST_RAW: Final = 64 << 30
_FREE_RAW: Final = 1 << 30
_MOST_RATIO: Final = 200
"""A layer may unpack to 1 GiB, or to 200 times its size, but never to more than 64 GiB."""


class BlobWriter(Protocol):
    """What the store's transaction gives for one blob."""

    def write(self, data: bytes, /) -> object:
        """Take more bytes."""
        ...

    def finish(self) -> Digest:
        """The blob is whole."""
        ...

    def abort(self) -> object:
        """Drop it."""
        ...


def copy_base(
    base: ResolvedBase,
    has: Callable[[Digest], bool],
    writer: Callable[[Digest, int], BlobWriter],
) -> tuple[Digest, ...]:
    """Copy the blobs of ``base`` that ``has`` does not know; the digests that were copied.

    ``writer(digest, size)`` opens a place for one blob. IntegrityError when bytes
    are not what the lock says; that blob's writer is aborted then.
    """
    layers = {layer.digest: layer for layer in base.locked.layers}
    copied = [digest for digest in base.sizes if not has(digest)]
    for digest in copied:
        target = writer(digest, base.sizes[digest])
        try:
            with base.open(digest) as source:
                copy_blob(source, target.write, layers.get(digest), base.title)
            target.finish()
        except BaseException:
            target.abort()
            raise
    return tuple(copied)


class LayerSource(Protocol):
    """Where the layers of bases in registries come from."""

    def open_layer(self, base: LockedBase, layer: BaseLayer) -> AbstractContextManager[BinaryIO]:
        """A layer's bytes: resumed where they break off, verified to their end."""
        ...


class Mapper(Protocol):
    """``map``, or an executor's ``map``: the results in the order of the items."""

    def __call__(
        self, function: Callable[[_Wanted], Digest], items: Iterable[_Wanted], /
    ) -> Iterable[Digest]:
        """Call the function with each item."""
        ...


_Wanted = tuple[LockedBase, BaseLayer]


def ensure_base(
    store: Store,
    bases: Iterable[LockedBase],
    source: LayerSource,
    *,
    others: Sequence[LayerSource] = (),
    mapper: Mapper = map,
    on_event: Callable[[Event], None] = lambda event: None,
) -> tuple[Digest, ...]:
    """Make every layer of these bases be in the store; the digests that were fetched now.

    Each layer is fetched once, verified (digest, size, DiffID) and durable on its own: what
    was fetched before an error stays. ``others`` are tried, in order, for what ``source``
    cannot give. The caller holds a lease. ``on_event`` is told of each layer, from any
    thread that ``mapper`` has.

    ResolveError: a base on disk is incomplete, or its registry no longer has the layer;
    OfflineError, RegistryError and IntegrityError as the registry has it.
    """
    wanted = {layer.digest: (base, layer) for base in bases for layer in base.layers}
    missing = store.blobs.missing(wanted)
    todo = [wanted[digest] for digest in wanted if digest in missing]
    for base, layer in todo:
        if not base.in_registry:
            raise _not_copied(base, layer)

    def fetch(item: _Wanted) -> Digest:
        base, layer = item
        try:
            return _fetch_layer(store, source, base, layer, on_event)
        except EnvgraphError:
            for other in others:
                with suppress(EnvgraphError):
                    return _fetch_layer(store, other, base, layer, on_event)
            raise

    return tuple(mapper(fetch, todo))


def _fetch_layer(
    store: Store,
    source: LayerSource,
    base: LockedBase,
    layer: BaseLayer,
    on_event: Callable[[Event], None],
) -> Digest:
    key, name = str(layer.digest), f"{base.reference} {layer.digest.hex[:12]}"
    done = told = 0
    on_event(Event("start", key, "base-layer", name, 0, layer.size))
    with store.transaction() as batch:
        with (
            batch.writer("blobs", expect=layer.digest, size=layer.size) as writer,
            source.open_layer(base, layer) as body,
        ):

            def write(data: bytes) -> None:
                nonlocal done, told
                writer.write(data)
                done += len(data)
                if done - told >= _CHUNK or done == layer.size:
                    told = done
                    on_event(Event("progress", key, "base-layer", name, done, layer.size))

            copy_blob(body, write, layer, base.reference)
            writer.finish()
        batch.commit()
    on_event(Event("done", key, "base-layer", name, done, layer.size))
    return layer.digest


def _not_copied(base: LockedBase, layer: BaseLayer) -> ResolveError:
    return ResolveError(
        f"the store lacks the layer {layer.digest} of the base {base.reference}",
        code="base-gone",
        hint="`envgraph apply --replace NAME` copies it again, if the base is still there",
    )


def copy_blob(
    source: BinaryIO,
    write: Callable[[bytes], object],
    layer: BaseLayer | None,
    title: str,
) -> None:
    """Copy one verified blob; for a layer, prove that it unpacks to its DiffID."""
    if layer is None:
        while data := source.read(_CHUNK):
            write(data)
        return
    tee = io.BufferedReader(_Tee(source, write), _CHUNK)
    try:
        found = _raw_digest(tee, layer)
    except ValueError as error:
        raise _wrong(title, layer, str(error)) from error
    if tee.read(1):
        raise _wrong(title, layer, "something follows its end")
    if found != layer.diff_id:
        raise _wrong(title, layer, f"it unpacks to {found}, and its config says {layer.diff_id}")


def open_layer(source: BinaryIO, media_type: str) -> Decompressed:
    """A layer's tar, by its media type; errors of the compression are ValueError."""
    kind = LAYER_TYPES[media_type]
    if kind.endswith("+gzip"):
        return open_gzip(source)
    if kind.endswith("+zstd"):
        return open_zstd(source)
    return _Plain(source)


def _raw_digest(source: BinaryIO, layer: BaseLayer) -> Digest:
    reader = open_layer(source, layer.media_type)
    limit = min(_MOST_RAW, max(_FREE_RAW, _MOST_RATIO * layer.size))
    digest, total, buffer = hashlib.sha256(), 0, bytearray(_CHUNK)
    view = memoryview(buffer)
    while count := reader.readinto(buffer):
        total += count
        if total > limit:
            raise ValueError(f"it unpacks to more than {limit} bytes")
        digest.update(view[:count])
    return Digest.from_hex(digest.hexdigest())


class _Plain:
    """An uncompressed layer."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def readinto(self, buffer: bytearray, /) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Tee(io.RawIOBase):
    """What is read from it is written, too."""

    def __init__(self, source: BinaryIO, write: Callable[[bytes], object]) -> None:
        self._source, self._write = source, write

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._source.read(len(buffer))
        if data:
            self._write(data)
        buffer[: len(data)] = data
        return len(data)


def _wrong(title: str, layer: BaseLayer, why: str) -> IntegrityError:
    return IntegrityError(
        f"{title}: the layer {layer.digest} is wrong: {why}",
        code="base-layer",
        hint="copy the image again from where it came from",
    )
