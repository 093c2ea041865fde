"""How much lies in the store, by kind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from envgraph_store.layout import FOLDERS, Folders


@dataclass(frozen=True, slots=True)
class Use:
    """How many files, and how many bytes they hold."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The store's folders, each with its files and bytes."""

    blobs: Use
    packages: Use
    actions: Use
    refs: Use
    stage: Use
    quarantine: Use
    memo: Use

    @property
    def total_bytes(self) -> int:
        """All of it, in bytes."""
        parts = (self.blobs, self.packages, self.actions, self.refs)
        return sum(p.bytes for p in (*parts, self.stage, self.quarantine, self.memo))


def measure(folders: Folders) -> UsageReport:
    """Add up every folder; files that vanish meanwhile are left out."""
    uses = {name: _use(folders.path / place) for name, place in FOLDERS.items()}
    uses.pop("locks")
    return UsageReport(**uses, memo=_use(folders.path / "memo"))


def _use(folder: Path) -> Use:
    count = size = 0
    todo = [os.fspath(folder)]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                        continue
                    try:
                        size += entry.stat(follow_symlinks=False).st_size
                        count += 1
                    except FileNotFoundError:
                        continue
        except FileNotFoundError:
            continue
    return Use(count, size)
