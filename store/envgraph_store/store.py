"""The store: one folder, opened once, with everything that can be asked of it.

Importing this module is cheap: garbage collection, checks and the memo are
imported when they are used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from envgraph_store import files, generation, locks
from envgraph_store.actions import Actions
from envgraph_store.area import Area
from envgraph_store.digest import Digest
from envgraph_store.errors import RecordCorrupt, StoreFull
from envgraph_store.layout import Folders, open_folders
from envgraph_store.naming import escape
from envgraph_store.refs import Refs
from envgraph_store.stage import GC_LOCK
from envgraph_store.transaction import Transaction

if TYPE_CHECKING:
    from envgraph_store.check import Mapper, VerifyReport
    from envgraph_store.gc import GcReport
    from envgraph_store.memo import Memo
    from envgraph_store.usage import UsageReport

LOCK_TIMEOUT = 60.0
"""How many seconds to wait for a file lock, if not told otherwise."""


class Store:
    """A content-addressed store. Use :meth:`open`; safe to use from threads."""

    def __init__(self, folders: Folders, lock_timeout: float) -> None:
        self._folders = folders
        self._lock_timeout = lock_timeout
        self._mutex = threading.Lock()
        self._memo: Memo | None = None
        self.root: Path = folders.path
        self.blobs = Area(folders, "blobs")
        self.packages = Area(folders, "packages")
        self.actions = Actions(folders, self._has)
        self.refs = Refs(folders, self.transaction)

    @classmethod
    def open(
        cls,
        root: Path | str,
        *,
        create: bool = True,
        lock_timeout: float = LOCK_TIMEOUT,
        disk: files.Disk | None = None,
    ) -> Store:
        """Open the store at ``root``, creating it if there is none and ``create`` says so.

        Folders that a store has lost are made again, since copying drops empty ones.
        ``lock_timeout`` is how many seconds a transaction waits for a running
        garbage collection. ``disk`` is for tests. Raise a
        :class:`~envgraph_store.errors.StoreError`: missing, of a newer format,
        owned by somebody else or writable by others.
        """
        disk = disk or files.Disk()
        folders = open_folders(Path(root), create=create, disk=disk)
        try:
            if folders.restored - {"locks", "stage"}:
                generation.bump(folders)
        except BaseException:
            folders.close()
            raise
        return cls(folders, lock_timeout)

    def close(self) -> None:
        """Close every descriptor; a second call does nothing."""
        if self._memo is not None:
            self._memo.close()
            self._memo = None
        self._folders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def transaction(self) -> Transaction:
        """Begin a batch of writes; it waits for a running garbage collection."""
        return Transaction(self._folders, self._lock_timeout)

    @contextmanager
    def file_lock(
        self, name: str, *, purpose: str, shared: bool = False, timeout: float = LOCK_TIMEOUT
    ) -> Iterator[None]:
        """Hold the kernel lock of that name, waiting up to ``timeout`` seconds.

        Raise :class:`~envgraph_store.errors.StoreLocked` with the holder's pid,
        host, command and purpose. It excludes threads of this process too, and
        is not re-entrant.
        """
        held = self._acquire(f"name-{escape(name)}.lock", name, purpose, shared, timeout)
        try:
            yield
        finally:
            held.release()

    @contextmanager
    def lease(self, purpose: str, *, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
        """Keep everything that is here now, or comes, until the end of the block.

        Garbage collection and repair wait for leases; leases do not wait for
        each other. What was found with ``has`` inside the block stays.
        """
        held = self._acquire(GC_LOCK, "the store", purpose, True, timeout)
        try:
            yield
        finally:
            held.release()

    def generation(self) -> str:
        """A word that changes whenever anything was removed or found to be bad."""
        return generation.read(self._folders)

    def rewrite_index(self, *, timeout: float = LOCK_TIMEOUT) -> bool:
        """Derive ``index.json`` from the refs below ``images/``; False if it was right.

        Such a ref's value is ``{"mediaType", "digest", "size", "ref_name",
        "annotations"?, "platform"?, "artifactType"?}``.
        """
        from envgraph_store import index

        held = self._acquire("index.lock", "index.json", "writing index.json", False, timeout)
        try:
            return index.rewrite(self._folders, self.refs)
        finally:
            held.release()

    def names_of(self, image: Digest) -> list[str]:
        """The names that ``index.json`` gives an image: one look, and a hint only."""
        from envgraph_store import index

        return index.names_of(self._folders, image)

    @property
    def memo(self) -> Memo:
        """Hints that may vanish; diskcache is imported when this is first asked for."""
        with self._mutex:
            if self._memo is None:
                from envgraph_store.memo import Memo

                self._memo = Memo(self._folders)
            return self._memo

    def verify(
        self,
        *,
        repair: bool = False,
        progress: Callable[[int, int], object] | None = None,
        mapper: Mapper | None = None,
        timeout: float = LOCK_TIMEOUT,
    ) -> VerifyReport:
        """Hash everything; see :func:`envgraph_store.check.verify`."""
        from envgraph_store import check

        return check.verify(
            self._folders, repair=repair, progress=progress, mapper=mapper, timeout=timeout
        )

    def gc(
        self,
        *,
        dry_run: bool = False,
        grace_seconds: float | None = None,
        now: float | None = None,
        timeout: float = LOCK_TIMEOUT,
    ) -> GcReport:
        """Remove what nothing names any more; see :func:`envgraph_store.gc.collect`.

        ``grace_seconds`` defaults to two weeks, ``now`` (Unix time) to the clock.
        """
        from envgraph_store import gc

        grace = gc.GRACE_SECONDS if grace_seconds is None else grace_seconds
        report = gc.collect(
            self._folders, dry_run=dry_run, grace_seconds=grace, now=now, timeout=timeout
        )
        if not dry_run:
            with suppress(StoreFull, RecordCorrupt):  # other tools may then see old names
                self.rewrite_index(timeout=timeout)
        return report

    def usage(self) -> UsageReport:
        """How much lies in the store, by kind."""
        from envgraph_store import usage

        return usage.measure(self._folders)

    def _acquire(
        self, file_name: str, what: str, purpose: str, shared: bool, timeout: float
    ) -> locks.HeldLock:
        return locks.acquire(
            self._folders["locks"],
            file_name,
            where=self._folders.shown("locks") / file_name,
            what=what,
            purpose=purpose,
            shared=shared,
            timeout=timeout,
        )

    def _has(self, digest: Digest) -> bool:
        return self.blobs.has(digest) or self.packages.has(digest)
