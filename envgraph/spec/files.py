"""Open what a user named, without ever hanging on it.

A path in an environment file may be a pipe, a device, a folder, a dangling
link or a terabyte: each is refused at once, by name.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from envgraph.errors import InputError

TEXT_LIMIT: Final = 4 << 20
"""Bytes of an environment, conda or requirements file; the largest real one has 60 KB."""


def kind_of_mode(mode: int) -> str:
    """``a folder``, ``a named pipe`` … for messages."""
    for test, name in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISLNK, "a symbolic link"),
    ):
        if test(mode):
            return name
    return "a file"


def open_regular(path: str | Path, *, dir_fd: int | None = None, follow: bool = True) -> int:
    """A descriptor of a regular file; never waits for a pipe or opens a device.

    Raises InputError (codes ``missing-file``, ``unreadable-file``, ``not-a-file``).
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    if not follow:
        flags |= os.O_NOFOLLOW
    try:
        mode = os.stat(path, dir_fd=dir_fd, follow_symlinks=follow).st_mode
        if not stat.S_ISREG(mode):
            raise _not_a_file(path, mode)
        fd = os.open(path, flags, dir_fd=dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        code = "missing-file"
        raise InputError(f"there is no file {os.fspath(path)}", code=code) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{os.fspath(path)!a:.300} cannot be read: {reason}", code="unreadable-file"
        ) from None
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise _not_a_file(path, mode)
    return fd


def _not_a_file(path: str | Path, mode: int) -> InputError:
    return InputError(f"{os.fspath(path)} is {kind_of_mode(mode)}, not a file", code="not-a-file")


def read_file(path: str | Path, limit: int = TEXT_LIMIT) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes; InputError otherwise."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(
            f"{os.fspath(path)} cannot be read: {error.strerror}", code="unreadable-file"
        ) from None
    if len(data) > limit:
        raise InputError(
            f"{os.fspath(path)} is larger than {limit >> 20} MiB", code="file-too-large"
        )
    return data
