"""A registry in memory: the smallest thing that keeps the contract, for tests."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from envgraph.api.registry import (
    BlobSource,
    ManifestBytes,
    PluginContext,
    Registry,
    RegistryError,
    RegistryPlugin,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.model.oci import Descriptor, read_object
from envgraph_store.digest import Digest


@dataclass(slots=True)
class Contents:
    """What one repository holds."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    manifests: dict[Digest, ManifestBytes] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)


class MemoryRegistry:
    """Keeps everything in dictionaries. ``calls`` lists every call, in order, as text."""

    def __init__(self, title: str = "memory") -> None:
        """Begin empty."""
        self.title = title
        self.contents: dict[str, Contents] = {}
        self.calls: list[str] = []
        self.lock = threading.RLock()

    def repository(self, name: str) -> MemoryRepository:
        """The repository of that name; it comes into being with its first blob."""
        return MemoryRepository(self, name)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Names by prefix."""
        self.calls.append(f"list {prefix}")
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
        digest = here.tags.get(reference)
        if reference.startswith("sha256:"):
            digest = Digest(reference)
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
        digest = Digest.of(data)
        if reference.startswith("sha256:") and reference != str(digest):
            raise IntegrityError(f"the manifest is {digest}, not {reference}")
        document = read_object(data, "manifest")
        with self._registry.lock:
            here = self._make()
            named = [*document.get("layers", []), document.get("config")]
            for part in filter(None, named):
                if Digest(part["digest"]) not in here.blobs:
                    raise RegistryError(f"the blob {part['digest']} is not there")
            for part in document.get("manifests", []):
                if Digest(part["digest"]) not in here.manifests:
                    raise RegistryError(f"the manifest {part['digest']} is not there")
            here.manifests[digest] = ManifestBytes(media_type, data, digest)
            if not reference.startswith("sha256:"):
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
        with source() as body:
            data = body.read()
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
        return iter(sorted(self._here.tags))

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Manifests with that subject."""
        self._said("referrers", digest)
        found = []
        for manifest in list(self._here.manifests.values()):
            document = read_object(manifest.data, "manifest")
            subject = document.get("subject") or {}
            kind = document.get("artifactType") or (document.get("config") or {}).get("mediaType")
            if subject.get("digest") == str(digest) and artifact_type in ("", kind):
                found.append(manifest.descriptor)
        return tuple(found)

    def delete(self, reference: str) -> None:
        """Remove a tag, or a manifest with its tags."""
        self._said("delete", reference)
        with self._registry.lock:
            if self._find(reference) is None:
                raise NotFoundError(f"{self.name} has no manifest {reference}")
            here = self._make()
            if not reference.startswith("sha256:"):
                del here.tags[reference]
                return
            digest = Digest(reference)
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
