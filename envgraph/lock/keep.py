"""Archives that locking had to fetch or build, kept in the store's ``packages``."""

from __future__ import annotations

from pathlib import Path

from envgraph.lock.packages import PackageWriter
from envgraph_store import Digest, Store


class StoredPackages:
    """The store's packages as locking sees them; each archive is a batch of its own."""

    def __init__(self, store: Store) -> None:
        """Bind; nothing is read yet."""
        self._store = store

    def has(self, digest: Digest, /) -> bool:
        """Whether the archive is there."""
        return self._store.packages.has(digest)

    def path(self, digest: Digest, /) -> Path:
        """The archive's file; it may be read, never written."""
        return self._store.packages.path(digest)

    def writer(self) -> PackageWriter:
        """Begin a new archive; it is durable when ``finish`` returns."""
        return _Writer(self._store)


class _Writer:
    def __init__(self, store: Store) -> None:
        self._batch = store.transaction()
        self._writer = self._batch.writer("packages")

    def write(self, data: bytes, /) -> object:
        return self._writer.write(data)

    def finish(self) -> Digest:
        with self._batch:
            digest = self._writer.finish()
            self._batch.commit()
        return digest

    def abort(self) -> None:
        self._writer.abort()
        self._batch.close()
