"""The folder in which one transaction prepares its files, and how they get out of it.

``stage/<id>.lock`` is held for as long as ``stage/<id>/`` is in use; a folder
whose lock is free was left by a killed process and is removed by the next
transaction or garbage collection.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from envgraph_store import documents, files, locks, quarantine
from envgraph_store.digest import Digest
from envgraph_store.errors import ObjectCollision, io_error
from envgraph_store.layout import AREAS, AreaName, Folders

GC_LOCK: Final = "gc.lock"
"""Shared: something is being written or held. Exclusive: garbage collection, repair."""

_HELD: Final = 16
_DOCUMENT: Final = 4 << 20


class Staged(NamedTuple):
    """A staged object: its file's name in the folder, and its size."""

    name: str
    size: int


class StageFolder:
    """A private folder of the stage; removed with all that is left in it on close."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._mutex = threading.Lock()
        self._fds: dict[str, int] = {}
        self._written: set[str] = set()
        self._all_held = True
        self._id = f"{os.getpid()}-{os.urandom(6).hex()}"
        self.where: Path = folders.shown("stage") / self._id
        sweep(folders)
        self._lock = locks.acquire(
            folders["stage"],
            self._id + ".lock",
            where=self.where.with_suffix(".lock"),
            what="the stage",
            purpose="writing to the store",
            timeout=10.0,
        )
        try:
            files.make_folder(self._id, folders["stage"])
            self.fd = files.open_folder(self._id, folders["stage"])
        except OSError as error:
            self._remove()
            raise io_error(error, "write to", self.where) from error

    def create(self, name: str) -> int:
        """A new file; :meth:`wrote` takes the descriptor back."""
        with self._mutex:
            if self.fd < 0:
                raise ValueError("the transaction is over")
            return files.create_file(name, self.fd)

    def wrote(self, name: str, fd: int) -> None:
        """All bytes of the file are written; keep its descriptor if they are few.

        The descriptor that wrote is the one to sync: it cannot miss an error.
        """
        with self._mutex:
            self._written.add(name)
            if self._all_held and len(self._fds) < _HELD:
                self._fds[name] = fd
                return
            self._all_held = False
            closing, self._fds = [*self._fds.values(), fd], {}
        for old in closing:
            os.close(old)

    def drop(self, name: str) -> None:
        """Forget a file and remove it."""
        with self._mutex:
            self._written.discard(name)
            fd = self._fds.pop(name, -1)
            if self.fd >= 0:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self.fd)
        if fd >= 0:
            os.close(fd)

    def sync(self, many: bool) -> None:
        """Make every file that is still staged durable, together or one by one."""
        disk = self._folders.disk
        if not self._written:
            return
        if (many or not self._all_held) and disk.sync_everything(self.fd):
            return
        for name in sorted(self._written):
            fd = self._fds.get(name, -1)
            if fd >= 0:
                disk.sync_file(fd)
            else:
                self._sync_closed(name)

    def _sync_closed(self, name: str) -> None:
        fd, _ = files.open_regular(name, self.fd)
        try:
            self._folders.disk.sync_file(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Remove the folder and give the lock back; a second call does nothing."""
        with self._mutex:
            closing, self._fds = list(self._fds.values()), {}
            folder, self.fd = self.fd, -1
        for fd in closing:
            os.close(fd)
        if folder >= 0:
            os.close(folder)
            self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            files.remove_tree(self._id, self._folders["stage"])
        with contextlib.suppress(OSError):
            os.unlink(self._id + ".lock", dir_fd=self._folders["stage"])
        self._lock.release()


def sweep(folders: Folders) -> int:
    """Remove the folders that killed processes left behind; return how many."""
    stage = folders["stage"]
    removed = 0
    try:
        names = files.list_folder(stage)
    except OSError:
        return 0
    for name in names:
        if name.endswith(".lock"):
            folder = name.removesuffix(".lock")
            with contextlib.suppress(OSError):
                removed += locks.remove_if_free(
                    stage, name, functools.partial(files.remove_tree, folder, stage)
                )
    return removed


def has_size(folders: Folders, area: AreaName, digest: Digest, size: int) -> bool:
    """Whether the object is kept, as a regular file of that size (not hashed).

    One that was seen to be damaged is not.
    """
    if quarantine.is_condemned(folders, area, digest.hex):
        return False
    try:
        status = os.stat(digest.hex, dir_fd=folders[area], follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == size


def sizes(folders: Folders, area: AreaName) -> set[int]:
    """The sizes of all kept objects, in bytes."""
    found = set()
    for name in files.list_folder(folders[area]):
        with contextlib.suppress(OSError):
            found.add(os.stat(name, dir_fd=folders[area], follow_symlinks=False).st_size)
    return found


def keeps(folders: Folders, area: AreaName, digest: Digest, data: bytes | memoryview) -> bool:
    """Whether the object is kept with exactly these bytes."""
    try:
        fd, status = files.open_regular(digest.hex, folders[area])
    except OSError:
        return False
    try:
        view = memoryview(data).cast("B")
        if status.st_size != len(view):
            return False
        offset = 0
        while offset < len(view):
            piece = os.pread(fd, files.CHUNK, offset)
            # as bytes: comparing memoryviews goes element by element
            if not piece or piece != bytes(view[offset : offset + len(piece)]):
                return False
            offset += len(piece)
        return True
    finally:
        os.close(fd)


def freshen(folders: Folders, area: AreaName, digest: Digest) -> None:
    """Let the grace period of an object that is used again begin anew."""
    freshen_file(folders[area], digest.hex)


def freshen_file(folder: int, name: str) -> None:
    """Let a file of the store's be young again; one that is not there is none."""
    with contextlib.suppress(OSError):
        os.utime(name, dir_fd=folder, follow_symlinks=False)


def without_kept(
    folders: Folders, folder: StageFolder, objects: Mapping[tuple[AreaName, Digest], Staged]
) -> dict[tuple[AreaName, Digest], Staged]:
    """The staged objects that are not kept already, byte for byte.

    A kept one with other bytes is replaced if it is damaged; if its digest is
    right, two contents share a digest: raise :class:`ObjectCollision`.
    """
    new: dict[tuple[AreaName, Digest], Staged] = {}
    for (area, digest), staged in objects.items():
        if _same_is_kept(folders, folder, area, digest, staged):
            folder.drop(staged.name)
            freshen(folders, area, digest)
        else:
            new[area, digest] = staged
    return new


def _same_is_kept(
    folders: Folders, folder: StageFolder, area: AreaName, digest: Digest, staged: Staged
) -> bool:
    try:
        kept, status = files.open_regular(digest.hex, folders[area])
    except OSError:
        return False
    try:
        mine, _ = files.open_regular(staged.name, folder.fd)
        try:
            if files.same_bytes(kept, mine):
                return True
        finally:
            os.close(mine)
        if files.hash_descriptor(kept, status.st_size)[0] == digest.hex:
            raise ObjectCollision(
                f"two different contents have the digest {digest}; the one in the store stays",
                hint="keep both files and tell the authors: sha256 is said to be free of this",
            )
        return False
    finally:
        os.close(kept)


def place(
    folders: Folders,
    folder: StageFolder,
    objects: Mapping[tuple[AreaName, Digest], Staged],
) -> None:
    """Rename staged objects to their digests; what lies there and is no file goes away."""
    for (area, digest), staged in objects.items():
        try:
            os.rename(staged.name, digest.hex, src_dir_fd=folder.fd, dst_dir_fd=folders[area])
        except (IsADirectoryError, NotADirectoryError):
            quarantine.set_aside(folders, area, digest.hex, f"{area}-{digest.hex}")
            os.rename(staged.name, digest.hex, src_dir_fd=folder.fd, dst_dir_fd=folders[area])


class Here:
    """Which digests can be had: kept in the store, or staged in this transaction."""

    def __init__(
        self,
        folders: Folders,
        folder: StageFolder,
        objects: Mapping[tuple[AreaName, Digest], Staged],
    ) -> None:
        self._folders = folders
        self._folder = folder
        self._staged = {digest: staged for (_, digest), staged in objects.items()}

    def present(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of ``digests`` that can be had."""
        return {digest for digest in digests if self._has(digest)}

    def closure(self, digests: Iterable[Digest]) -> set[Digest]:
        """The present ones, and what the manifests and indexes among them name."""
        found: set[Digest] = set()
        todo = self.present(digests)
        while todo:
            found |= todo
            named: set[Digest] = set()
            for digest in todo:
                named |= self._named_by(digest)
            todo = self.present(named - found)
        return found

    def _has(self, digest: Digest) -> bool:
        if digest in self._staged:
            return True
        for area in AREAS:
            with contextlib.suppress(OSError):
                os.stat(digest.hex, dir_fd=self._folders[area], follow_symlinks=False)
                return True
        return False

    def _named_by(self, digest: Digest) -> set[Digest]:
        try:
            fd, status = files.open_regular(digest.hex, self._folders["blobs"])
        except OSError:
            staged = self._staged.get(digest)
            try:
                fd, status = files.open_regular(staged.name if staged else "", self._folder.fd)
            except OSError:
                return set()
        try:
            if status.st_size > _DOCUMENT or not documents.is_document(os.pread(fd, 512, 0)):
                return set()
            data = os.pread(fd, status.st_size, 0)
        finally:
            os.close(fd)
        return documents.digests(data) if b'"schemaVersion"' in data else set()
