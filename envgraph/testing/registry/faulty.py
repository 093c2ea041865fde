"""A registry that misbehaves when it is told to, around any other: for those who use one.

::

    faulty = FaultyRegistry(MemoryRegistry(), down("push_blob", at=2), cut("open_blob", after=1000))

The faults are in :mod:`envgraph.testing.registry.faults`. Each has a method and the numbers
of the calls that it spoils, counted from 1 for each method over all repositories. Calls
that no fault meets go through: without faults this is the registry inside, and keeps the
contract. ``calls`` lists what was asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

from envgraph.api import (
    BlobSource,
    Descriptor,
    Digest,
    ManifestBytes,
    Registry,
    Repository,
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a fault meets. ``go`` makes it; ``repository`` is the one that is inside."""

    method: str
    arguments: tuple[Any, ...]
    repository: Repository
    go: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """``action`` answers instead of the calls ``at`` … ``at + times - 1`` of ``method``."""

    method: str
    action: Callable[[Call], Any]
    at: int = 1
    times: int = 1

    def meets(self, method: str, number: int) -> bool:
        """Whether it spoils that call."""
        return method == self.method and self.at <= number < self.at + self.times


class FaultyRegistry:
    """Wraps a registry. Faults may be added at any time: ``faulty.faults.append(…)``."""

    def __init__(self, inner: Registry, *faults: Fault) -> None:
        """Bind; asks nothing."""
        self.inner = inner
        self.title: str = inner.title
        self.faults: list[Fault] = list(faults)
        self.calls: list[str] = []
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    def repository(self, name: str) -> FaultyRepository:
        """The repository of that name, with its faults."""
        return FaultyRepository(self, self.inner.repository(name))

    def list(self, prefix: str = "") -> Iterator[str]:
        """Names by prefix."""
        return iter(list(self.inner.list(prefix)))

    def answer(self, call: Call) -> Any:
        """Count a call, and let the first fault that meets it answer."""
        method = call.method
        with self._lock:
            number = self._numbers[method] = self._numbers.get(method, 0) + 1
            self.calls.append(method)
            fault = next((item for item in self.faults if item.meets(method, number)), None)
        if fault is None:
            return call.go(*call.arguments)
        return fault.action(call)


class FaultyRepository:
    """One repository of a :class:`FaultyRegistry`."""

    def __init__(self, registry: FaultyRegistry, inner: Repository) -> None:
        """Bind."""
        self._registry = registry
        self._inner = inner

    def _ask(self, method: str, *arguments: Any) -> Any:
        go = getattr(self._inner, method)
        return self._registry.answer(Call(method, arguments, self._inner, go))

    @property
    def name(self) -> str:
        """The repository's name."""
        return self._inner.name

    def resolve(self, reference: str) -> Descriptor | None:
        """Spoiled or not."""
        found: Descriptor | None = self._ask("resolve", reference)
        return found

    def get_manifest(self, reference: str) -> ManifestBytes:
        """Spoiled or not."""
        found: ManifestBytes = self._ask("get_manifest", reference)
        return found

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Spoiled or not."""
        digest: Digest = self._ask("put_manifest", reference, data, media_type)
        return digest

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Spoiled or not."""
        found: frozenset[Digest] = self._ask("missing", tuple(digests))
        return found

    def open_blob(
        self, digest: Digest, size: int, offset: int = 0
    ) -> AbstractContextManager[BinaryIO]:
        """Spoiled or not."""
        body: AbstractContextManager[BinaryIO] = self._ask("open_blob", digest, size, offset)
        return body

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Spoiled or not."""
        self._ask("push_blob", descriptor, source)

    def mount(self, digest: Digest, from_repository: str) -> bool:
        """Spoiled or not."""
        done: bool = self._ask("mount", digest, from_repository)
        return done

    def tags(self) -> Iterator[str]:
        """Spoiled or not."""
        found: list[str] = list(self._ask("tags"))
        return iter(found)

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Spoiled or not."""
        found: tuple[Descriptor, ...] = self._ask("referrers", digest, artifact_type)
        return found

    def delete(self, reference: str) -> None:
        """Spoiled or not."""
        self._ask("delete", reference)
