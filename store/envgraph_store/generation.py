"""A word that changes whenever something was taken out of the store, or found bad.

A plan that remembers "nothing to do" remembers this word too. It is changed
before and after every removal, so that no look in between can pass for a later
one. The file keeps its length and is written in place: that needs no space, so
garbage collection works on a full disk.
"""

from __future__ import annotations

import os

from envgraph_store import files
from envgraph_store.errors import io_error
from envgraph_store.layout import GENERATION_FILE, Folders, replace_file


def read(folders: Folders) -> str:
    """The word now; ``none`` if the file is gone, which is a word too."""
    try:
        fd, _ = files.open_regular(GENERATION_FILE, folders["root"])
    except OSError:
        return "none"
    try:
        return os.read(fd, 64).decode("ascii", "replace").strip() or "none"
    finally:
        os.close(fd)


def bump(folders: Folders) -> None:
    """Change the word, durably."""
    word = os.urandom(16).hex().encode() + b"\n"
    try:
        try:
            fd = os.open(
                GENERATION_FILE, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folders["root"]
            )
        except OSError:
            replace_file(folders["root"], GENERATION_FILE, word, folders.disk, mode=0o644)
            return
        try:
            os.pwrite(fd, word, 0)
            folders.disk.sync_file(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise io_error(error, "write", folders.path / GENERATION_FILE) from error
