"""One batch of writes that becomes visible whole and durable, or not at all.

Write order (``store/README.md`` has the reasons)::

    stage every object, action and ref value     hashing while writing
    sync what was staged                         fsync each, or one syncfs
    rename objects into their area               now they can be read
    sync the areas' folders
    rename actions, sync their folder
    make folders of new refs, sync refs/
    link refs, sync their folders                now they can be found
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from envgraph_store import files, locks, quarantine, records, refs, stage
from envgraph_store.digest import Digest
from envgraph_store.errors import DigestMismatch, io_error
from envgraph_store.layout import AREAS, AreaName, Folders
from envgraph_store.naming import escape
from envgraph_store.writer import StagedWriter

_FEW: Final = 16
"""Up to so many new files are synced one by one; more go with one ``syncfs``."""
_WHOLE: Final = 1 << 17
"""A file of up to so many bytes is read at once, so what is kept is not written again."""


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
        self._optional: dict[str, frozenset[Digest]] = {}
        self._writing: dict[str, StagedWriter] = {}
        self._sizes: dict[AreaName, set[int]] = {}
        self._buffers: list[memoryview] = []
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
        """Add an object that is in memory; one that is kept already is not written again."""
        if area not in AREAS:
            raise ValueError(f"no such area: {area!r}")
        return self._add_whole(data, area, None)

    def add_file(
        self, path: Path | str, area: AreaName = "blobs", expect: Digest | None = None
    ) -> Digest:
        """Add a copy of a regular file; one of that digest that is kept is not read again.

        The digest is that of the bytes that were copied, even if the file
        changes meanwhile.
        """
        try:
            fd, status = files.open_regular(os.fspath(path), follow=True)
        except OSError as error:
            raise io_error(error, "read", path) from error
        try:
            if expect is not None and stage.has_size(self._folders, area, expect, status.st_size):
                stage.freshen(self._folders, area, expect)
                return expect
            if status.st_size <= _WHOLE:
                data = _read(fd, status.st_size + 1, path)
                if len(data) == status.st_size:
                    return self._add_whole(data, area, expect)
                os.lseek(fd, 0, os.SEEK_SET)  # it is growing
            elif expect is None and (known := self._kept_like(fd, area, status.st_size)):
                return known
            with self.writer(area, expect) as writer, self._buffer() as buffer:
                while count := _read_into(fd, buffer, path):
                    writer.write(buffer[:count])
                return writer.finish()
        finally:
            os.close(fd)

    def renew(self, digests: Iterable[Digest], actions: Iterable[str] = ()) -> None:
        """Let the grace period of blobs and actions that are here begin anew, at once.

        For what is about to be named by nothing: it stays for as long as anything new would.
        """
        with self._mutex:
            self._require_open()
        for digest in digests:
            stage.freshen(self._folders, "blobs", digest)
        for key in actions:
            stage.freshen_file(self._folders["actions"], escape(key))

    def put_action(self, key: str, record: Mapping[str, object]) -> None:
        """Say that ``key`` gave ``record``; the digests in it are what it needs."""
        escape(key)
        with self._mutex:
            self._require_open()
            self._actions[key] = dict(record)

    def set_ref(
        self,
        name: str,
        value: Mapping[str, object],
        expected: int | None,
        *,
        optional: Iterable[Digest] = (),
    ) -> None:
        """Give a name a value at commit, if it is at generation ``expected`` then.

        ``expected`` is None for a name that must not exist. ``optional`` are objects that
        the value leads to and does not need, though they may be here: they can be had again.
        """
        self._plan_ref(name, dict(value), expected)
        self._optional[name] = frozenset(optional)

    def delete_ref(self, name: str, expected: int | None) -> None:
        """Take a name's value away at commit, if it is at ``expected`` then."""
        if expected is None:
            raise refs.conflict(name, 0, None)
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
        for area in AREAS:  # also for what others placed, and this relies on
            disk.sync_folder(folders[area])
        for area, digest in self._objects:
            quarantine.lift(folders, area, digest.hex)
        for file_name, staged in actions.items():
            os.rename(staged, file_name, src_dir_fd=self._stage.fd, dst_dir_fd=folders["actions"])
        if actions:
            disk.sync_folder(folders["actions"])
        disk.point("actions")
        refs.make_folders(folders, values)
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
            found = here.closure(records.digests_in(value)) - self._optional.get(name, frozenset())
            needs = [str(d) for d in sorted(found)]
            data = records.encode({"name": name, "needs": needs, "value": value})
            values[name] = self._stage_bytes(data)
        return actions, values

    def _stage_bytes(self, data: bytes) -> str:
        name = self._next_name()
        fd = self._stage.create(name)
        try:
            files.write_all(fd, data)
        except BaseException:
            os.close(fd)
            raise
        self._stage.wrote(name, fd)
        return name

    def _plan_ref(self, name: str, value: dict[str, Any] | None, expected: int | None) -> None:
        escape(name)
        with self._mutex:
            self._require_open()
            if name in self._refs:
                raise ValueError(f"the ref {name!r} is set twice in one transaction")
            self._refs[name] = (value, expected)

    def _next_name(self) -> str:
        with self._mutex:
            self._count += 1
            return str(self._count)

    def _add_whole(self, data: bytes | memoryview, area: AreaName, expect: Digest | None) -> Digest:
        """Add bytes whose digest can be known before anything is written."""
        hasher = files.new_hash()
        hasher.update(data)
        digest = Digest.from_hex(hasher.hexdigest())
        if expect is not None and digest != expect:
            raise DigestMismatch(f"the bytes are {digest}, announced was {expect}")
        with self._mutex:
            self._require_open()
            if (area, digest) in self._objects:
                return digest
        try:
            if stage.keeps(self._folders, area, digest, data):
                quarantine.lift(self._folders, area, digest.hex)
                stage.freshen(self._folders, area, digest)
                return digest
            name = self._next_name()
            fd = self._stage.create(name)
            try:
                files.write_all(fd, data)
            except BaseException:
                os.close(fd)
                self._stage.drop(name)
                raise
        except OSError as error:
            raise io_error(error, "write to", self.where) from error
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        self.finished(area, digest, stage.Staged(name, size), fd)
        return digest

    def _kept_like(self, fd: int, area: AreaName, size: int) -> Digest | None:
        """The kept object that has this file's bytes, if one of its size makes it likely."""
        with self._mutex:
            if area not in self._sizes:
                self._sizes[area] = stage.sizes(self._folders, area)
        if size not in self._sizes[area]:
            return None
        digest = Digest.from_hex(files.hash_descriptor(fd, size)[0])
        if not stage.has_size(self._folders, area, digest, size):
            return None
        stage.freshen(self._folders, area, digest)
        return digest

    @contextmanager
    def _buffer(self) -> Iterator[memoryview]:
        """A buffer to read into, used again and again: fresh memory is slow to touch."""
        with self._mutex:
            buffer = self._buffers.pop() if self._buffers else None
        buffer = buffer or memoryview(bytearray(files.CHUNK))
        try:
            yield buffer
        finally:
            with self._mutex:
                self._buffers.append(buffer)

    def begin(self, writer: StagedWriter) -> tuple[str, int]:
        """A new staged file for ``writer``: its name, and a descriptor to write to."""
        name = self._next_name()
        with self._mutex:
            self._require_open()
            try:
                fd = self._stage.create(name)
            except OSError as error:
                raise io_error(error, "write to", self.where) from error
            self._writing[name] = writer
        return name, fd

    def finished(self, area: AreaName, digest: Digest, staged: stage.Staged, fd: int) -> None:
        """Take a whole object of a writer, with its descriptor."""
        with self._mutex:
            if not self._open:
                os.close(fd)
                self._require_open()
            self._stage.wrote(staged.name, fd)
            self._writing.pop(staged.name, None)
            first = self._objects.setdefault((area, digest), staged)
        if first.name != staged.name:
            self._stage.drop(staged.name)

    def drop(self, name: str) -> None:
        """Remove the staged file of a writer that gave up."""
        with self._mutex:
            self._writing.pop(name, None)
        self._stage.drop(name)

    def _require_open(self) -> None:
        if not self._open:
            raise ValueError("the transaction is over")

    def _end(self) -> None:
        with self._mutex:
            unfinished = list(self._writing.values())
        for writer in unfinished:
            writer.abort()
        self._stage.close()
        self._lease.release()


def _read_into(fd: int, buffer: memoryview, path: Path | str) -> int:
    try:
        return os.readv(fd, [buffer])
    except OSError as error:
        raise io_error(error, "read", path) from error


def _read(fd: int, size: int, path: Path | str) -> bytes:
    try:
        return os.read(fd, size)
    except OSError as error:
        raise io_error(error, "read", path) from error
