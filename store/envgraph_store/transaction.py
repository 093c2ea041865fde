"""One batch of writes that becomes visible whole and durable, or not at all.

Write order (``store/README.md`` has the reasons)::

    stage every object, action and ref value     hashing while writing
    sync what was staged                         fsync each, or one syncfs
    rename objects into their area               now they can be read
    sync the areas' folders
    rename actions, sync their folder
    link refs, sync their folders                now they can be found
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from envgraph_store import files, locks, records, refs, stage
from envgraph_store.digest import Digest
from envgraph_store.errors import DigestMismatch, io_error
from envgraph_store.layout import AREAS, Folders
from envgraph_store.naming import escape

AreaName = Literal["blobs", "packages"]
_FEW: Final = 16
"""Up to so many new files are synced one by one; more go with one ``syncfs``."""
_BUFFER: Final = 1 << 18
_SMALL: Final = 1 << 16


class StagedWriter:
    """Write one object; its digest is known, and checked, at :meth:`finish`.

    One writer is used by one thread at a time. It is also a context manager:
    leaving it unfinished aborts it.
    """

    __slots__ = ("_buffer", "_expect", "_fd", "_hash", "_limit", "_name", "_owner", "area", "size")

    def __init__(
        self, owner: Transaction, area: AreaName, expect: Digest | None, limit: int | None
    ) -> None:
        self._owner = owner
        self._expect = expect
        self._limit = limit
        self._hash = files.new_hash()
        self._buffer = bytearray()
        self.area: AreaName = area
        self.size = 0
        self._name, self._fd = owner._create()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take bytes; return how many. Raise :class:`DigestMismatch` beyond the size."""
        if self._fd < 0:
            raise ValueError("the writer is finished")
        count = len(data) if not isinstance(data, memoryview) else data.nbytes
        self.size += count
        if self._limit is not None and self.size > self._limit:
            limit = self._limit
            self.abort()
            raise DigestMismatch(f"more than the announced {limit} bytes were written")
        if count < _SMALL:
            self._buffer += data
            if len(self._buffer) >= _BUFFER:
                self._flush()
        else:
            self._flush()
            self._put(data)
        return count

    def finish(self) -> Digest:
        """End the object and return the digest of what was written.

        Raise :class:`DigestMismatch` if it, or the size, is not what was
        announced; nothing of it is kept then.
        """
        if self._fd < 0:
            raise ValueError("the writer is finished")
        try:
            self._flush()
            digest = Digest.from_hex(self._hash.hexdigest())
            if self._limit is not None and self.size != self._limit:
                raise DigestMismatch(f"{self.size} bytes were written, {self._limit} announced")
            if self._expect is not None and digest != self._expect:
                raise DigestMismatch(f"the bytes are {digest}, announced was {self._expect}")
        except BaseException:
            self.abort()
            raise
        fd, self._fd = self._fd, -1
        self._owner._finished(self.area, digest, self._name, fd, self.size)
        return digest

    def abort(self) -> None:
        """Drop what was written; a second call, or one after finish, does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            self._owner._drop(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()

    def _flush(self) -> None:
        if self._buffer:
            self._put(self._buffer)
            self._buffer = bytearray()

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)
        try:
            files.write_all(self._fd, data)
        except OSError as error:
            self.abort()
            raise io_error(error, "write to", self._owner.where) from error


class Transaction:
    """A batch of objects, actions and refs; nothing is visible before :meth:`commit`.

    While it lives, garbage collection waits. Its writers may be used from
    several threads. Leaving the ``with`` block without a commit drops
    everything. If ``commit`` raises, objects and actions may be visible (each
    whole), and the refs that were not set are not.
    """

    def __init__(self, folders: Folders, timeout: float) -> None:
        self._folders = folders
        self._mutex = threading.Lock()
        self._count = 0
        self._objects: dict[tuple[AreaName, Digest], stage.Staged] = {}
        self._actions: dict[str, dict[str, Any]] = {}
        self._refs: dict[str, tuple[dict[str, Any] | None, int | None]] = {}
        self._writing: set[str] = set()
        self._open = True
        self.generations: dict[str, int] = {}
        self._lease = locks.acquire(
            folders["locks"],
            stage.GC_LOCK,
            where=folders.shown("locks") / stage.GC_LOCK,
            what="the store",
            purpose="writing to the store",
            shared=True,
            timeout=timeout,
        )
        try:
            self._stage = stage.StageFolder(folders)
        except BaseException:
            self._lease.release()
            raise

    @property
    def where(self) -> Path:
        """The folder that holds what is not visible yet, for messages."""
        return self._stage.where

    def writer(
        self, area: AreaName = "blobs", expect: Digest | None = None, size: int | None = None
    ) -> StagedWriter:
        """Begin an object. ``expect`` and ``size`` are checked; too many bytes end it early."""
        if area not in AREAS:
            raise ValueError(f"no such area: {area!r}")
        return StagedWriter(self, area, expect, size)

    def add_bytes(self, data: bytes | memoryview, area: AreaName = "blobs") -> Digest:
        """Add an object that is in memory."""
        writer = self.writer(area)
        writer.write(data)
        return writer.finish()

    def add_file(
        self, path: Path | str, area: AreaName = "blobs", expect: Digest | None = None
    ) -> Digest:
        """Add a copy of a regular file; one of that digest that is kept is not read again.

        The digest is that of the bytes that were copied, even if the file
        changes meanwhile.
        """
        try:
            fd, status = files.open_regular(os.path.realpath(path))
        except OSError as error:
            raise io_error(error, "read", path) from error
        try:
            if expect is not None and stage.has_size(self._folders, area, expect, status.st_size):
                stage.freshen(self._folders, area, expect)
                return expect
            with self.writer(area, expect) as writer:
                buffer = memoryview(bytearray(min(max(status.st_size, 1), files.CHUNK)))
                while count := _read(fd, buffer, path):
                    writer.write(buffer[:count])
                return writer.finish()
        finally:
            os.close(fd)

    def put_action(self, key: str, record: Mapping[str, object]) -> None:
        """Say that ``key`` gave ``record``; the digests in it are what it needs."""
        escape(key)
        with self._mutex:
            self._require_open()
            self._actions[key] = dict(record)

    def set_ref(self, name: str, value: Mapping[str, object], expected: int | None) -> None:
        """Give a name a value at commit, if it is at generation ``expected`` then.

        ``expected`` is None for a name that must not exist.
        """
        self._plan_ref(name, dict(value), expected)

    def delete_ref(self, name: str, expected: int | None) -> None:
        """Take a name's value away at commit, if it is at ``expected`` then."""
        if expected is None:
            raise refs._conflict(name, 0, None)
        self._plan_ref(name, None, expected)

    def commit(self) -> None:
        """Make everything durable and visible; on return, exit 0 is honest.

        Raise :class:`RefConflict` if a name moved, :class:`StoreIOError` (with
        :class:`StoreFull`) if the disk refused, :class:`ObjectCollision`.
        """
        with self._mutex:
            self._require_open()
            if self._writing:
                raise ValueError("a writer of this transaction is not finished")
            self._open = False
        try:
            self._publish()
        except OSError as error:
            raise io_error(error, "write to the store at", self._folders.path) from error
        finally:
            self._end()

    def close(self) -> None:
        """Drop what was not committed; a second call does nothing."""
        with self._mutex:
            self._open = False
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _publish(self) -> None:
        folders, disk = self._folders, self._folders.disk
        for name, (_, expected) in self._refs.items():
            refs.check_expected(folders, name, expected)
        new = stage.without_kept(folders, self._stage, self._objects)
        actions, values = self._stage_records()
        disk.point("staged")
        many = len(new) + len(actions) + len(values) > _FEW
        self._stage.sync(many)
        disk.point("synced")
        stage.place(folders, self._stage, new)
        disk.point("placed")
        if self._objects or actions or values:
            for area in AREAS:
                disk.sync_folder(folders[area])
        for file_name, staged in actions.items():
            os.rename(staged, file_name, src_dir_fd=self._stage.fd, dst_dir_fd=folders["actions"])
        if actions:
            disk.sync_folder(folders["actions"])
        disk.point("actions")
        for name, staged in values.items():
            expected = self._refs[name][1]
            self.generations[name] = refs.link_generation(
                folders, name, expected, staged, self._stage.fd
            )
        disk.point("refs")

    def _stage_records(self) -> tuple[dict[str, str], dict[str, str]]:
        """Stage actions and refs: the file or ref name, and the staged file's name."""
        here = stage.Here(self._folders, self._stage, self._objects)
        actions: dict[str, str] = {}
        for key, record in self._actions.items():
            needs = [str(d) for d in sorted(here.present(records.digests_in(record)))]
            data = records.encode({"key": key, "needs": needs, "record": record})
            actions[escape(key)] = self._stage_bytes(data)
        values: dict[str, str] = {}
        for name, (value, _) in self._refs.items():
            needs = [str(d) for d in sorted(here.closure(records.digests_in(value)))]
            data = records.encode({"name": name, "needs": needs, "value": value})
            values[name] = self._stage_bytes(data)
        return actions, values

    def _stage_bytes(self, data: bytes) -> str:
        name, fd = self._create()
        try:
            files.write_all(fd, data)
        except BaseException:
            os.close(fd)
            raise
        self._stage.wrote(name, fd)
        with self._mutex:
            self._writing.discard(name)
        return name

    def _plan_ref(self, name: str, value: dict[str, Any] | None, expected: int | None) -> None:
        escape(name)
        with self._mutex:
            self._require_open()
            if name in self._refs:
                raise ValueError(f"the ref {name!r} is set twice in one transaction")
            self._refs[name] = (value, expected)

    def _create(self) -> tuple[str, int]:
        """A new staged file: its name, and a descriptor to write to."""
        with self._mutex:
            name = str(self._count)
            self._count += 1
            self._writing.add(name)
        try:
            return name, self._stage.create(name)
        except BaseException as error:
            with self._mutex:
                self._writing.discard(name)
            if isinstance(error, OSError):
                raise io_error(error, "write to", self.where) from error
            raise

    def _finished(self, area: AreaName, digest: Digest, name: str, fd: int, size: int) -> None:
        self._stage.wrote(name, fd)
        with self._mutex:
            self._writing.discard(name)
            first = self._objects.setdefault((area, digest), stage.Staged(name, size))
        if first.name != name:
            self._drop(name)

    def _drop(self, name: str) -> None:
        with self._mutex:
            self._writing.discard(name)
        self._stage.drop(name)

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError("the transaction is over")

    def _end(self) -> None:
        self._stage.close()
        self._lease.release()


def _read(fd: int, buffer: memoryview, path: Path | str) -> int:
    try:
        return os.readv(fd, [buffer])
    except OSError as error:
        raise io_error(error, "read", path) from error
