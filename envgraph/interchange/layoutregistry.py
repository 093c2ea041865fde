"""An OCI image layout as a registry that can only be read: what a bundle is.

The entries of ``index.json`` are named ``repository:tag``. Nothing is trusted here: names
lead nowhere outside (:mod:`envgraph.lock.sources`), and whoever reads verifies digests
and sizes, as with every registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from envgraph.api.registry import BlobSource, ManifestBytes, RegistryError
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.lock.layouts import OciLayout
from envgraph.lock.sources import Tree
from envgraph.model.oci import DOCUMENT_LIMIT, REF_NAME, Descriptor
from envgraph_store.digest import Digest


class LayoutRegistry:
    """A layout in a folder or tar."""

    def __init__(self, tree: Tree) -> None:
        """Read ``oci-layout`` and ``index.json``; IntegrityError when they are not sound."""
        self._layout = OciLayout(tree)
        self.named: dict[str, dict[str, Descriptor]] = {}
        for entry in self._layout.entries():
            name, colon, tag = entry.annotations.get(REF_NAME, "").rpartition(":")
            if not colon:
                continue
            tags = self.named.setdefault(name, {})
            if tags.setdefault(tag, entry) != entry:
                raise IntegrityError(
                    f"{self.title}: {name[:100]}:{tag[:100]} is there twice", code="bundle"
                )

    @property
    def title(self) -> str:
        """The path."""
        return self._layout.title

    @property
    def layout(self) -> OciLayout:
        """The blobs."""
        return self._layout

    def repository(self, name: str) -> LayoutRepository:
        """The entries of one name."""
        return LayoutRepository(self, name)

    def list(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with ``prefix``."""
        return iter(sorted(name for name in self.named if name.startswith(prefix)))


class LayoutRepository:
    """One repository of a layout; all of them share its blobs."""

    def __init__(self, registry: LayoutRegistry, name: str) -> None:
        """Bind."""
        self._registry = registry
        self.name = name

    def resolve(self, reference: str) -> Descriptor | None:
        """The entry of that tag, or what has that digest."""
        tags = self._registry.named.get(self.name, {})
        if not reference.startswith("sha256:"):
            return tags.get(reference)
        digest = Digest(reference)
        named = next((entry for entry in tags.values() if entry.digest == digest), None)
        size = self._registry.layout.size(digest)
        if named is not None or size is None:
            return named
        return Descriptor("", digest, size)

    def get_manifest(self, reference: str) -> ManifestBytes:
        """The bytes of a manifest; its media type is what it says itself."""
        found = self.resolve(reference)
        if found is None or self._registry.layout.size(found.digest) is None:
            raise NotFoundError(f"{self._registry.title} holds no {self.name}:{reference}")
        with self._registry.layout.open(found.digest) as body:
            data = body.read(DOCUMENT_LIMIT + 1)
        if len(data) > DOCUMENT_LIMIT or Digest.of(data) != found.digest:
            raise IntegrityError(
                f"{self._registry.title}: {found.digest} has other bytes than its name says",
                code="bundle",
            )
        return ManifestBytes(found.media_type, data, found.digest)

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """The blobs that the layout does not hold."""
        return frozenset(d for d in digests if self._registry.layout.size(d) is None)

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        """A blob's bytes; the caller verifies them."""
        if self._registry.layout.size(digest) is None:
            raise NotFoundError(f"{self._registry.title} holds no blob {digest}")
        with self._registry.layout.open(digest) as body:
            left = offset
            while left and (piece := body.read(min(left, 1 << 20))):
                left -= len(piece)
            yield body

    def tags(self) -> Iterator[str]:
        """The tags of that name."""
        return iter(sorted(self._registry.named.get(self.name, {})))

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """None: a bundle has no use for them."""
        return ()

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Refused: it is only read."""
        raise self._read_only()

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Refused: it is only read."""
        raise self._read_only()

    def mount(self, digest: Digest, from_repository: str) -> bool:
        """Refused: it is only read."""
        raise self._read_only()

    def delete(self, reference: str) -> None:
        """Refused: it is only read."""
        raise self._read_only()

    def _read_only(self) -> RegistryError:
        return RegistryError(f"{self._registry.title} is only read", code="registry-unsupported")
