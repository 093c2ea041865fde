"""Bytes of a file that people write → text and its lines."""

from __future__ import annotations

import re
from typing import Final

from envgraph.errors import SourceLocation
from envgraph.spec.problems import Problems

#: Control characters other than tab and line ends.
FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_LINE_BREAK: Final = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


def decode(data: bytes, file: str, problems: Problems) -> str | None:
    """The text of a file: UTF-8 with or without BOM, no control characters."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.add(
            "encoding", "the file is UTF-16, not UTF-8", SourceLocation(file, 1, 1),
            hint="save it as UTF-8",
        )  # fmt: skip
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode("utf-8", "replace"))
        problems.add(
            "encoding",
            f"byte 0x{data[error.start]:02x} is not UTF-8",
            SourceLocation(file, line, column),
            hint="save the file as UTF-8",
        )
        return None
    bad = FORBIDDEN.search(text)
    if bad is not None:
        line, column = _position(text[: bad.start()])
        problems.add(
            "control-character",
            f"the character U+{ord(bad[0]):04X} cannot stand in a text file",
            SourceLocation(file, line, column),
        )
        return None
    return text


def split_lines(text: str) -> list[str]:
    """The lines of a text as YAML counts them: CR, NEL and Unicode's separators end one too."""
    return _LINE_BREAK.split(text)


def _position(before: str) -> tuple[int, int]:
    lines = split_lines(before)
    return len(lines), len(lines[-1]) + 1
