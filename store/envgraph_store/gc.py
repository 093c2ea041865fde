"""Garbage collection: mark what is named from the refs, sweep the rest when it is old.

Marking is generic. A ref's newest value is a root. What a live ref, action or
document names as ``sha256:<hex>`` lives, and so does an action whose key (of the
form ``word:<64 hex>``) is named. An action that nobody names lives while it is
younger than the grace period, or as long as everything that it needs lives
anyway. Objects that are not reached are removed once they are older than the
grace period.

Whoever is about to name something that is here already holds a lease: garbage
collection waits for leases and transactions. So the clock is never what keeps a
reachable object, and a clock that jumps can at most take unreachable ones early.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from envgraph_store import documents, files, generation, locks, quarantine, records
from envgraph_store.actions import Actions
from envgraph_store.digest import Digest
from envgraph_store.errors import (
    ObjectCorrupt,
    RecordCorrupt,
    StoreError,
    StoreIOError,
    io_error,
)
from envgraph_store.layout import AREAS, Folders
from envgraph_store.naming import escape
from envgraph_store.refs import RefReader
from envgraph_store.stage import GC_LOCK

GRACE_SECONDS: Final = 14 * 24 * 3600.0
"""How old an unreachable object or action is before it goes, if not told otherwise."""

_TOKEN: Final = re.compile(rb"([A-Za-z0-9_.+-]{1,64}):([0-9a-f]{64})(?![0-9a-f])")
_OVERLAP: Final = 160
_KEPT_GENERATIONS: Final = 2


@dataclass(frozen=True, slots=True)
class Removed:
    """One thing that was, or in a dry run would be, removed; ``size`` in bytes."""

    area: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class GcReport:
    """What garbage collection did, or in a dry run would do.

    ``live`` and ``young`` count objects that stay: reachable, or not yet older
    than the grace period. ``missing`` are digests that a record needs and that
    are gone: ``verify`` says who needs them.
    """

    dry_run: bool
    removed: tuple[Removed, ...]
    live: int
    young: int
    leftovers: int
    missing: tuple[str, ...] = ()

    @property
    def bytes_freed(self) -> int:
        """The size of everything removed, in bytes."""
        return sum(item.size for item in self.removed)


def collect(
    folders: Folders,
    *,
    dry_run: bool = False,
    grace_seconds: float = GRACE_SECONDS,
    now: float | None = None,
    timeout: float = 60.0,
) -> GcReport:
    """Remove what is unreachable and older than ``grace_seconds`` at ``now`` (Unix time).

    Raise :class:`~envgraph_store.errors.StoreLocked` if something is being
    written for longer than ``timeout``, and refuse if a live document is
    damaged, since what it names is then unknown. A dry run waits for nobody and
    changes nothing.
    """
    held = locks.acquire(
        folders["locks"],
        GC_LOCK,
        where=folders.shown("locks") / GC_LOCK,
        what="the store",
        purpose="garbage collection",
        shared=dry_run,
        timeout=timeout,
    )
    try:
        moment = time.time() if now is None else now
        return _Collection(folders, dry_run, grace_seconds, moment).run()
    except OSError as error:
        raise io_error(error, "collect garbage in", folders.path) from error
    finally:
        held.release()


@dataclass(slots=True)
class _Collection:
    """One run. The lock is held by the caller."""

    folders: Folders
    dry_run: bool
    grace: float
    now: float
    live: set[Digest] = field(default_factory=set)
    named_keys: set[str] = field(default_factory=set)
    dead_actions: set[str] = field(default_factory=set)
    missing: set[Digest] = field(default_factory=set)

    def run(self) -> GcReport:
        self._mark_refs()
        self._mark_actions()
        self.folders.disk.point("gc-marked")
        removed, live, young = self._condemn()
        leftovers = 0
        if not self.dry_run:
            if removed or self.missing:
                generation.bump(self.folders)
            self._sweep(removed)
            leftovers = self._tidy()
            if removed:
                generation.bump(self.folders)
        missing = tuple(sorted(map(str, self.missing)))
        return GcReport(self.dry_run, tuple(removed), live, young, leftovers, missing)

    def _mark_refs(self) -> None:
        refs = RefReader(self.folders)
        for folder_name in refs.folder_names():
            _, document = refs.newest(folder_name)
            if document is not None and document["value"] is not None:
                self._need(document)
                self._mark(records.digests_in(document["value"]))
                self._name_keys(records.encode({"": document["value"]}))

    def _mark_actions(self) -> None:
        """Follow named and young actions; what is left lives if all it needs lives."""
        actions = Actions(self.folders, lambda digest: True)
        waiting: dict[str, dict[str, object]] = {}
        for file_name in actions.file_names():
            with contextlib.suppress(FileNotFoundError, RecordCorrupt):
                waiting[file_name] = actions.load(file_name)
        young = {name for name in waiting if self._is_young("actions", name)}
        alive = set(young)
        while True:
            alive |= {escape(key) for key in self.named_keys} & waiting.keys()
            todo = alive & waiting.keys()
            if not todo:
                break
            for file_name in todo:
                document = waiting.pop(file_name)
                self._need(document)
                self._mark(records.digests_in(document["record"]))
                self._name_keys(records.encode({"": document["record"]}))
        for file_name, document in waiting.items():
            if not self.live.issuperset(records.needs_of(document)):
                self.dead_actions.add(file_name)

    def _mark(self, digests: Iterable[Digest]) -> None:
        """Everything that ``digests`` lead to is alive."""
        todo = [digest for digest in digests if digest not in self.live]
        while todo:
            digest = todo.pop()
            if digest in self.live:
                continue
            self.live.add(digest)
            for area in AREAS:
                todo.extend(self._named_by(area, digest) - self.live)

    def _named_by(self, area: str, digest: Digest) -> set[Digest]:
        """What the object names if it is a document; refuse if it is damaged."""
        where = self.folders.shown(area) / digest.hex
        try:
            fd, _ = files.open_regular(digest.hex, self.folders[area])
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _unsafe_to_go_on(f"{where} cannot be read ({error.strerror})") from error
        try:
            if not documents.is_document(os.pread(fd, documents.HEAD, 0)):
                return set()
            hasher, found, tail, offset = files.new_hash(), set(), b"", 0
            while piece := os.pread(fd, files.CHUNK, offset):
                hasher.update(piece)
                offset += len(piece)
                tail += piece
                found |= self._tokens(tail)
                tail = tail[-_OVERLAP:]
        finally:
            os.close(fd)
        if hasher.hexdigest() != digest.hex:
            self._seen_bad(area, digest)
            raise _unsafe_to_go_on(f"{where} is damaged")
        return found

    def _seen_bad(self, area: str, digest: Digest) -> None:
        """Let the object count as absent from now on, if the disk lets us say so."""
        if not self.dry_run:
            with contextlib.suppress(OSError, StoreIOError):
                quarantine.condemn(self.folders, area, digest.hex)
                self.folders.disk.sync_folder(self.folders["quarantine"])
                generation.bump(self.folders)

    def _tokens(self, data: bytes) -> set[Digest]:
        found = set()
        for word, digits in _TOKEN.findall(data):
            if word.endswith(b"sha256"):
                found.add(Digest.from_hex(digits.decode("ascii")))
            else:
                self.named_keys.add((word + b":" + digits).decode("ascii"))
        return found

    def _name_keys(self, data: bytes) -> None:
        self._tokens(data)

    def _need(self, document: dict[str, object]) -> None:
        for digest in records.needs_of(document):
            if not any(_status(self.folders, area, digest.hex) for area in AREAS):
                self.missing.add(digest)

    def _condemn(self) -> tuple[list[Removed], int, int]:
        """What goes; how many objects are alive, and how many only young."""
        removed: list[Removed] = []
        live = young = 0
        for name in sorted(self.dead_actions):
            status = _status(self.folders, "actions", name)
            removed.append(Removed("actions", name, status.st_size if status else 0))
        alive = {digest.hex for digest in self.live}
        for area in AREAS:
            for name in sorted(files.list_folder(self.folders[area])):
                status = _status(self.folders, area, name)
                if status is None:
                    continue
                if name in alive:
                    live += 1
                elif not stat.S_ISREG(status.st_mode) or self._is_young(area, name):
                    young += 1
                else:
                    removed.append(Removed(area, name, status.st_size))
        return removed, live, young

    def _is_young(self, area: str, name: str) -> bool:
        """Whether it is not yet older than the grace period, which may begin now."""
        status = _status(self.folders, area, name)
        if status is None:
            return False
        if status.st_mtime > self.now:
            if not self.dry_run:
                with contextlib.suppress(OSError, OverflowError):
                    os.utime(
                        name,
                        (self.now, self.now),
                        dir_fd=self.folders[area],
                        follow_symlinks=False,
                    )
            return True
        return self.now - status.st_mtime < self.grace

    def _sweep(self, removed: Iterable[Removed]) -> None:
        touched = set()
        for item in removed:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(item.name, dir_fd=self.folders[item.area])
            touched.add(item.area)
            self.folders.disk.point("gc-removed")
        for area in touched:
            self.folders.disk.sync_folder(self.folders[area])

    def _tidy(self) -> int:
        """Remove what killed processes, old values and repairs left; return how much."""
        count = 0
        for name in files.list_folder(self.folders["stage"]):
            files.remove_tree(name, self.folders["stage"])
            count += 1
        for name in files.list_folder(self.folders["quarantine"]):
            status = _status(self.folders, "quarantine", name)
            if mark := quarantine.parse(name):  # it stays as long as what it marks
                if _status(self.folders, *mark) is None:
                    files.remove_tree(name, self.folders["quarantine"])
                    count += 1
            elif status is not None and self.now - status.st_ctime >= self.grace:
                files.remove_tree(name, self.folders["quarantine"])
                count += 1
        for name in files.list_folder(self.folders["root"]):
            if name.startswith(".new-") and not self._is_young("root", name):
                files.remove_tree(name, self.folders["root"])
                count += 1
        return count + self._tidy_refs() + self._tidy_locks()

    def _tidy_refs(self) -> int:
        """Forget values before the last two, and old tombstones."""
        refs = RefReader(self.folders)
        count = 0
        for folder_name in refs.folder_names():
            kept = refs.generations(folder_name)
            for number in kept[:-_KEPT_GENERATIONS]:
                place = f"{folder_name}/{number}"
                try:
                    os.unlink(place, dir_fd=self.folders["refs"])
                except IsADirectoryError:
                    label = f"refs-{folder_name[:100]}"
                    quarantine.set_aside(self.folders, "refs", place, label)
                count += 1
            place = f"{folder_name}/{kept[-1]}" if kept else folder_name
            _, document = refs.newest(folder_name)
            gone = document is None or document["value"] is None
            if gone and not self._is_young("refs", place):
                files.remove_tree(folder_name, self.folders["refs"])
                count += 1
        return count

    def _tidy_locks(self) -> int:
        count = 0
        for name in files.list_folder(self.folders["locks"]):
            if name.startswith("name-") and not self._is_young("locks", name):
                count += locks.remove_if_free(self.folders["locks"], name, lambda: None)
        return count


def _status(folders: Folders, area: str, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folders[area], follow_symlinks=False)
    except FileNotFoundError:
        return None


def _unsafe_to_go_on(fault: str) -> StoreError:
    return ObjectCorrupt(
        f"{fault}: what it names is unknown, so nothing was removed",
        hint="run 'envgraph store verify --repair', apply again, then collect",
    )
