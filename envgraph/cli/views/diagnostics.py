"""The one printer of diagnostics: lines for people, one JSON object for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from envgraph.cli.views.console import Console, Piece, Styled, harmless, wrap
from envgraph.errors import Diagnostic, SourceLocation

_USERINFO: Final = re.compile(r"(?<=://)[^\s/@]+@")
_TOKEN: Final = re.compile(r"(?<=/t/)[^\s/]+(?=/)")


def redact(text: str) -> str:
    """``text`` without the credentials that an address in it may carry."""
    return _TOKEN.sub("***", _USERINFO.sub("***@", text))


def error_object(exit_code: int, diagnostics: Sequence[Diagnostic]) -> str:
    """The line of ``--json`` on stderr."""
    return json.dumps(
        {
            "type": "error",
            "format_version": "1",
            "exit": exit_code,
            "diagnostics": [redacted(d) for d in diagnostics],
        }
    )


def redacted(diagnostic: Diagnostic) -> dict[str, object]:
    """A diagnostic's JSON object, free of credentials."""
    document = diagnostic.to_json()
    return {k: redact(v) if isinstance(v, str) else v for k, v in document.items()}


def place(source: SourceLocation) -> str:
    """``file:line:column``, the file as seen from here where it lies below."""
    return from_here(str(source))


def from_here(text: str) -> str:
    """``text`` with every path below the working folder made relative to it."""
    try:
        here = str(Path.cwd())
    except OSError:
        return text  # the folder was removed
    return text if here == "/" else re.sub(rf"(?<![\w/.:]){re.escape(here)}/(?=[^/\s])", "", text)


def lines_of(diagnostic: Diagnostic, width: int, *, with_file: bool = True) -> list[list[Piece]]:
    """A diagnostic as lines: place and summary, then detail and hint, indented."""
    head: list[Piece] = [Styled(f"{diagnostic.severity}: ", diagnostic.severity)]
    plain = f"{diagnostic.severity}: "
    source = diagnostic.source
    if source is not None:
        where = place(source)
        if not with_file:
            where = where.removeprefix(place(SourceLocation(source.file))).lstrip(":")
        if where:
            head += [Styled(where, "bold"), ": "]
            plain += where + ": "
    summary = from_here(redact(diagnostic.summary))
    code = f" [{diagnostic.code}]"
    lines: list[list[Piece]] = []
    if len(plain) > width // 2:
        lines.append([*head[:-1], ":"] if source is not None else head)
        first, *others = wrap(summary + code, width - 2)
        lines.append(["  ", *_with_code(first, code)])
    else:
        filler = "x" * (len(plain) - 1)
        first, *others = wrap(f"{filler} {summary}{code}", width)
        if first == filler and others:  # a first word too long for the line stays beside it
            first, *others = others
        lines.append([*head, *_with_code(first.removeprefix(f"{filler} "), code)])
    lines += [["  ", *_with_code(line, code)] for line in others]
    for line in wrap(from_here(redact(diagnostic.detail)), width - 2) if diagnostic.detail else ():
        lines.append(["  ", line])
    if diagnostic.hint:
        first, *others = wrap(from_here(redact(diagnostic.hint)), width - 8)
        lines.append(["  ", Styled("hint: ", "cyan"), first])
        lines += [["        ", line] for line in others]
    return lines


def _with_code(line: str, code: str) -> list[Piece]:
    bare = code.strip()
    if line.endswith(bare):
        return [line[: -len(bare)], Styled(bare, "dim")]
    return [line]


def plain_text(diagnostics: Sequence[Diagnostic]) -> str:
    """What :func:`print_diagnostics` prints, without colour, for 80 columns."""
    lines = [line for diagnostic in diagnostics for line in lines_of(diagnostic, 80)]
    return "".join(
        harmless("".join(p if isinstance(p, str) else p.text for p in line)) + "\n"
        for line in lines
    )


def print_diagnostics(console: Console, diagnostics: Sequence[Diagnostic]) -> None:
    """Every diagnostic on stderr; infos are left out with ``--quiet``."""
    for diagnostic in diagnostics:
        show = console.note if diagnostic.severity == "info" else console.err
        for line in lines_of(diagnostic, console.width):
            show(*line)
