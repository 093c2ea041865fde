"""A registry in memory: the smallest thing that keeps the contract, for tests."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from envgraph.api.manifests import (
    check_repository,
    checked_manifest,
    read_manifest,
    read_reference,
)
from envgraph.api.registry import (
    BlobSource,
    ManifestBytes,
    PluginContext,
    Registry,
    RegistryError,
    RegistryPlugin,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.model.oci import Descriptor
from envgraph_store.digest import Digest


@dataclass(slots=True)
class Contents:
    """What one repository holds."""

    blobs: dict[Digest, bytes] = field(default_factory=dict[Digest, bytes])
    manifests: dict[Digest, ManifestBytes] = field(default_factory=dict[Digest, ManifestBytes])
    tags: dict[str, Digest] = field(default_factory=dict[str, Digest])


class MemoryRegistry:
    """Keeps everything in dictionaries. ``calls`` lists every call, in order, as text."""

    def __init__(self, title: str = "memory") -> None:
        """Begin empty."""
        self.title: str = title
        self.contents: dict[str, Contents] = {}
        self.calls: list[str] = []
        self.lock = threading.RLock()

    def repository(self, name: str) -> MemoryRepository:
        """The repository of that name; it comes into being with its first blob."""
        return MemoryRepository(self, check_repository(name))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Names by prefix."""
        self.calls.append(f"list {prefix}")
        with self.lock:
            return iter(sorted(name for name in self.contents if name.startswith(prefix)))


class MemoryRepository:
    """One repository of a :class:`MemoryRegistry`."""

    def __init__(self, registry: MemoryRegistry, name: str) -> None:
        """Bind."""
        self._registry = registry
        self.name = name

    @property
    def _here(self) -> Contents:
        return self._registry.contents.get(self.name) or Contents()

    def _make(self) -> Contents:
        return self._registry.contents.setdefault(self.name, Contents())

    def _said(self, call: str, what: object = "") -> None:
        self._registry.calls.append(f"{call} {self.name} {what}".rstrip())

    def _find(self, reference: str) -> ManifestBytes | None:
        here = self._here
        digest = read_reference(reference) or here.tags.get(reference)
        return None if digest is None else here.manifests.get(digest)

    def resolve(self, reference: str) -> Descriptor | None:
        """The manifest behind a tag or digest."""
        self._said("resolve", reference)
        found = self._find(reference)
        return None if found is None else found.descriptor

    def get_manifest(self, reference: str) -> ManifestBytes:
        """The bytes of a manifest."""
        self._said("get_manifest", reference)
        found = self._find(reference)
        if found is None:
            raise NotFoundError(f"{self.name} has no manifest {reference}")
        return found

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Keep a manifest, when all that it names is there."""
        self._said("put_manifest", reference)
        digest, parts = checked_manifest(reference, data, media_type, f"{self.name}:{reference}")
        with self._registry.lock:
            here = self._make()
            lost = [part for part in parts.blobs if part not in here.blobs]
            lost += [part for part in parts.manifests if part not in here.manifests]
            if lost:
                raise RegistryError(f"{self.name}: {reference} names {lost[0]}, which is not there")
            here.manifests[digest] = ManifestBytes(parts.media_type, data, digest)
            if read_reference(reference) is None:
                here.tags[reference] = digest
        return digest

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """The blobs that are not there."""
        asked = frozenset(digests)
        self._said("missing", len(asked))
        return asked - self._here.blobs.keys()

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        """A blob's bytes."""
        self._said("open_blob", f"{digest} {offset}")
        data = self._here.blobs.get(digest)
        if data is None:
            raise NotFoundError(f"{self.name} has no blob {digest}")
        yield io.BytesIO(data[offset:])

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Keep a blob."""
        self._said("push_blob", descriptor.digest)
        data = b""
        with source() as body:
            while len(data) <= descriptor.size and (piece := body.read(1 << 20)):
                data += piece
        if Digest.of(data) != descriptor.digest or len(data) != descriptor.size:
            raise IntegrityError(f"the bytes pushed are not {descriptor.digest}")
        with self._registry.lock:
            self._make().blobs[descriptor.digest] = data

    def mount(self, digest: Digest, from_repository: str) -> bool:
        """Take a blob over."""
        self._said("mount", f"{digest} {from_repository}")
        with self._registry.lock:
            other = self._registry.contents.get(from_repository)
            if other is None or digest not in other.blobs:
                return False
            self._make().blobs[digest] = other.blobs[digest]
        return True

    def tags(self) -> Iterator[str]:
        """All tags."""
        self._said("tags")
        with self._registry.lock:
            return iter(sorted(self._here.tags))

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Manifests with that subject."""
        self._said("referrers", digest)
        found: list[Descriptor] = []
        with self._registry.lock:
            manifests = list(self._here.manifests.values())
        for manifest in manifests:
            parts = read_manifest(manifest.data, manifest.media_type, str(manifest.digest))
            if parts.subject == digest and artifact_type in ("", parts.artifact_type):
                found.append(manifest.descriptor)
        return tuple(found)

    def delete(self, reference: str) -> None:
        """Remove a tag, or a manifest with its tags."""
        self._said("delete", reference)
        with self._registry.lock:
            if self._find(reference) is None:
                raise NotFoundError(f"{self.name} has no manifest {reference}")
            here = self._make()
            digest = read_reference(reference)
            if digest is None:
                del here.tags[reference]
                return
            del here.manifests[digest]
            here.tags = {tag: named for tag, named in here.tags.items() if named != digest}


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """``type: memory``; ``name`` chooses one of several."""

    name: str = ""


class MemoryPlugin:
    """A plugin module's stand-in: every host and every name is a registry of its own."""

    def __init__(self) -> None:
        """Begin without registries."""
        self.registries: dict[str, MemoryRegistry] = {}

    def registry(self, name: str = "") -> MemoryRegistry:
        """The registry of that name or ``host[:port]``, made when it is first named."""
        return self.registries.setdefault(name, MemoryRegistry(name or "memory"))

    def descriptor(self) -> RegistryPlugin:
        """What ``envgraph_registries`` would yield."""

        def opened(options: Any, context: PluginContext) -> AbstractContextManager[Registry]:
            return _entered(self.registry(options.name))

        return RegistryPlugin(
            "memory",
            "in this process's memory, for tests",
            MemoryOptions,
            opened,
            for_host=lambda host, near: MemoryOptions(host),
            host_of=lambda options: options.name,
        )


@contextmanager
def _entered(registry: Registry) -> Iterator[Registry]:
    yield registry
