"""Hints that make things faster and may vanish at any time; never truth.

This is the only module that imports diskcache. diskcache pickles what it does
not know and unpickles what it reads (CVE-2025-69872), so its Disk class is
replaced by one that can do neither: keys and values are text, kept in the
SQLite file, and anything else that lies there reads as absent. Nothing is ever
evicted; ``rm -rf memo`` costs only time.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any, Final

import diskcache

from envgraph_store import files
from envgraph_store.layout import Folders

_FOLDER: Final = "memo"
_HINTS: Final = "memo/hints"
_NEVER: Final = sys.maxsize
_FAULTS: Final = (sqlite3.Error, diskcache.Timeout, OSError, ValueError, TypeError, RecursionError)


class TextDisk(diskcache.Disk):  # type: ignore[misc]
    """Text in, text out, in the database; everything else is refused both ways."""

    def put(self, key: object) -> tuple[str, bool]:
        """The database's form of a key."""
        if type(key) is not str:
            raise TypeError("a memo's key is text")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """The key behind the database's form."""
        if not raw or type(key) is not str:
            raise ValueError("a key that this memo did not write")
        return key

    def store(self, value: object, read: object, key: object = None) -> tuple[int, int, None, str]:
        """The database's form of a value: size, mode, no file, text."""
        if type(value) is not str or read:
            raise TypeError("a memo's value is text")
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: object, filename: object, value: object, read: object) -> str:
        """The value behind the database's form."""
        if mode != diskcache.core.MODE_RAW or filename is not None or type(value) is not str:
            raise ValueError("a value that this memo did not write")
        return value


class Memo:
    """JSON values by text keys. No method fails because of the memo's state."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._path: Path = folders.path / _HINTS
        self._cache: Any = None
        try:
            self._cache = self._open()
            self._release()
        except _FAULTS:
            self.clear()

    def get(self, key: str) -> Any:
        """The value of ``key``, or None if it is absent or cannot be read."""
        try:
            text = None if self._cache is None else self._cache.get(key)
            return None if text is None else json.loads(text)
        except _FAULTS:
            return None
        finally:
            self._release()

    def set(self, key: str, value: object) -> None:
        """Remember a JSON value; raise TypeError or ValueError if it is none."""
        text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        if type(key) is not str:
            raise TypeError("a memo's key is text")
        if self._cache is None:
            return
        try:
            self._cache.set(key, text)
        except _FAULTS:
            return
        finally:
            self._release()

    def delete(self, key: str) -> None:
        """Forget one key."""
        try:
            if self._cache is not None:
                self._cache.delete(key)
        except _FAULTS:
            return
        finally:
            self._release()

    def clear(self) -> None:
        """Forget everything, a damaged database included."""
        self.close()
        try:
            files.remove_tree(_HINTS, self._folders["root"])
            self._cache = self._open()
            self._release()
        except _FAULTS:
            self._cache = None

    def close(self) -> None:
        """Close the database; the memo reads as empty afterwards."""
        cache, self._cache = self._cache, None
        if cache is not None:
            cache.close()

    def _release(self) -> None:
        """Close what diskcache opened for this thread: nobody else can."""
        if self._cache is not None:
            self._cache.close()

    def _open(self) -> Any:
        """Open the database; None where diskcache would look elsewhere (``$`` in the path)."""
        path = str(self._path)
        if os.path.expandvars(path) != path:
            return None
        files.make_folder(_FOLDER, self._folders["root"])
        os.close(files.open_folder(_FOLDER, self._folders["root"]))
        files.make_folder(_HINTS, self._folders["root"])
        os.close(files.open_folder(_HINTS, self._folders["root"]))
        return diskcache.Cache(
            path,
            disk=TextDisk,
            disk_min_file_size=_NEVER,
            eviction_policy="none",
            cull_limit=0,
            size_limit=_NEVER,
            sqlite_synchronous=1,
        )
