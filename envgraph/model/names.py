"""Names that a user gives, and the reversible escapes where one does not fit.

A name has 1 to 255 characters and holds no control character, ``/``, ``:`` or
``@``; ``.`` and ``..`` are none. File systems, OCI repositories and tags allow less, so:

- **file names and refs** (:func:`escape_name`): letters, digits, ``-``, ``_`` and
  ``.`` stay; every other byte of the UTF-8 text is ``%HH``, and so is a dot that
  comes first. More than 200 characters are cut into folders, each of which ends
  in a bare ``%``: what ends in ``%`` goes on. Make the parents before writing.
- **repositories** (:func:`escape_repository`): lower-case letters and digits stay,
  and a ``-`` or ``.`` between two of them. A run of anything else is ``__``, the
  hexadecimal digits of its UTF-8 bytes, and ``_`` unless it ends the name. A name
  that begins with such a run gets an ``x`` in front.
- **tags** (:func:`escape_tag`): letters, digits, ``.`` and ``-`` stay, ``_`` is
  doubled, any other byte is ``_HH``. A tag holds 128 characters; a longer one keeps
  its first 90, then ``_.`` and 32 digits of its sha256: that alone has no way back.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

MAX_NAME: Final = 255
"""Characters, not bytes."""

_FILE_SAFE: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_PIECE: Final = 200
_AS_IT_IS: Final = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{_PIECE - 1}}}")
"""Names that no escape changes."""
_FORBIDDEN: Final = "/:@"
_BIDI: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ALNUM: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REPOSITORY_RUN: Final = re.compile(r"__([0-9a-f]+)(?:_|$)")
_TAG_ESCAPE: Final = re.compile(r"__|_([0-9A-F]{2})")
_LONG_TAG: Final = re.compile(r"_\.[0-9a-f]{32}$")


def name_problem(name: str) -> str | None:
    """What is wrong with ``name`` in words, or None when it is a good name."""
    if not name:
        return "a name has at least one character"
    if len(name) > MAX_NAME:
        return f"a name has at most {MAX_NAME} characters, and this one has {len(name)}"
    for character in name:
        if character in _FORBIDDEN:
            return f"a name cannot hold {character!r}"
        if _is_control(character):
            return f"a name cannot hold the control character U+{ord(character):04X}"
    if name in (".", ".."):
        return f"a name cannot be {name!r}, which is a folder everywhere"
    if name != name.strip():
        return "a name cannot begin or end with a space"
    return None


def shown(name: str) -> str:
    """``name`` in quotes for a message, its beginning where it is very long."""
    return repr(name if len(name) <= 60 else name[:59] + "…")


def version_problem(version: str) -> str | None:
    """What is wrong with a version; it may hold colons (``18.04:2022``), a name may not."""
    if not version:
        return "a version has at least one character"
    if len(version) > MAX_NAME:
        return f"a version has at most {MAX_NAME} characters, and this one has {len(version)}"
    for character in version:
        if character in "/@":
            return f"a version cannot hold {character!r}"
        if _is_control(character):
            return f"a version cannot hold the control character U+{ord(character):04X}"
    return None


def _is_control(character: str) -> bool:
    """Control characters, lone surrogates, line ends, and marks that turn text around."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI


def reserved_prefix(name: str, prefixes: Iterable[str]) -> str | None:
    """The reserved prefix that ``name`` begins with, whatever its case, or None."""
    folded = name.casefold()
    return next((p for p in prefixes if p and folded.startswith(p.casefold())), None)


def escape_name(name: str) -> str:
    """``name`` as a file name or a part of a ref.

    >>> escape_name("my env"), escape_name(".hidden")
    ('my%20env', '%2Ehidden')
    """
    text = "".join(
        chr(byte) if byte in _FILE_SAFE else f"%{byte:02X}" for byte in name.encode("utf-8")
    )
    if text.startswith("."):
        text = "%2E" + text[1:]
    pieces = []
    while len(text) > _PIECE:
        cut = _PIECE
        while "%" in text[cut - 2 : cut]:
            cut -= 1
        pieces.append(text[:cut] + "%")
        text = text[cut:]
        if text.startswith("."):
            text = "%2E" + text[1:]
    return "/".join([*pieces, text])


def unescape_name(text: str) -> str:
    """The inverse of :func:`escape_name`; ValueError on anything that it never writes."""
    if _AS_IT_IS.fullmatch(text):
        return text
    joined = text.replace("%/", "")
    data = bytearray()
    rest = iter(joined.encode("ascii"))
    for byte in rest:
        if byte == 0x25:
            byte = int(bytes([next(rest, 0), next(rest, 0)]), 16)
        data.append(byte)
    name = data.decode("utf-8")
    if escape_name(name) != text:
        raise ValueError(f"not an escaped name: {text[:100]!r}")
    return name


def escape_repository(name: str) -> str:
    """``name`` as one component of an OCI repository.

    >>> escape_repository("train-gpu"), escape_repository("My_env"), escape_repository("a b")
    ('train-gpu', 'x__4d_y__5f_env', 'a__20_b')
    """
    kept = [character in _ALNUM for character in name]
    for i in range(1, len(name) - 1):
        if name[i] in "-." and name[i - 1] in _ALNUM and name[i + 1] in _ALNUM:
            kept[i] = True
    if len(name) > 1 and name[0] == "x" and not kept[1]:
        kept[0] = False
    out: list[str] = []
    run = ""
    for character, keep in zip(name, kept, strict=True):
        if not keep:
            run += character
            continue
        if run:
            out.append(f"__{run.encode('utf-8').hex()}_")
            run = ""
        out.append(character)
    if run:
        out.append(f"__{run.encode('utf-8').hex()}")
    text = "".join(out)
    return "x" + text if text.startswith("_") else text


def unescape_repository(text: str) -> str:
    """The inverse of :func:`escape_repository`; ValueError on anything else."""
    body = text[1:] if text.startswith("x__") else text
    name = _REPOSITORY_RUN.sub(lambda match: bytes.fromhex(match[1]).decode("utf-8"), body)
    if escape_repository(name) != text:
        raise ValueError(f"not an escaped repository: {text[:100]!r}")
    return name


def escape_tag(version: str) -> str:
    """``version`` as a tag.

    >>> escape_tag("18.04:2022"), escape_tag("v_1")
    ('18.04_3A2022', 'v__1')
    """
    out = []
    for i, byte in enumerate(version.encode("utf-8")):
        character = chr(byte)
        if character == "_":
            out.append("__")
        elif byte in _FILE_SAFE and not (i == 0 and character in ".-"):
            out.append(character)
        else:
            out.append(f"_{byte:02X}")
    text = "".join(out)
    if len(text) > 128:
        text = f"{text[:90]}_.{hashlib.sha256(version.encode('utf-8')).hexdigest()[:32]}"
    return text


def unescape_tag(text: str) -> str:
    """The inverse of :func:`escape_tag`; ValueError where there is none."""
    if len(text) == 124 and _LONG_TAG.search(text):
        raise ValueError("a shortened tag does not tell its version")
    data = bytearray()
    position = 0
    for match in _TAG_ESCAPE.finditer(text):
        data += text[position : match.start()].encode("ascii")
        data.append(0x5F if match[1] is None else int(match[1], 16))
        position = match.end()
    data += text[position:].encode("ascii")
    version = data.decode("utf-8")
    if escape_tag(version) != text:
        raise ValueError(f"not an escaped tag: {text[:100]!r}")
    return version
