"""The files of a registry: whole or not there, and never outside its folder.

Folders are opened one by one, each from the one above, and no symbolic link is followed
below the root: a link that somebody puts in leads nowhere. A file is written under another
name, synced, and renamed, so a reader sees the old file or the new one. No file lock is
taken anywhere: on shared file systems they may not hold.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from envgraph.api import RegistryError

Place = tuple[str, ...]
"""A folder of the registry: the names that lead to it from the root."""

FORMAT_FILE: Final = "_registry.json"
FORMAT: Final = b'{"format":1}\n'

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_ABANDONED: Final = 86_400
"""Seconds without a byte after which a half-written file is nobody's any more."""

_WORDS: Final = {
    errno.EACCES: ("registry-denied", "you may not read or write there"),
    errno.EPERM: ("registry-denied", "you may not read or write there"),
    errno.EROFS: ("registry-denied", "it can be read, and not be pushed to"),
    errno.ENOSPC: ("registry-full", "nothing half-written was kept: free space, and try again"),
    errno.EDQUOT: ("registry-full", "nothing half-written was kept: free space, and try again"),
    errno.ENOENT: ("registry-options", "is it mounted? The folder above must be there"),
    errno.ESTALE: ("registry-down", ""),
    errno.ETIMEDOUT: ("registry-down", ""),
    errno.EIO: ("registry-down", ""),
}
_STRANGE: Final = ("registry-answer", "something else lies where a file or folder of ours should")


@contextmanager
def told(where: Path) -> Iterator[None]:
    """OSErrors as RegistryErrors that name the place."""
    try:
        yield
    except OSError as error:
        code, hint = _WORDS.get(error.errno or 0, _STRANGE)
        summary = f"{where}: {error.strerror or error}"
        again = code == "registry-down"
        raise RegistryError(summary, code=code, hint=hint, retryable=again) from error


class Folders:
    """The folder of a registry. Folders in it get the mode of its root, files that to read."""

    def __init__(self, root: Path) -> None:
        """Bind; nothing is read."""
        self.root = root
        self._mode: int | None = None

    @contextmanager
    def enter(self, place: Place, *, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder; FileNotFoundError when it is not there."""
        if make and self._mode is None:
            with suppress(FileExistsError):
                self.root.mkdir()
        folder = os.open(self.root, _FOLDER)
        try:
            if self._mode is None:
                self._judge(folder, make)
            for part in place:
                if make:
                    self._make(part, folder)
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _make(self, name: str, folder: int) -> None:
        try:
            os.mkdir(name, dir_fd=folder)
        except FileExistsError:
            return
        os.chmod(name, (self._mode or 0o755) & 0o2775, dir_fd=folder)
        os.fsync(folder)

    def _judge(self, folder: int, make: bool) -> None:
        """Refuse a root that is not ours to use; remember the mode of one that is."""
        mode = stat.S_IMODE(os.fstat(folder).st_mode)
        if mode & stat.S_IWOTH:
            raise RegistryError(
                f"{self.root} may be written by everybody (mode {mode:04o})",
                code="registry-options",
                hint=f"share it with a group: chgrp GROUP {self.root}; chmod 2775 {self.root}",
            )
        # In this order: another writer that begins now makes the format file before a folder.
        others = [name for name in os.listdir(folder) if not name.startswith("_")]
        try:
            found = _read(folder, FORMAT_FILE, 4096)
        except FileNotFoundError:
            if others:
                raise RegistryError(
                    f"{self.root} is no registry, and not empty (it holds {min(others)!r})",
                    code="registry-options",
                    hint="give the registry a folder of its own",
                ) from None
            if not make:
                return  # empty: looking makes nothing, and decides nothing
            self._put(folder, folder, FORMAT_FILE, [FORMAT], self.root)
        else:
            if found != FORMAT:
                raise RegistryError(
                    f"{self.root / FORMAT_FILE} does not say format 1, but {found[:40]!r}",
                    code="registry-options",
                    hint="use the envgraph that made this registry, or a newer one",
                )
        self._mode = mode

    def names(self, place: Place) -> list[str]:
        """What lies in a folder; nothing when it is not there."""
        with told(self.root.joinpath(*place)), suppress(FileNotFoundError), self.enter(place) as at:
            return os.listdir(at)  # noqa: PTH208 (a descriptor)
        return []

    def read(self, place: Place, name: str, limit: int) -> bytes | None:
        """At most ``limit`` bytes of a file; None when it is not there."""
        where = self.root.joinpath(*place, name)
        with told(where), suppress(FileNotFoundError), self.enter(place) as folder:
            return _read(folder, name, limit)
        return None

    def open(self, place: Place, name: str) -> int:
        """A descriptor of a file; FileNotFoundError when it is not there."""
        with self.enter(place) as folder:
            return _open(folder, name)

    def write(self, place: Place, name: str, pieces: Iterable[bytes], stage: Place) -> None:
        """Make a file whole, and read-only; it replaces one of that name in one step.

        What ``pieces`` raises comes out as it is, and leaves nothing. The file's bytes are
        durable before it has its name; :meth:`sync` makes the name durable.
        """
        where = self.root.joinpath(*place, name)
        with ExitStack() as stack:
            with told(where):
                new = stack.enter_context(self.enter(stage, make=True))
                folder = stack.enter_context(self.enter(place, make=True))
            self._put(new, folder, name, pieces, where)

    def sync(self, place: Place) -> None:
        """Make the names in a folder durable."""
        with told(self.root.joinpath(*place)), self.enter(place) as folder:
            os.fsync(folder)

    def remove(self, place: Place, name: str) -> bool:
        """Remove a file, durably; False when it is not there."""
        with told(self.root.joinpath(*place, name)):
            try:
                with self.enter(place) as folder:
                    os.unlink(name, dir_fd=folder)
                    os.fsync(folder)
            except FileNotFoundError:
                return False
        return True

    def sweep(self, stage: Place) -> None:
        """Remove what killed writers left half-written; by the file server's clock."""
        with told(self.root.joinpath(*stage)), self.enter(stage) as folder:
            now = os.fstat(folder).st_mtime
            for name in os.listdir(folder):  # noqa: PTH208 (a descriptor)
                with suppress(OSError):
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if status.st_mtime < now - _ABANDONED:
                        os.unlink(name, dir_fd=folder)

    def _put(
        self, stage: int, folder: int, name: str, pieces: Iterable[bytes], where: Path
    ) -> None:
        temporary = f"_{secrets.token_hex(16)}"
        with told(where):
            fd = os.open(temporary, _NEW, 0o600, dir_fd=stage)
        try:
            try:
                for piece in pieces:
                    with told(where):  # and not around what the source raises
                        _write_all(fd, piece)
                with told(where):
                    os.fchmod(fd, (self._mode or 0o755) & 0o444)
                    os.fsync(fd)
                    inode = os.fstat(fd).st_ino
            finally:
                os.close(fd)
            with told(where):
                try:
                    os.rename(temporary, name, src_dir_fd=stage, dst_dir_fd=folder)
                except FileNotFoundError:
                    # NFS: the first answer was lost, and the client asked again. Was it done?
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino != inode:
                        raise
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=stage)
            raise


def _open(folder: int, name: str) -> int:
    """A descriptor of a regular file; anything else is an OSError, and blocks nobody."""
    fd = os.open(name, _READ, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def _read(folder: int, name: str, limit: int) -> bytes:
    with os.fdopen(_open(folder, name), "rb") as file:
        return file.read(limit)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
