"""Any text as one file name, and back.

Lower-case letters, digits, ``.``, ``_`` and ``-`` stand for themselves; every
other byte of the UTF-8 form is ``%xx``, and so is a leading dot. Capital letters
are escaped too, so names that differ in case only stay apart on file systems
that fold case, and names in NFC and NFD stay apart on those that normalise. A
result longer than 180 bytes becomes ``~`` and the sha256 of the name; whoever
writes such a file keeps the name inside it.
"""

from __future__ import annotations

import hashlib
from typing import Final

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._-")
_LONGEST: Final = 180
_ESCAPED: Final = tuple(chr(b) if b in _PLAIN else f"%{b:02x}" for b in range(256))
"""What each byte becomes."""

HASHED: Final = "~"
"""How the file names of names begin that were too long."""


def escape(name: str) -> str:
    """The file name of ``name``; raise ValueError if it is empty."""
    raw = name.encode("utf-8", "surrogatepass")
    if not raw:
        raise ValueError("a name must not be empty")
    text = "".join(map(_ESCAPED.__getitem__, raw))
    if text[0] == ".":
        text = "%2e" + text[1:]
    if len(text) > _LONGEST:
        return HASHED + hashlib.sha256(raw).hexdigest()
    return text


def unescape(file_name: str) -> str | None:
    """The name behind ``file_name``; None if it was too long to be kept there."""
    if file_name.startswith(HASHED):
        return None
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(file_name).decode("utf-8", "surrogatepass")
