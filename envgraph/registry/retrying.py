"""A repository that does not give up at once: the same interface, with retries.

Backends do each thing once. Here a call that may succeed later is made again, after a
pause that doubles (or that the registry asked for), and a body that broke off goes on
where it ended. What is read from a blob is counted and hashed: no wrong byte passes
unnoticed, and no body is longer than it should be or takes for ever.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final, NoReturn, TypeVar

from envgraph.api.builder import BuilderError
from envgraph.api.registry import BlobSource, ManifestBytes, RegistryError, Repository
from envgraph.errors import EnvgraphError, IntegrityError, NotFoundError
from envgraph.model.oci import Descriptor
from envgraph_store.digest import Digest
from envgraph_store.errors import StoreError

_T = TypeVar("_T")
_CHUNK: Final = 1 << 20
_SLOWEST: Final = 1024
"""Bytes a second, on average: a body that brings less is broken off."""

_PATIENCE: Final = 60.0
"""Seconds before a slow body is judged."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How often and how long. ``pause`` doubles with each try; times are seconds."""

    tries: int = 5
    pause: float = 0.5
    longest_pause: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def wait(self, attempt: int, error: RegistryError | BuilderError) -> None:
        """Pause after the failed try number ``attempt`` (from 1); raise when it was the last.

        A server that asks for more than the longest pause is not waited for.
        """
        pause = self.pause * 2 ** (attempt - 1)
        if error.retry_after is not None:
            pause = max(pause, error.retry_after)
        if not error.retryable or attempt >= self.tries or pause > self.longest_pause:
            raise error
        self.sleep(pause)

    def run(self, call: Callable[[], _T], *, calls_back: bool = False) -> _T:
        """Call until it succeeds or may not be tried again.

        ``calls_back``: an exception may be that of something of ours that the plugin
        calls (a blob's source), and passes.
        """
        attempt = 1
        while True:
            try:
                return call()
            except RegistryError as error:
                self.wait(attempt, error)
                attempt += 1
            except BaseException as error:
                if calls_back and isinstance(error, Exception):
                    raise
                raise_as_ours(error)


def raise_as_ours(error: BaseException) -> NoReturn:
    """Raise what a plugin's method raised: an error that happens, or a fault of the plugin.

    Errors of ours, of the store and of the system pass (a blob's source may raise them,
    too). A plugin that would end the process, or that fails in any other way, ends only
    what it was asked for.
    """
    if isinstance(error, EnvgraphError | StoreError | OSError | MemoryError | KeyboardInterrupt):
        raise error
    lines = str(error).strip().splitlines()
    said = ": ".join(part for part in (type(error).__name__, *lines[:1]) if part)
    raise RegistryError(
        f"the registry's plugin failed: {said}",
        code="plugin",
        hint="that is a fault of the plugin: `envgraph plugin list` says whose it is",
    ) from error


class RetryingRepository:
    """Wraps a :class:`~envgraph.api.registry.Repository`; is one itself."""

    def __init__(self, inner: Repository, policy: Policy) -> None:
        """Bind; asks nothing."""
        self._inner = inner
        self._policy = policy

    @property
    def name(self) -> str:
        """The repository's name."""
        return self._inner.name

    def resolve(self, reference: str) -> Descriptor | None:
        """What the reference means now, or None."""
        return self._policy.run(lambda: self._inner.resolve(reference))

    def get_manifest(self, reference: str) -> ManifestBytes:
        """The manifest's bytes, checked against their digest once more."""
        found = self._policy.run(lambda: self._inner.get_manifest(reference))
        if Digest.of(found.data) != found.digest or (
            reference.startswith("sha256:") and str(found.digest) != reference
        ):
            raise IntegrityError(
                f"{self.name}: the manifest for {reference} is other bytes than its digest says",
                code="registry-digest",
                hint="the registry, or something before it, is damaged or lies: nothing was kept",
            )
        return found

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Keep a manifest; IntegrityError when the registry made it another."""
        digest = self._policy.run(lambda: self._inner.put_manifest(reference, data, media_type))
        if digest != Digest.of(data):
            raise IntegrityError(
                f"{self.name}: the registry keeps {reference} as {digest}, not as it was pushed",
                code="registry-digest",
            )
        return digest

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """The blobs that are not there."""
        wanted = tuple(digests)
        return self._policy.run(lambda: self._inner.missing(wanted))

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        """The blob, open; with ``offset`` 0 its last bytes come only when all were verified."""
        if offset:
            with self._inner.open_blob(digest, size, offset) as body:
                yield body
            return
        reader = _ResumingReader(self._inner, digest, size, self._policy)
        with io.BufferedReader(reader, _CHUNK) as body:
            reader.begin()
            yield body

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Push; each try opens the source anew."""
        self._policy.run(lambda: self._inner.push_blob(descriptor, source), calls_back=True)

    def mount(self, digest: Digest, from_repository: str) -> bool:
        """Take a blob over; False when it has to be pushed."""
        return self._policy.run(lambda: self._inner.mount(digest, from_repository))

    def tags(self) -> Iterator[str]:
        """All tags; the whole list is one try."""
        return iter(self._policy.run(lambda: list(self._inner.tags())))

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """What refers to a manifest."""
        return self._policy.run(lambda: self._inner.referrers(digest, artifact_type))

    def delete(self, reference: str) -> None:
        """Remove a tag or manifest; one that is gone at a later try was removed by ours."""
        tried = False

        def once() -> None:
            nonlocal tried
            again, tried = tried, True
            try:
                self._inner.delete(reference)
            except NotFoundError:
                if not again:
                    raise

        self._policy.run(once)


class _ResumingReader(io.RawIOBase):
    """A blob from a repository that may break off: goes on where it ended, and verifies."""

    def __init__(self, repository: Repository, digest: Digest, size: int, policy: Policy) -> None:
        self._repository = repository
        self._digest = digest
        self._size = size
        self._policy = policy
        self._hash = hashlib.sha256()
        self._done = 0
        self._attempt = 1
        self._opened: AbstractContextManager[BinaryIO] | None = None
        self._body: BinaryIO | None = None
        self._began = policy.clock()

    def begin(self) -> None:
        """Open the blob; NotFoundError when it is not there."""
        self._policy.run(self._enter)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._leave()
        super().close()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            try:
                data = self._piece(min(len(buffer), _CHUNK))
            except RegistryError as error:
                self._leave()
                self._policy.wait(self._attempt, error)
                self._attempt += 1
                continue
            except BaseException as error:
                raise_as_ours(error)
            buffer[: len(data)] = data
            return len(data)

    def _piece(self, most: int) -> bytes:
        if self._done == self._size:
            self._finish()
            return b""
        if self._body is None:
            self._enter()
        assert self._body is not None
        data = self._body.read(min(most, self._size - self._done))
        if not data:
            raise self._broken(f"the body ended after {self._done} of {self._size} bytes")
        self._done += len(data)
        self._hash.update(data)
        waited = self._policy.clock() - self._began
        if waited > _PATIENCE and self._done < waited * _SLOWEST:
            self._attempt = self._policy.tries
            raise self._broken(f"{self._done} bytes came in {waited:.0f} seconds")
        if self._done == self._size:
            self._finish()
        return data

    def _enter(self) -> None:
        try:
            self._opened = self._repository.open_blob(self._digest, self._size, self._done)
            self._body = self._opened.__enter__()
        except RegistryError as error:
            self._opened = None
            if error.diagnostics[0].code != "registry-unsupported" or not self._done:
                raise
            self._again()

    def _again(self) -> None:
        """From the first byte: what was read before must come again."""
        self._opened = self._repository.open_blob(self._digest, self._size, 0)
        self._body = self._opened.__enter__()
        seen, left = hashlib.sha256(), self._done
        while left:
            data = self._body.read(min(left, _CHUNK))
            if not data:
                raise self._broken(f"the body ended before byte {self._done}, where it was before")
            seen.update(data)
            left -= len(data)
        if seen.digest() != self._hash.digest():
            raise self._wrong("its bytes are not those of a moment ago")

    def _finish(self) -> None:
        """Judge the whole; a body that goes on is wrong, too."""
        try:
            longer = self._body is not None and self._body.read(1)
        except RegistryError:
            longer = False  # all bytes are here; to try again would give the last ones twice
        if longer:
            raise self._wrong(f"it is longer than {self._size} bytes")
        self._leave()
        found = self._hash.hexdigest()
        if found != self._digest.hex:
            raise self._wrong(f"its bytes are those of sha256:{found}")

    def _leave(self) -> None:
        opened, self._opened, self._body = self._opened, None, None
        if opened is not None:
            opened.__exit__(None, None, None)

    def _broken(self, why: str) -> RegistryError:
        return RegistryError(
            f"{self._repository.name}: {self._digest} could not be read: {why}",
            code="registry-down",
            retryable=True,
        )

    def _wrong(self, why: str) -> IntegrityError:
        return IntegrityError(
            f"{self._repository.name}: the blob {self._digest} is wrong: {why}",
            code="registry-digest",
            hint="the registry, or something before it, is damaged or lies: nothing was kept",
        )
