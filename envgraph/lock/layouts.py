"""OCI image layouts: ``oci-layout``, ``index.json``, ``blobs/sha256/<hex>``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Final, Protocol

from envgraph.errors import ResolveError
from envgraph.lock.sources import Tree, read_verified
from envgraph.model.oci import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    DOCUMENT_LIMIT,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    REF_NAME,
    Descriptor,
    Index,
    Manifest,
    NotAnImageError,
    Platform,
    check_case,
    problem,
    read_config,
    read_document,
    read_object,
    same_platform,
)
from envgraph.model.reference import same_name
from envgraph_store.digest import Digest

_CONTAINERD_NAME: Final = "io.containerd.image.name"
_ATTESTATION: Final = "vnd.docker.reference.type"
_MAX_DEPTH: Final = 4
_MAX_ENTRIES: Final = 10_000


class Blobs(Protocol):
    """Blobs by digest; what is opened is not verified yet."""

    @property
    def title(self) -> str:
        """What messages call the place."""

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob; None when it is not there."""

    def open(self, digest: Digest) -> BinaryIO:
        """The blob from its first byte; a new reader each time."""


class OciLayout:
    """An OCI layout in a folder or a tar."""

    def __init__(self, tree: Tree) -> None:
        """Check that it is a layout of version 1."""
        self._tree = tree
        document = read_object(self._read("oci-layout"), f"{tree.title}/oci-layout")
        version = document.get("imageLayoutVersion")
        if not isinstance(version, str) or not version.startswith("1."):
            raise problem(f"{tree.title}/oci-layout", f"version {str(version)[:40]!r}, not 1.x")

    @property
    def title(self) -> str:
        """The folder's or the tar's path."""
        return self._tree.title

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob."""
        return self._tree.size(f"blobs/sha256/{digest.hex}")

    def open(self, digest: Digest) -> BinaryIO:
        """A blob, not verified."""
        return self._tree.open(f"blobs/sha256/{digest.hex}")

    def entries(self) -> tuple[Descriptor, ...]:
        """What ``index.json`` names."""
        what = f"{self.title}/index.json"
        data = self._read("index.json")
        document = read_object(data, what)
        check_case(document, ("manifests",), what)
        index = read_document(data, str(document.get("mediaType", "")) or OCI_IMAGE_INDEX, what)
        if not isinstance(index, Index):
            raise problem(what, "not an index")
        return index.manifests

    def _read(self, name: str) -> bytes:
        with self._tree.open(name) as file:
            return file.read(DOCUMENT_LIMIT + 1)


def read_blob(blobs: Blobs, descriptor: Descriptor) -> bytes:
    """A document's bytes, bounded and verified."""
    what = f"{blobs.title}: {descriptor.digest}"
    if descriptor.size > DOCUMENT_LIMIT:
        raise problem(what, f"a document larger than {DOCUMENT_LIMIT} bytes")
    return read_verified(
        blobs.open(descriptor.digest), descriptor.digest, descriptor.size, blobs.title
    )


def choose_manifest(layout: OciLayout, name: str, wanted: Platform) -> Descriptor:
    """The one manifest that ``name`` means on a platform; ResolveError says what there is.

    Without a name the layout must hold one image for the platform. Indexes are
    followed. An entry that says no platform is judged by its config.
    """
    entries = layout.entries()
    named = [entry for entry in entries if not name or _is_named(entry, name)]
    if not named:
        raise ResolveError(
            f"{layout.title} holds no image named {name!r}",
            code="base-name",
            detail=f"It holds: {_listed(entries)}.",
        )
    leaves: dict[Digest, Descriptor] = {}
    for leaf in _leaves(layout, named, 0):
        leaves.setdefault(leaf.digest, leaf)
        if len(leaves) > _MAX_ENTRIES:
            raise problem(layout.title, f"more than {_MAX_ENTRIES} images")
    fitting = [leaf for leaf in leaves.values() if _fits(layout, leaf, wanted)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        offered = sorted({str(leaf.platform or "?") for leaf in leaves.values()})
        raise ResolveError(
            f"{layout.title} holds no image for {wanted}",
            code="base-platform",
            detail=f"It holds images for {', '.join(offered) or 'nothing'}.",
            hint="copy the image for every platform (`skopeo copy --all`), or change `platforms:`",
        )
    raise ResolveError(
        f"{layout.title} holds {len(fitting)} images for {wanted}",
        code="base-name",
        detail=f"It holds: {_listed(entries)}.",
        hint="name one of them: oci:PATH:NAME",
    )


def _leaves(layout: OciLayout, entries: Iterable[Descriptor], depth: int) -> Iterable[Descriptor]:
    """The manifests below, attestations left out."""
    for entry in entries:
        if _ATTESTATION in entry.annotations:
            continue
        if entry.media_type in (OCI_IMAGE_MANIFEST, DOCKER_MANIFEST):
            yield entry
        elif entry.media_type in (OCI_IMAGE_INDEX, DOCKER_INDEX):
            if depth >= _MAX_DEPTH:
                raise problem(layout.title, f"indexes are nested more than {_MAX_DEPTH} deep")
            what = f"{layout.title}: index {entry.digest}"
            index = read_document(read_blob(layout, entry), entry.media_type, what)
            if not isinstance(index, Index):
                raise problem(what, "a manifest where an index was expected")
            yield from _leaves(layout, index.manifests, depth + 1)


def _fits(layout: OciLayout, leaf: Descriptor, wanted: Platform) -> bool:
    if leaf.platform is not None and leaf.platform.os:
        return same_platform(wanted, leaf.platform)
    what = f"{layout.title}: manifest {leaf.digest}"
    try:
        manifest = read_document(read_blob(layout, leaf), leaf.media_type, what)
        if not isinstance(manifest, Manifest):
            raise problem(what, "an index where a manifest was expected")
        config = read_config(read_blob(layout, manifest.config), f"{layout.title}: config")
    except NotAnImageError:
        return False
    return same_platform(wanted, config.platform)


def _is_named(entry: Descriptor, name: str) -> bool:
    """Whether the entry has that name; docker's own note of it in any spelling."""
    if entry.annotations.get(REF_NAME) == name:
        return True
    full = entry.annotations.get(_CONTAINERD_NAME)
    return full is not None and same_name(name, full)


def _listed(entries: Iterable[Descriptor]) -> str:
    names = [entry.annotations.get(REF_NAME) or str(entry.digest) for entry in entries]
    shown = ", ".join(repr(name[:100]) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "nothing"
