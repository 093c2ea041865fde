"""Verify: hash everything, name what is bad and who uses it; repair on request.

Repair takes bad things out of the way (into ``quarantine/``) and forgets the
actions that needed them, so the next apply makes them anew. It never touches a
good object or a name's value. Whatever was bad, the store's generation changes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from envgraph_store import documents, files, generation, index, locks, quarantine, records
from envgraph_store.actions import Actions
from envgraph_store.check_records import (
    all_records,
    check_records,
    set_aside,
    set_aside_record,
    there,
)
from envgraph_store.digest import Digest
from envgraph_store.errors import RecordCorrupt, StoreError, StoreIOError, io_error
from envgraph_store.layout import AREAS, INDEX_FILE, Folders
from envgraph_store.refs import RefReader
from envgraph_store.stage import GC_LOCK

_MOST_USERS: Final = 100


@dataclass(frozen=True, slots=True)
class BadObject:
    """One bad thing.

    ``digest`` is ``sha256:<hex>`` for objects, else the name of what is bad:
    ``action:…``, ``ref:…`` or a file's name. ``used_by`` names the refs and
    actions that lead to it (``ref:…``, ``action:…``), or the objects if no ref
    or action does. ``area`` is the folder it lies in.
    """

    digest: str
    problem: str
    used_by: tuple[str, ...]
    area: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked (objects, actions and refs), and what of it is bad."""

    checked: int
    bytes: int
    bad: tuple[BadObject, ...]
    repaired: bool = False


class Mapper(Protocol):
    """``map``, or an executor's ``map``: the results in the order of the items."""

    def __call__(
        self, function: Callable[[_Item], _Finding], items: Iterable[_Item], /
    ) -> Iterable[_Finding]:
        """Apply ``function`` to every item."""


@dataclass(frozen=True, slots=True)
class _Item:
    area: str
    name: str


@dataclass(frozen=True, slots=True)
class _Finding:
    item: _Item
    problem: str
    size: int


def verify(
    folders: Folders,
    *,
    repair: bool = False,
    progress: Callable[[int, int], object] | None = None,
    mapper: Mapper | None = None,
    timeout: float = 60.0,
) -> VerifyReport:
    """Hash every object, read every record, look for what records need.

    Bad objects are marked, so that they count as absent; they are not touched.
    ``progress`` is called with (done, total). ``mapper`` may be an executor's
    ``map``; hashing lets other threads run. Raise
    :class:`~envgraph_store.errors.StoreLocked` if garbage is being collected, or,
    with ``repair``, while something is being written.
    """
    try:
        with _Locked(folders, True, "verifying", timeout):
            marked = quarantine.condemned(folders)
            report = _look(folders, progress, mapper)
            with contextlib.suppress(OSError):
                _condemn(folders, report, marked)
            if report.bad:
                with contextlib.suppress(StoreIOError):  # a read-only store is looked at too
                    generation.bump(folders)
        if not (repair and report.bad):
            return report
        with _Locked(folders, False, "repairing", timeout):
            generation.bump(folders)
            for bad in report.bad:
                _repair(folders, bad)
            generation.bump(folders)
        return VerifyReport(report.checked, report.bytes, report.bad, True)
    except OSError as error:
        raise io_error(error, "verify", folders.path) from error


def _condemn(folders: Folders, report: VerifyReport, marked: set[tuple[str, str]]) -> None:
    """Mark the bad objects that are there; lift the marks of what is good or gone.

    A writer may replace an object while it is looked at. It lifts the mark after the
    good copy has its name, and here the object is checked after it was marked, so one
    of the two sees the other, and a good object does not stay marked.
    """
    bad = {
        (item.area, item.digest.removeprefix("sha256:"))
        for item in report.bad
        if item.area in AREAS and item.digest.startswith("sha256:")
    }
    for area, digits in sorted(marked - bad):
        quarantine.lift(folders, area, digits)
    for area, digits in sorted(bad):
        if there(folders, area, digits):
            quarantine.condemn(folders, area, digits)
            if not _check(folders, _Item(area, digits)).problem:
                quarantine.lift(folders, area, digits)
    if bad:
        folders.disk.sync_folder(folders["quarantine"])


class _Locked(contextlib.ExitStack):
    def __init__(self, folders: Folders, shared: bool, purpose: str, timeout: float) -> None:
        super().__init__()
        held = locks.acquire(
            folders["locks"],
            GC_LOCK,
            where=folders.shown("locks") / GC_LOCK,
            what="the store",
            purpose=purpose,
            shared=shared,
            timeout=timeout,
        )
        self.callback(held.release)


def _look(
    folders: Folders, progress: Callable[[int, int], object] | None, mapper: Mapper | None
) -> VerifyReport:
    items = [item for area in AREAS for item in _items(folders, area)]
    checked = total_bytes = 0
    problems: list[tuple[str, str, str]] = []
    results = (mapper or map)(lambda item: _check(folders, item), items)
    for finding in results:
        checked += 1
        total_bytes += finding.size
        if finding.problem:
            problems.append((_said(finding.item.name), finding.problem, finding.item.area))
        if progress is not None:
            progress(checked, len(items))
    count, more = check_records(folders)
    checked += count
    problems += more
    users: _Users | None = _Users(folders) if problems else None
    bad = [
        BadObject(name, problem, users.of(name) if users else (), area)
        for name, problem, area in problems
    ]
    return VerifyReport(checked, total_bytes, tuple(bad))


def _items(folders: Folders, area: str) -> list[_Item]:
    """Every entry of an area, in the order of the disk where inodes tell it."""
    with os.scandir(folders.shown(area)) as entries:
        found = sorted((entry.inode(), entry.name) for entry in entries)
    return [_Item(area, name) for _, name in found]


def _check(folders: Folders, item: _Item) -> _Finding:
    if _said(item.name) == item.name:
        return _Finding(item, "its name is no digest", 0)
    try:
        fd, status = files.open_regular(item.name, folders[item.area])
    except FileNotFoundError:
        return _Finding(item, "", 0)  # removed meanwhile by hand; its users miss it
    except OSError as error:
        return _Finding(item, _open_problem(folders, item, error), 0)
    try:
        actual, size = files.hash_descriptor(fd, status.st_size)
    except OSError as error:
        return _Finding(item, f"it cannot be read: {error.strerror}", 0)
    finally:
        os.close(fd)
    return _Finding(item, "" if actual == item.name else "its bytes have another digest", size)


def _open_problem(folders: Folders, item: _Item, error: OSError) -> str:
    mode = os.stat(item.name, dir_fd=folders[item.area], follow_symlinks=False).st_mode
    if stat.S_ISREG(mode):
        return f"it cannot be read: {error.strerror}"
    return "it is not a regular file"


class _Users:
    """Who names what, over all records and documents that can be read."""

    def __init__(self, folders: Folders) -> None:
        self._named_by: dict[str, set[str]] = {}
        for name, load in all_records(folders):
            with contextlib.suppress(FileNotFoundError, StoreError, ValueError):
                document = load()
                content = document.get("record", document.get("value"))
                self._note(name, records.digests_in(content))
        for area in AREAS:
            for entry in files.list_folder(folders[area]):
                with contextlib.suppress(OSError):
                    self._note(_said(entry), _names(folders, area, entry))

    def _note(self, user: str, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self._named_by.setdefault(str(digest), set()).add(user)

    def of(self, name: str) -> tuple[str, ...]:
        """The refs and actions that lead to ``name``; else the objects that do."""
        seen: set[str] = set()
        todo = [name]
        while todo:
            for user in self._named_by.get(todo.pop(), ()):
                if user not in seen:
                    seen.add(user)
                    todo.append(user)
        seen.discard(name)
        tops = {user for user in seen if not user.startswith("sha256:")}
        return tuple(sorted(tops or seen)[:_MOST_USERS])


def _names(folders: Folders, area: str, entry: str) -> set[Digest]:
    fd, status = files.open_regular(entry, folders[area])
    try:
        head = os.pread(fd, documents.HEAD, 0)
        if not documents.is_document(head) or status.st_size > records.LONGEST:
            return set()
        return documents.digests(os.pread(fd, status.st_size, 0))
    finally:
        os.close(fd)


def _repair(folders: Folders, bad: BadObject) -> None:
    """Take one bad thing out of the way, if it is still bad."""
    kind, _, name = bad.digest.partition(":")
    if kind == "sha256" or bad.area in AREAS:
        entry = name if kind == "sha256" else bad.digest
        if there(folders, bad.area, entry) and _check(folders, _Item(bad.area, entry)).problem:
            set_aside(folders, bad.area, entry, f"{bad.area}-{entry[:100]}")
        if kind == "sha256":
            quarantine.lift(folders, bad.area, entry)
            _forget_actions(folders, Digest(bad.digest))
    elif bad.digest == INDEX_FILE:
        with contextlib.suppress(RecordCorrupt):
            index.rewrite(folders, RefReader(folders))
    elif kind == "action" or kind == "ref":
        set_aside_record(folders, bad.area, name)


def _forget_actions(folders: Folders, digest: Digest) -> None:
    """Remove the actions that need an object which is gone: it has to be made again."""
    if any(there(folders, area, digest.hex) for area in AREAS):
        return
    actions = Actions(folders, lambda digest: True)
    for file_name in actions.file_names():
        with contextlib.suppress(FileNotFoundError, RecordCorrupt):
            if digest in records.needs_of(actions.load(file_name)):
                os.unlink(file_name, dir_fd=folders["actions"])


def _said(entry: str) -> str:
    """``sha256:<hex>`` for an entry that is a digest's, the entry itself otherwise."""
    good = len(entry) == 64 and set("0123456789abcdef").issuperset(entry)
    return f"sha256:{entry}" if good else entry
