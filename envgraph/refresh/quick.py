"""The quick path of ``plan``: "nothing to do", answered from one file and many stats.

A plan that found nothing to do leaves a snapshot of everything that its answer
stood on: the size, times and inode of every input file, of the folders that the
globs looked into, of the store's generation and of Python's import path (so a new
plugin or a new envgraph is seen). If all of that is as it was, the answer is too.

A file that changed less than two seconds before the snapshot may have changed
again within the clock's tick; then the full path is taken, as for any doubt.

This module imports ``os``, ``sys``, ``json``, ``zlib`` and the user's folders; a test holds it to
that: each further import costs more than the whole answer.
"""

from __future__ import annotations

import json
import os
import sys
import zlib

from envgraph import __version__
from envgraph.folders import default_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

RACY_NS = 2_000_000_000
_FLAGS = frozenset(("--json", "--quiet", "-q", "--no-color", "--offline", "--detailed-exitcode"))
_VALUES = frozenset(("-C", "--store"))


def stat_of(path: str | os.PathLike[str]) -> list[int] | None:
    """``[size, mtime, ctime, inode]`` in bytes and nanoseconds; None where nothing is."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def import_path() -> list[str]:
    """The folders that Python imports from; a package that comes or goes changes one."""
    return [entry for entry in sys.path if entry and os.path.isdir(entry)]


def snapshot_path(store: str, key: list[str]) -> str:
    """Where the snapshot of one question lies; the file repeats the whole key."""
    name = f"{zlib.crc32(json.dumps(key).encode()):08x}.json"
    return os.path.join(store, "memo", "plans", name)


def question(root: str | os.PathLike[str], files: Iterable[str | os.PathLike[str]]) -> list[str]:
    """The key of a snapshot: which workspace, which files."""
    return [os.path.realpath(root), *(os.path.abspath(name) for name in files)]


def _parse(argv: list[str]) -> tuple[set[str], dict[str, str | None], list[str]] | None:
    flags: set[str] = set()
    values: dict[str, str | None] = {}
    rest: list[str] = []
    items = iter(argv)
    for item in items:
        if item in _FLAGS:
            flags.add(item)
        elif item in _VALUES:
            values[item] = next(items, None)
        elif item.startswith("--store="):
            values["--store"] = item[len("--store=") :]
        elif item.startswith("-"):
            return None
        else:
            rest.append(item)
    if not rest or rest[0] != "plan" or None in values.values():
        return None
    return flags, values, rest[1:]


def answer(argv: list[str]) -> int | None:
    """Print "nothing to do" and return 0 when a snapshot proves it; else return None."""
    parsed = _parse(argv)
    if parsed is None:
        return None
    flags, values, files = parsed
    store = os.path.abspath(values.get("--store") or default_store(os.environ))
    root = os.path.abspath(values.get("-C") or ".")
    key = question(root, [os.path.join(root, name) for name in files])
    path = snapshot_path(store, key)
    try:
        with open(path, encoding="utf-8") as stream:
            snapshot = json.load(stream)
        if not _holds(snapshot, key):
            return None
        text: str = snapshot["human"]
        if "--json" in flags:
            with open(path + ".answer", encoding="utf-8") as stream:
                text = stream.read()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if "--json" not in flags:
        sys.stderr.write(snapshot["warnings"])
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


def _holds(snapshot: dict[str, Any], key: list[str]) -> bool:
    if snapshot["version"] != __version__ or snapshot["python"] != sys.version:
        return False
    if snapshot["key"] != key or snapshot["import_path"] != import_path():
        return False
    newest = snapshot["taken"] - RACY_NS
    stat = os.stat
    for path, before in snapshot["stats"].items():
        try:
            found = stat(path)
        except OSError:
            if before is not None:
                return False
            continue
        if before is None or before != [
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_ino,
        ]:
            return False
        if before[1] > newest or before[2] > newest:
            return False
    return True
