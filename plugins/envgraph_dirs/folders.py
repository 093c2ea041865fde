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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from envgraph.api import RegistryError

FORMAT_FILE: Final = "_registry.json"
FORMAT: Final = b'{"format":1}\n'
STAGE: Final = "_new"
"""Where files are written before they are whole; one in each repository."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_DENIED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_PASSING: Final = {errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN}
_ABANDONED: Final = 86_400
"""Seconds without a byte after which a half-written file is nobody's any more."""


@contextmanager
def told(where: Path) -> Iterator[None]:
    """OSErrors as RegistryErrors that name the place."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in _DENIED:
            raise RegistryError(f"{where}: {why}", code="registry-denied") from error
        if error.errno in _FULL:
            raise RegistryError(
                f"{where}: {why}", code="registry-full", hint="nothing half-written was kept"
            ) from error
        if error.errno in _PASSING:
            raise RegistryError(f"{where}: {why}", code="registry-down", retryable=True) from error
        raise RegistryError(
            f"{where}: {why}", hint="something else is in the place of a file or folder of ours"
        ) from error


class Folders:
    """The folder of a registry. ``mode`` is that of its root, and of every folder in it."""

    def __init__(self, root: Path) -> None:
        """Bind; nothing is read."""
        self.root = root
        self.mode: int | None = None
        self.ready: set[str] = set()  # repositories whose layout was made or looked at

    @contextmanager
    def enter(self, *parts: str, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder; FileNotFoundError when it is not there."""
        folder = self._open_root(make)
        try:
            for part in parts:
                inner = self._open(part, folder, make)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _open(self, name: str, folder: int, make: bool) -> int:
        try:
            return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
            os.chmod(name, self.mode or 0o755, dir_fd=folder)
            os.fsync(folder)
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)

    def _open_root(self, make: bool) -> int:
        if make and self.mode is None:
            with suppress(FileExistsError):
                self.root.mkdir()
        folder = os.open(self.root, _FOLDER)
        try:
            if self.mode is None:
                self._judge(folder, make)
        except BaseException:
            os.close(folder)
            raise
        return folder

    def _judge(self, folder: int, make: bool) -> None:
        """Refuse a folder that is not ours to use; remember the mode of one that is."""
        mode = stat.S_IMODE(os.fstat(folder).st_mode)
        if mode & stat.S_IWOTH:
            raise RegistryError(
                f"{self.root} may be written by everybody (mode {mode:04o})",
                code="registry-options",
                hint=f"share it with a group: chgrp GROUP {self.root}; chmod 2775 {self.root}",
            )
        try:
            data = self.read(folder, FORMAT_FILE, 4096)
        except FileNotFoundError:
            foreign = [name for name in os.listdir(folder) if not name.startswith("_")]
            if foreign:
                raise RegistryError(
                    f"{self.root} is no registry, and not empty (it holds {min(foreign)!r})",
                    code="registry-options",
                    hint="give the registry a folder of its own",
                ) from None
            if not make:
                return  # empty: nothing is there, and nothing is made by looking
            self.mode = mode
            self.write(folder, folder, FORMAT_FILE, [FORMAT])
        else:
            if data != FORMAT:
                raise RegistryError(
                    f"{self.root / FORMAT_FILE} does not say format 1: {data[:40]!r}",
                    code="registry-options",
                    hint="use the envgraph that made this registry, or a newer one",
                )
        self.mode = mode & 0o2775

    def read(self, folder: int, name: str, limit: int) -> bytes:
        """A file's bytes, at most ``limit`` of them."""
        with os.fdopen(self.open(folder, name), "rb") as file:
            return file.read(limit)

    def open(self, folder: int, name: str) -> int:
        """A descriptor of a regular file; anything else is OSError and blocks nothing."""
        fd = os.open(name, _READ, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        return fd

    def write(self, stage: int, folder: int, name: str, pieces: Iterable[bytes]) -> None:
        """Make a file whole, durable and read-only; what ``pieces`` raises leaves nothing.

        A file of that name is replaced in one step.
        """
        temporary = f"_{secrets.token_hex(16)}"
        with told(self.root):
            fd = os.open(temporary, _NEW, 0o600, dir_fd=stage)
        try:
            try:
                for piece in pieces:
                    with told(self.root):
                        _write_all(fd, piece)
                with told(self.root):
                    os.fchmod(fd, (self.mode or 0o755) & 0o444)
                    os.fsync(fd)
                    inode = os.fstat(fd).st_ino
            finally:
                with told(self.root):
                    os.close(fd)
            with told(self.root):
                try:
                    os.rename(temporary, name, src_dir_fd=stage, dst_dir_fd=folder)
                except FileNotFoundError:
                    # NFS: the server's first answer was lost, and the question asked again.
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino != inode:
                        raise
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=stage)
            raise

    def sweep(self, stage: int) -> None:
        """Remove what killed writers left; by the file server's clock, not by ours."""
        now = os.fstat(stage).st_mtime
        for name in os.listdir(stage):
            with suppress(OSError):
                status = os.stat(name, dir_fd=stage, follow_symlinks=False)
                if status.st_mtime < now - _ABANDONED:
                    os.unlink(name, dir_fd=stage)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
