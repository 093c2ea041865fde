"""From what a name means to one image: indexes followed, a platform chosen, all verified.

The same rules hold for images on disk and in registries: a :class:`Documents` reads
manifests, indexes and configs of either, by their descriptors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from envgraph.errors import ResolveError
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.oci import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    DOCUMENT_LIMIT,
    LAYER_TYPES,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    NotAnImageError,
    Platform,
    problem,
    read_config,
    read_document,
    same_platform,
)
from envgraph_store.digest import Digest

_ATTESTATION: Final = "vnd.docker.reference.type"
_MAX_DEPTH: Final = 4
_MAX_ENTRIES: Final = 10_000
INDEX_TYPES: Final = (OCI_IMAGE_INDEX, DOCKER_INDEX)
MANIFEST_TYPES: Final = (OCI_IMAGE_MANIFEST, DOCKER_MANIFEST)


class Documents(Protocol):
    """Manifests, indexes and configs of one place."""

    @property
    def title(self) -> str:
        """What messages call the place."""

    def document(self, descriptor: Descriptor) -> bytes:
        """A document's bytes, bounded by ``DOCUMENT_LIMIT`` and verified."""


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image's documents, read and checked; ``sizes`` names all its blobs."""

    locked: LockedBase
    config: ImageConfig
    sizes: dict[Digest, int]
    documents: dict[Digest, bytes]


def check_document_size(descriptor: Descriptor, title: str) -> None:
    """Refuse a document that nobody should read whole."""
    if descriptor.size > DOCUMENT_LIMIT:
        what = f"{title}: {descriptor.digest}"
        raise problem(what, f"a document larger than {DOCUMENT_LIMIT} bytes")


def manifests_below(source: Documents, entries: Iterable[Descriptor]) -> list[Descriptor]:
    """Every manifest below these entries, once, in order; attestations left out."""
    found: dict[Digest, Descriptor] = {}
    for leaf in _leaves(source, entries, 0):
        found.setdefault(leaf.digest, leaf)
        if len(found) > _MAX_ENTRIES:
            raise problem(source.title, f"more than {_MAX_ENTRIES} images")
    return list(found.values())


def _leaves(source: Documents, entries: Iterable[Descriptor], depth: int) -> Iterator[Descriptor]:
    for entry in entries:
        if _ATTESTATION in entry.annotations:
            continue
        if entry.media_type in MANIFEST_TYPES:
            yield entry
        elif entry.media_type in INDEX_TYPES:
            if depth >= _MAX_DEPTH:
                raise problem(source.title, f"indexes are nested more than {_MAX_DEPTH} deep")
            what = f"{source.title}: index {entry.digest}"
            index = read_document(source.document(entry), entry.media_type, what)
            if not isinstance(index, Index):
                raise problem(what, "a manifest where an index was expected")
            yield from _leaves(source, index.manifests, depth + 1)


def fitting(
    source: Documents, leaves: Iterable[Descriptor], wanted: Platform
) -> Iterator[Descriptor]:
    """Those for the platform, in order; one that says no platform is judged by its config."""
    return (leaf for leaf in leaves if _fits(source, leaf, wanted))


def _fits(source: Documents, leaf: Descriptor, wanted: Platform) -> bool:
    if leaf.platform is not None and leaf.platform.os:
        return same_platform(wanted, leaf.platform)
    try:
        manifest = _manifest(source, leaf, source.document(leaf))
        config = read_config(source.document(manifest.config), f"{source.title}: config")
    except NotAnImageError:
        return False
    return same_platform(wanted, config.platform)


def no_such_platform(
    source: Documents, leaves: Sequence[Descriptor], wanted: Platform, hint: str
) -> ResolveError:
    """The error that says for which platforms there are images."""
    offered = sorted({str(leaf.platform or "?") for leaf in leaves})
    return ResolveError(
        f"{source.title} holds no image for {wanted}",
        code="base-platform",
        detail=f"It holds images for {', '.join(offered) or 'nothing'}.",
        hint=hint,
    )


def _manifest(source: Documents, found: Descriptor, data: bytes) -> Manifest:
    what = f"{source.title}: manifest {found.digest}"
    manifest = read_document(data, found.media_type, what)
    if not isinstance(manifest, Manifest):
        raise problem(what, "an index where a manifest was expected")
    return manifest


def read_image(
    source: Documents, found: Descriptor, reference: str, wanted: Platform, hint: str
) -> ReadImage:
    """The image behind a manifest's descriptor, for the platform; layers are not read.

    ResolveError with ``hint`` when it is for another platform, IntegrityError when its
    documents contradict each other.
    """
    what = f"{source.title}: manifest {found.digest}"
    manifest_bytes = source.document(found)
    manifest = _manifest(source, found, manifest_bytes)
    config_bytes = source.document(manifest.config)
    config = read_config(config_bytes, f"{source.title}: config")
    if not same_platform(wanted, config.platform):
        raise ResolveError(
            f"{source.title}: the image is for {config.platform}, not for {wanted}",
            code="base-platform",
            hint=hint,
        )
    if len(config.diff_ids) != len(manifest.layers):
        raise problem(
            what, f"{len(manifest.layers)} layers, and its config lists {len(config.diff_ids)}"
        )
    layers = tuple(
        BaseLayer(layer.media_type, layer.digest, layer.size, diff_id)
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
    sizes = {found.digest: found.size, manifest.config.digest: manifest.config.size}
    for layer in layers:
        if LAYER_TYPES[layer.media_type] == OCI_LAYER and layer.digest != layer.diff_id:
            raise problem(
                what, f"the layer {layer.digest} is not compressed, and has another DiffID"
            )
        if sizes.setdefault(layer.digest, layer.size) != layer.size:
            raise problem(what, f"{layer.digest} is there with two sizes")
    locked = LockedBase(
        reference, found.digest, manifest.media_type, manifest.config.digest, layers
    )
    documents = {found.digest: manifest_bytes, manifest.config.digest: config_bytes}
    return ReadImage(locked, config, sizes, documents)
