"""The few ways in which the store touches files, and how bytes become durable.

:class:`Disk` is the only place that syncs. Tests hand in a subclass that skips
a step, fails one, or stops at a named point; nothing else about the store
changes for them.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import Final, Protocol

FILE_MODE: Final = 0o444
FOLDER_MODE: Final = 0o755
CHUNK: Final = 1 << 20

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Hasher(Protocol):
    """What hashlib's objects are."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far, in hexadecimal."""


def new_hash() -> Hasher:
    """A sha256, the store's only hash."""
    import hashlib

    return hashlib.sha256()


class Disk:
    """Make bytes durable, by the operating system's means.

    A failure of any sync is a failure for good: after it the kernel may have
    dropped the pages and would report success the next time (fsyncgate), so
    nothing here tries twice.
    """

    def __init__(self) -> None:
        self._syncfs: Callable[[int], int] | None = None

    def sync_file(self, fd: int) -> None:
        """Make one file's bytes durable."""
        _full_sync(fd)

    def sync_folder(self, fd: int) -> None:
        """Make one folder's entries durable.

        xfs answers success when it has shut down (a dead disk, a log that cannot be
        written): what was not in its log yet is lost, and ``fsync`` of a folder does not
        say so. Every other call on it fails with EIO, ``fstat`` for the least.
        """
        _full_sync(fd)
        os.fstat(fd)

    def sync_everything(self, fd: int) -> bool:
        """Make all of the file system that holds ``fd`` durable.

        Return False where the system cannot say so (no ``syncfs``): the caller
        then syncs file by file. ``fd`` should be as old as the first write,
        because the kernel reports the errors since it was opened.
        """
        if not sys.platform.startswith("linux"):
            return False
        if self._syncfs is None:
            self._syncfs = _find_syncfs()
        if self._syncfs(fd) == 0:
            return True
        import ctypes

        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            return False
        raise OSError(number, os.strerror(number))

    def point(self, name: str) -> None:
        """A named moment between two steps. Does nothing; tests act here."""


def _find_syncfs() -> Callable[[int], int]:
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:

        def missing(fd: int) -> int:
            ctypes.set_errno(errno.ENOSYS)
            return -1

        return missing
    function.argtypes = (ctypes.c_int,)
    function.restype = ctypes.c_int

    def syncfs(fd: int) -> int:
        return int(function(fd))

    return syncfs


def _full_sync(fd: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def create_file(name: str, folder: int, mode: int = FILE_MODE) -> int:
    """Create a file that nobody may write to later; return a descriptor that may."""
    fd = os.open(name, _NEW_FILE, mode, dir_fd=folder)
    try:
        os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_folder(name: str, folder: int | None = None) -> bool:
    """Create a folder with mode 0755 whatever the umask; False if it was there."""
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=folder)
    except FileExistsError:
        return False
    os.chmod(name, FOLDER_MODE, dir_fd=folder)
    return True


def open_folder(name: str, folder: int | None = None) -> int:
    """A descriptor of the folder; a symbolic link is refused (ELOOP or ENOTDIR)."""
    return os.open(name, _FOLDER, dir_fd=folder)


def list_folder(folder: int) -> list[str]:
    """The names in an open folder, read anew: threads do not share a position."""
    fd = os.open(".", _FOLDER, dir_fd=folder)
    try:
        return os.listdir(fd)  # noqa: PTH208 (a descriptor, which pathlib cannot list)
    finally:
        os.close(fd)


def list_named_folder(name: str, folder: int) -> list[str]:
    """The names in the folder ``name``; a symbolic link is refused (ELOOP or ENOTDIR)."""
    fd = open_folder(name, folder)
    try:
        return os.listdir(fd)  # noqa: PTH208 (a descriptor, which pathlib cannot list)
    finally:
        os.close(fd)


def open_regular(
    name: str, folder: int | None = None, *, follow: bool = False
) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; return it with its status.

    Pipes, devices, folders and (unless ``follow``) links raise OSError(EINVAL
    or ELOOP) and never block.
    """
    fd = os.open(name, _READ & ~os.O_NOFOLLOW if follow else _READ, dir_fd=folder)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte, however short the kernel's writes are."""
    view = memoryview(data)
    if view.format != "B":
        view = view.cast("B")
    while view:
        written = os.write(fd, view)
        if written <= 0:
            raise OSError(errno.EIO, "the kernel wrote nothing")
        view = view[written:]


def hash_descriptor(fd: int, size: int) -> tuple[str, int]:
    """The hash of all bytes of ``fd`` from its start, and how many they are.

    ``size`` is a guess for the buffer only. The file position is not moved.
    """
    hasher = new_hash()
    done = 0
    if not hasattr(os, "preadv"):  # macOS
        while piece := os.pread(fd, CHUNK, done):
            hasher.update(piece)
            done += len(piece)
        return hasher.hexdigest(), done
    buffer = memoryview(bytearray(min(max(size, 1), CHUNK)))
    while count := os.preadv(fd, [buffer], done):
        hasher.update(buffer[:count])
        done += count
    return hasher.hexdigest(), done


def same_bytes(left: int, right: int) -> bool:
    """Whether two open files hold the same bytes."""
    first, second = os.fstat(left), os.fstat(right)
    if first.st_size != second.st_size:
        return False
    offset = 0
    while True:
        one = os.pread(left, CHUNK, offset)
        if one != os.pread(right, len(one) or 1, offset):
            return False
        if not one:
            return True
        offset += len(one)


def remove_tree(name: str, folder: int) -> None:
    """Remove a file or a folder with all that it holds; what is gone already is fine."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass
    inner = open_folder(name, folder)
    try:
        for entry in list_folder(inner):
            remove_tree(entry, inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)
