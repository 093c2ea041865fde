"""A build context as files, for a program that reads folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

from envgraph.api import BuildContext

_PIECE: Final = 1 << 20


def _copy_sparsely(source: BinaryIO, out: BinaryIO) -> None:
    """Pieces of zeros become holes: a context may hold a disk's image that no step copies."""
    size = 0
    while piece := source.read(_PIECE):
        size += len(piece)
        if piece.count(0) == len(piece):
            out.seek(size)
        else:
            out.write(piece)
    out.truncate(size)


def stage(context: BuildContext, folder: Path, epoch: int) -> None:
    """Write a context's files out, with the modes and the time that a build sees."""
    folder.mkdir()
    for entry in sorted(context.entries(), key=lambda item: item.path):
        path = folder / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.folder:
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        elif entry.link:
            path.symlink_to(entry.link)
        else:
            with context.open(entry.path) as source, path.open("wb") as out:
                _copy_sparsely(source, out)
            path.chmod(entry.mode)
            os.utime(path, (epoch, epoch))
