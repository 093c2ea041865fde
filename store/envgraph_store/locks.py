"""Kernel file locks with a note that says who holds them.

A lock is ``flock`` on a file of ``locks/``: the kernel drops it with its holder,
so a killed process leaves nothing to unlock. The holder writes a note (pid,
host, command, purpose) into the file for whoever has to wait; the note is never
trusted for anything but the message. Lock files that are links, not regular, or
not ours are refused and not touched (CVE-2026-22701).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from envgraph_store.errors import Holder, LockUnsafe, LockUnsupported, StoreLocked, io_error

_NOTE_SIZE: Final = 512
_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_UNSUPPORTED: Final = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.2


class HeldLock:
    """A lock that is held until :meth:`release`."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Give the lock back; a second call does nothing.

        It is given back explicitly, so that a forked child that still has the
        descriptor does not hold on to it.
        """
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


def acquire(
    folder: int,
    name: str,
    *,
    where: Path,
    what: str,
    purpose: str,
    shared: bool = False,
    timeout: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> HeldLock:
    """Hold the lock file ``name`` of ``folder``, waiting up to ``timeout`` seconds.

    ``where`` is the file's path and ``what`` the lock's name for messages. Raise
    :class:`StoreLocked` when the time is over, :class:`LockUnsafe` or
    :class:`LockUnsupported`. A timeout of 0 tries once.
    """
    deadline = clock() + timeout
    pause = _FIRST_PAUSE
    while True:
        fd = _open(folder, name, where, shared)
        try:
            if _try_lock(fd, shared, where):
                if not _is_named(fd, folder, name):
                    os.close(fd)
                    continue
                _write_note(fd, purpose)
                return HeldLock(fd)
            left = deadline - clock()
            if left <= 0:
                raise StoreLocked(what, _read_holder(fd), timeout)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE)


def remove_if_free(folder: int, name: str, action: Callable[[], object]) -> bool:
    """If nobody holds the lock file: do ``action`` under it, remove it, return True."""
    try:
        fd = os.open(name, os.O_RDWR | _FLAGS, dir_fd=folder)
    except OSError:
        return False
    try:
        if not _try_lock(fd, False, Path(name)) or not _is_named(fd, folder, name):
            return False
        action()
        os.unlink(name, dir_fd=folder)
        return True
    finally:
        os.close(fd)


def _open(folder: int, name: str, where: Path, shared: bool) -> int:
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unsafe(where, "a symbolic link") from error
        if error.errno == errno.EISDIR:
            raise _unsafe(where, "a folder") from error
        if not (shared and error.errno in (errno.EROFS, errno.EACCES)):
            raise io_error(error, "open the lock file", where) from error
        try:
            fd = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=folder)
        except OSError as second:
            raise io_error(second, "open the lock file", where) from second
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _unsafe(where, "not a regular file")
        if status.st_nlink > 1:
            raise _unsafe(where, "a second name (hard link) of another file")
        if status.st_uid != os.geteuid():
            raise _unsafe(where, f"a file of user {status.st_uid}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unsafe(where: Path, fault: str) -> LockUnsafe:
    return LockUnsafe(
        f"the lock file {where} is {fault}",
        hint="it was not touched; find out who put it there, then remove it",
    )


def _try_lock(fd: int, shared: bool, where: Path) -> bool:
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        if error.errno in _UNSUPPORTED:
            raise LockUnsupported(
                f"the file system of {where} has no file locks ({error.strerror})",
                hint="keep the store on a local disk or on NFS with locking (--store)",
            ) from error
        raise io_error(error, "lock", where) from error
    return True


def _is_named(fd: int, folder: int, name: str) -> bool:
    """Whether the locked file is still the one that the name leads to."""
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _write_note(fd: int, purpose: str) -> None:
    """Say who holds it; a full or read-only disk is no reason to fail."""
    note = {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "command": _command(),
        "purpose": purpose[:120],
    }
    text = json.dumps(note, ensure_ascii=True).encode("ascii")
    if len(text) >= _NOTE_SIZE:
        text = json.dumps({**note, "command": "", "purpose": ""}).encode("ascii")
    with contextlib.suppress(OSError):
        os.pwrite(fd, text.ljust(_NOTE_SIZE - 1) + b"\n", 0)


def _command() -> str:
    """The program and its words; values that may carry a secret are left out."""
    words = [Path(sys.argv[0]).name if sys.argv else ""]
    words += [word for word in sys.argv[1:] if "://" not in word and "=" not in word]
    return " ".join(words)[:120]


def _read_holder(fd: int) -> Holder:
    holder = Holder(0, "", "", "")
    try:
        note = json.loads(os.pread(fd, _NOTE_SIZE, 0))
        holder = Holder(
            int(note["pid"]), str(note["host"]), str(note["command"]), str(note["purpose"])
        )
    except (ValueError, KeyError, TypeError, OSError):
        pass
    here = _kernel_holders(fd)
    if here and holder.pid not in here:
        return Holder(here[0], os.uname().nodename, _command_of(here[0]), "")
    return holder


def _kernel_holders(fd: int) -> list[int]:
    """The pids on this host that hold a lock on the file, as Linux knows them."""
    status = os.fstat(fd)
    inode = f":{status.st_ino}"
    exact = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}{inode}"
    pids: dict[str, list[int]] = {}
    with contextlib.suppress(OSError, ValueError), open("/proc/locks", encoding="ascii") as lines:
        for line in lines:
            fields = line.split()
            if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5].endswith(inode):
                pids.setdefault(fields[5], []).append(int(fields[4]))
    # some file systems show another device number there than stat does
    found = pids.get(exact) or [pid for some in pids.values() for pid in some]
    return [pid for pid in found if pid > 0]


def _command_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return words.strip()[:120]
