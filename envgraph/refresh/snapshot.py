"""Writes what the quick path reads. A snapshot is a hint: losing it costs only time."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from envgraph import __version__
from envgraph.model.config import WorkspaceConfig
from envgraph.refresh import quick


def write_snapshot(
    store: Path,
    root: Path,
    files: Sequence[Path],
    *,
    watched: Iterable[Path | str],
    taken_ns: int,
    human: str,
    answer: str,
    warnings: str = "",
) -> None:
    """Remember that nothing is to do, and everything that this stands on.

    ``taken_ns`` is the wall clock before the first input was read. Trouble with
    writing is not an error: the next plan then takes the full path.
    """
    key = quick.question(root, files)
    path = Path(quick.snapshot_path(str(store), key))
    stats = {str(name): quick.stat_of(name) for name in watched}
    folders = quick.import_path()
    stats |= {name: quick.stat_of(name) for name in folders}
    document = {
        "version": __version__,
        "python": sys.version,
        "key": key,
        "import_path": folders,
        "taken": taken_ns,
        "stats": stats,
        "human": human,
        "warnings": warnings,
    }
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(Path(f"{path}.answer"), answer)
        _replace(path, json.dumps(document))


def glob_folders(config: WorkspaceConfig) -> list[str]:
    """Every folder whose content decides what the workspace's globs find.

    A folder that is not there yet is among them: its coming is a change.
    """
    root = Path(config.root)
    found: dict[str, None] = {}
    for pattern in config.environments:
        folders = [root]
        for part in Path(pattern).parts[:-1]:
            if part == "**":
                folders += [Path(top) for folder in folders for top, _, _ in os.walk(folder)]
            elif any(mark in part for mark in "*?["):
                found |= dict.fromkeys(str(folder) for folder in folders)
                folders = [path for folder in folders for path in folder.glob(part)]
            else:
                folders = [folder / part for folder in folders]
        found |= dict.fromkeys(str(folder) for folder in folders)
    return list(found)


def drop_snapshots(store: Path) -> None:
    """Forget every snapshot of a store."""
    with contextlib.suppress(OSError):
        for path in (store / "memo" / "plans").iterdir():
            path.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
