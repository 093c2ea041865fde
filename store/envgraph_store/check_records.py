"""Verify the records: actions, refs and the few files of the root that are ours."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from envgraph_store import index, quarantine, records
from envgraph_store.actions import Actions
from envgraph_store.digest import Digest
from envgraph_store.errors import RecordCorrupt
from envgraph_store.layout import AREAS, GENERATION_FILE, INDEX_FILE, Folders
from envgraph_store.naming import unescape
from envgraph_store.refs import RefReader


def check_records(folders: Folders) -> tuple[int, list[tuple[str, str, str]]]:
    """How many records there are, and what is bad: its name, the problem, its folder."""
    problems: list[tuple[str, str, str]] = []
    needed: set[Digest] = set()
    count = 0
    for name, load in all_records(folders):
        count += 1
        try:
            needed.update(records.needs_of(load()))
        except FileNotFoundError:
            continue
        except RecordCorrupt as error:
            problems.append((name, error.summary, name.partition(":")[0] + "s"))
        except (ValueError, TypeError) as error:
            problems.append((name, f"it is malformed: {error}", name.partition(":")[0] + "s"))
    for digest in sorted(needed):
        if not any(there(folders, area, digest.hex) for area in AREAS):
            problems.append((str(digest), "it is gone", "blobs"))
    for entry, problem in _misplaced(folders):
        problems.append((f"ref:{_ref_name(entry)}", problem, "refs"))
    mode = _mode(folders, "root", GENERATION_FILE)
    if mode and not stat.S_ISREG(mode):
        problems.append((GENERATION_FILE, "it is not a regular file", "root"))
    count += 1
    if index.is_damaged(folders):
        problems.append((INDEX_FILE, "it is not an OCI index", "root"))
    return count, problems


def all_records(folders: Folders) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The name of every action and of every ref's newest generation, and how to read it."""
    actions = Actions(folders, lambda digest: True)
    for file_name in actions.file_names():
        yield f"action:{unescape(file_name) or file_name}", _Loader(actions.load, file_name)
    refs = RefReader(folders)
    for folder_name, number in _newest(folders):
        yield f"ref:{_ref_name(folder_name)}", _Loader(refs.load, folder_name, number)


def _newest(folders: Folders) -> Iterator[tuple[str, int]]:
    """Every ref's folder, with the number of its newest generation."""
    refs = RefReader(folders)
    for folder_name in refs.folder_names():
        if stat.S_ISDIR(_mode(folders, "refs", folder_name)):
            for number in refs.generations(folder_name)[-1:]:
                yield folder_name, number


def _misplaced(folders: Folders) -> Iterator[tuple[str, str]]:
    """What lies in ``refs/`` and is no ref's folder, or no file of an older value."""
    refs = RefReader(folders)
    for folder_name in refs.folder_names():
        if not stat.S_ISDIR(_mode(folders, "refs", folder_name)):
            yield folder_name, "it is not a folder"
            continue
        for number in refs.generations(folder_name)[:-1]:
            entry = f"{folder_name}/{number}"
            if not stat.S_ISREG(_mode(folders, "refs", entry)):
                yield entry, f"its value {number} is not a regular file"


def _ref_name(entry: str) -> str:
    """The name of the ref that an entry below ``refs/`` belongs to."""
    folder_name = entry.partition("/")[0]
    return unescape(folder_name) or folder_name


def _mode(folders: Folders, area: str, entry: str) -> int:
    """The type and permissions of an entry itself, not of what it links to; 0: none."""
    try:
        return os.stat(entry, dir_fd=folders[area], follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


class _Loader:
    def __init__(self, function: Callable[..., dict[str, Any]], *arguments: object) -> None:
        self._function = function
        self._arguments = arguments

    def __call__(self) -> dict[str, Any]:
        return self._function(*self._arguments)


def set_aside_record(folders: Folders, area: str, name: str) -> None:
    """Set a damaged record aside; a ref then has its previous value again."""
    if area == "refs":
        for entry, _ in list(_misplaced(folders)):
            if _ref_name(entry) == name:
                set_aside(folders, "refs", entry, f"refs-{entry.partition('/')[0][:100]}")
    refs = RefReader(folders)
    actions = Actions(folders, lambda digest: True)
    for kind, entry, load in [
        *(("actions", e, _Loader(actions.load, e)) for e in actions.file_names()),
        *(
            ("refs", f"{e}/{number}", _Loader(refs.load, e, number))
            for e, number in _newest(folders)
        ),
    ]:
        stem = entry.partition("/")[0]
        if kind == area and (unescape(stem) or stem) == name:
            try:
                load()
            except RecordCorrupt:
                set_aside(folders, area, entry, f"{area}-{stem[:100]}")


def set_aside(folders: Folders, area: str, entry: str, label: str) -> None:
    """Move an entry to the quarantine, durably."""
    quarantine.set_aside(folders, area, entry, label)
    folders.disk.sync_folder(folders[area])


def there(folders: Folders, area: str, name: str) -> bool:
    """Whether anything has that name."""
    return _mode(folders, area, name) != 0
