"""Scripts in ``bin/`` from the ``entry_points`` of a noarch package's ``link.json``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from envgraph.image.archive_errors import ArchiveError, Reason

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\- ]*", re.ASCII)
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MAX_LINE: Final = 127


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """``name = module:function``; checked, so nothing in it can escape or inject."""

    name: str
    module: str
    function: str


def parse_entry_point(text: object) -> EntryPoint:
    """Read ``name = module:function``; refuse path parts and anything but dotted names."""
    if not isinstance(text, str):
        raise ArchiveError(Reason.ENTRY_POINT, f"an entry point is no text: {text!r:.80}")
    name, equals, target = (part.strip() for part in text.partition("="))
    module, colon, function = (part.strip() for part in target.partition(":"))
    function = function.partition("[")[0].strip()
    if not (equals and colon):
        raise ArchiveError(Reason.ENTRY_POINT, "is not “name = module:function”", entry=text)
    return checked_entry_point(name, module, function)


def checked_entry_point(name: str, module: str, function: str) -> EntryPoint:
    """The entry point, if its name is a file name and its target dotted identifiers."""
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise ArchiveError(
            Reason.ENTRY_POINT, "the name of an entry point is no plain file name", entry=name
        )
    for what in (module, function):
        if not _DOTTED.fullmatch(what):
            raise ArchiveError(Reason.ENTRY_POINT, "is no dotted Python name", entry=what)
    return EntryPoint(name, module, function)


def entry_points(link: Any) -> tuple[EntryPoint, ...]:
    """The entry points of a parsed ``link.json``; none if it has none."""
    if link is None:
        return ()
    noarch = link.get("noarch") if isinstance(link, dict) else None
    if noarch is None:
        return ()
    if not isinstance(noarch, dict) or not isinstance(noarch.get("entry_points", []), list):
        raise ArchiveError(Reason.METADATA, "has another shape", entry="info/link.json")
    found = tuple(parse_entry_point(text) for text in noarch.get("entry_points") or ())
    names = [point.name for point in found]
    for name in names:
        if names.count(name) > 1:
            raise ArchiveError(Reason.DUPLICATE, "two entry points have the name", entry=name)
    return found


def script(point: EntryPoint, interpreter: str) -> bytes:
    """The script that calls the entry point, as rattler writes it (conda's own template)."""
    if len(interpreter) > _MAX_LINE - 2 or " " in interpreter:
        shebang = f"#!/bin/sh\n'''exec' \"{interpreter}\" \"$0\" \"$@\" #'''"
    else:
        shebang = f"#!{interpreter}"
    first = point.function.partition(".")[0]
    return (
        f"{shebang}\n"
        "# -*- coding: utf-8 -*-\n"
        "import re\n"
        "import sys\n\n"
        f"from {point.module} import {first}\n\n"
        "if __name__ == '__main__':\n"
        "\tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])\n"
        f"\tsys.exit({point.function}())\n"
    ).encode()
