"""What is bad: set aside, or marked where it lies.

``quarantine/condemned-<area>-<hex>`` is an empty file. It says that the object was
seen to be damaged, so ``has`` and ``actions.get`` take it for absent, in every
process, and the next apply makes it anew. The object itself stays until it is
replaced, repaired or collected. Whoever finds or writes a good copy lifts the mark.

A mark costs one ``access`` for each look at an object, since a list that is kept
in memory could miss the marks of other processes.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from envgraph_store import files
from envgraph_store.layout import AREAS, Folders

PREFIX: Final = "condemned-"
"""How the names of marks begin; names of what was set aside do not begin so."""

_HEX: Final = frozenset("0123456789abcdef")


def set_aside(folders: Folders, area: str, entry: str, label: str) -> None:
    """Move an entry of a folder, whatever it is, to ``quarantine/<label>-<x>``."""
    os.rename(
        entry,
        f"{label}-{os.urandom(4).hex()}",
        src_dir_fd=folders[area],
        dst_dir_fd=folders["quarantine"],
    )


def condemn(folders: Folders, area: str, digits: str) -> None:
    """Mark an object as bad; it is not touched, and the mark is not synced yet."""
    with contextlib.suppress(FileExistsError):
        os.close(files.create_file(_mark(area, digits), folders["quarantine"]))


def is_condemned(folders: Folders, area: str, digits: str) -> bool:
    """Whether the object was seen to be bad, and not replaced since."""
    return os.access(_mark(area, digits), os.F_OK, dir_fd=folders["quarantine"])


def lift(folders: Folders, area: str, digits: str) -> None:
    """A good copy is there now: take the mark away if there is one."""
    if is_condemned(folders, area, digits):
        with contextlib.suppress(OSError):  # on a read-only store it stays: costs a rebuild
            os.unlink(_mark(area, digits), dir_fd=folders["quarantine"])


def condemned(folders: Folders) -> set[tuple[str, str]]:
    """All marks, as (area, 64 hex digits)."""
    return {found for name in files.list_folder(folders["quarantine"]) if (found := parse(name))}


def parse(name: str) -> tuple[str, str] | None:
    """The area and the hex digits of a mark's name; None for other names."""
    area, _, digits = name.removeprefix(PREFIX).partition("-")
    good = name.startswith(PREFIX) and area in AREAS and len(digits) == 64
    return (area, digits) if good and _HEX.issuperset(digits) else None


def _mark(area: str, digits: str) -> str:
    return f"{PREFIX}{area}-{digits}"
