"""What was made from what: an opaque key leads to a JSON record.

An action is a result that can be made again, so a damaged one, or one whose
objects are gone, reads as absent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from envgraph_store import files, records
from envgraph_store.digest import Digest
from envgraph_store.errors import RecordCorrupt
from envgraph_store.layout import Folders
from envgraph_store.naming import escape, unescape


class Actions:
    """Read actions; they are written by a transaction. Safe to use from threads."""

    __slots__ = ("_folders", "_has")

    def __init__(self, folders: Folders, has: Callable[[Digest], bool]) -> None:
        self._folders = folders
        self._has = has

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of ``key`` if it is there, whole, and all that it needs is kept."""
        try:
            document = self.load(escape(key))
        except (FileNotFoundError, RecordCorrupt):
            return None
        if document.get("key") != key or not isinstance(document.get("record"), dict):
            return None
        if not all(self._has(digest) for digest in records.needs_of(document)):
            return None
        record: dict[str, Any] = document["record"]
        return record

    def freshen(self, key: str) -> None:
        """Let the grace period of an action that is used again begin anew."""
        with contextlib.suppress(OSError):
            os.utime(escape(key), dir_fd=self._folders["actions"], follow_symlinks=False)

    def keys(self) -> Iterator[str]:
        """Every key, in no order, whether its record can be used or not."""
        for file_name in self.file_names():
            key = unescape(file_name)
            if key is None:
                try:
                    key = str(self.load(file_name)["key"])
                except (FileNotFoundError, RecordCorrupt, KeyError):
                    continue
            yield key

    def file_names(self) -> list[str]:
        """The names of the record files, for garbage collection and checks."""
        return files.list_folder(self._folders["actions"])

    def load(self, file_name: str) -> dict[str, Any]:
        """The whole document of a record file; raise FileNotFoundError or RecordCorrupt."""
        return records.load(file_name, self._folders["actions"], lambda: self.where(file_name))

    def where(self, file_name: str) -> Path:
        """The path of a record file, for messages."""
        return self._folders.shown("actions") / file_name
