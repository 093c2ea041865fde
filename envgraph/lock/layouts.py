"""OCI image layouts: ``oci-layout``, ``index.json``, ``blobs/sha256/<hex>``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Final, Protocol

from envgraph.errors import ResolveError
from envgraph.lock.manifests import (
    Documents,
    check_document_size,
    fitting,
    manifests_below,
    no_such_platform,
)
from envgraph.lock.sources import Tree, read_verified
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    OCI_IMAGE_INDEX,
    REF_NAME,
    Descriptor,
    Index,
    Platform,
    check_case,
    problem,
    read_document,
    read_object,
)
from envgraph.model.reference import same_name
from envgraph_store.digest import Digest

_CONTAINERD_NAME: Final = "io.containerd.image.name"
COPY_ALL: Final = "copy the image for every platform (`skopeo copy --all`), or change `platforms:`"


class Blobs(Documents, Protocol):
    """Blobs by digest; what is opened is not verified yet."""

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

    def document(self, descriptor: Descriptor) -> bytes:
        """A manifest, index or config, verified."""
        return read_blob(self, descriptor)

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
    check_document_size(descriptor, blobs.title)
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
    leaves = manifests_below(layout, named)
    found = list(fitting(layout, leaves, wanted))
    if len(found) == 1:
        return found[0]
    if not found:
        raise no_such_platform(layout, leaves, wanted, COPY_ALL)
    raise ResolveError(
        f"{layout.title} holds {len(found)} images for {wanted}",
        code="base-name",
        detail=f"It holds: {_listed(entries)}.",
        hint="name one of them: oci:PATH:NAME",
    )


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
