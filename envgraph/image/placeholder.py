"""Put the real prefix where an archive's files hold a placeholder.

The rules are conda's and rattler's (``replace_prefix`` and
``copy_and_replace_placeholders``): text files have it replaced everywhere, with
care for a shebang that would become too long; in binary files it is replaced
inside its C string, which is padded with NUL so that no offset moves.
"""

from __future__ import annotations

import re
from typing import Final

from envgraph.image.archive_errors import ArchiveError, Reason

MAX_SHEBANG: Final = 127
"""Bytes of a first line that every Linux kernel accepts."""

MAX_C_STRING: Final = 64 << 20
"""A C string with a placeholder that is longer is refused; it has to be held in memory."""

_PYTHON: Final = re.compile(rb"python(\d+(\.\d+)?)?")
_SHEBANG: Final = re.compile(rb"(#![ ]*)(/(?:\\ |[^ \n\r\t])*)(.*)", re.DOTALL)


def replace_text(data: bytes, placeholder: bytes, prefix: bytes) -> bytes:
    """``data`` with every placeholder replaced, and a shebang that Linux can run."""
    if not data.startswith(b"#!"):
        return data.replace(placeholder, prefix)
    end = data.find(b"\n")
    end = len(data) if end < 0 else end
    return _shebang(data[:end], placeholder, prefix) + data[end:].replace(placeholder, prefix)


def _shebang(line: bytes, placeholder: bytes, prefix: bytes) -> bytes:
    if b" " in prefix:
        if placeholder not in line:
            return line
        return _through_env(line).replace(placeholder, prefix)
    replaced = line.replace(placeholder, prefix)
    return replaced if len(replaced) <= MAX_SHEBANG else _through_env(replaced)


def _through_env(line: bytes) -> bytes:
    """A first line that Linux can run: Python by way of ``sh``, others by ``env``."""
    match = _SHEBANG.fullmatch(line)
    if match is None:
        return line
    program = match[2].rpartition(b"/")[2]
    if _PYTHON.fullmatch(program):
        return b"#!/bin/sh\n'''exec' \"" + match[2] + b'"' + match[3] + b' "$0" "$@" #\'\'\''
    return b"#!/usr/bin/env " + program + match[3]


class BinaryReplacer:
    """Replaces inside C strings of a stream; the length never changes.

    Feed pieces in order, then call :meth:`finish`; each returns the bytes that
    are ready. Holds no more than the piece and one C string.
    """

    def __init__(self, placeholder: bytes, prefix: bytes, entry: str) -> None:
        """Refuse a prefix that is longer than the placeholder it must fit into."""
        if len(prefix) > len(placeholder):
            raise ArchiveError(
                Reason.PREFIX_TOO_LONG,
                f"the prefix has {len(prefix)} bytes and the placeholder only {len(placeholder)}",
                entry=entry,
                hint="use a shorter prefix, or a newer build of the package",
            )
        if not placeholder:
            raise ArchiveError(Reason.METADATA, "has an empty placeholder", entry=entry)
        self._old = placeholder
        self._new = prefix
        self._entry = entry
        self._rest = bytearray()
        self._searched = -1
        """Where the search for the end of an open C string goes on; -1: none is open."""

    def feed(self, piece: bytes | bytearray | memoryview) -> bytes:
        """Take the next piece of the file."""
        self._rest += piece
        return self._run(final=False)

    def finish(self) -> bytes:
        """The file has ended; a C string that is still open ends here."""
        return self._run(final=True)

    def _run(self, *, final: bool) -> bytes:
        data, old = self._rest, self._old
        out = bytearray()
        position = 0
        while True:
            if self._searched < 0:
                start = data.find(old, position)
                if start < 0:
                    keep = 0 if final else min(len(old) - 1, len(data) - position)
                    out += memoryview(data)[position : len(data) - keep]
                    del data[: len(data) - keep]
                    return bytes(out)
                out += memoryview(data)[position:start]
                position, self._searched = start, start + len(old)
            end = data.find(0, self._searched)
            if end < 0 and not final:
                del data[:position]
                self._searched = len(data)
                if len(data) > MAX_C_STRING:
                    raise ArchiveError(
                        Reason.LIMIT,
                        f"has a C string of more than {MAX_C_STRING >> 20} MiB",
                        entry=self._entry,
                    )
                return bytes(out)
            end = len(data) if end < 0 else end
            string = bytes(data[position:end])
            out += string.replace(old, self._new).ljust(len(string), b"\0")
            position, self._searched = end, -1


def replace_binary(data: bytes, placeholder: bytes, prefix: bytes, entry: str = "") -> bytes:
    """``data`` of the same length, with the placeholder replaced inside its C strings."""
    replacer = BinaryReplacer(placeholder, prefix, entry)
    return replacer.feed(data) + replacer.finish()
