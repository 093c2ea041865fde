"""Names that move, with compare-and-swap that holds on shared file systems.

A ref is a folder; each of its values is a file named by its generation, 1, 2,
3 … A writer makes the next file elsewhere and gives it its name with
``link(2)``, which succeeds for exactly one of several writers. Nothing but
garbage collection, which excludes writers, removes old generations, so the
highest number is the value. A deleted ref is a generation without a value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from envgraph_store import files, records
from envgraph_store.errors import RecordCorrupt, RefConflict, StoreIOError, io_error
from envgraph_store.layout import Folders
from envgraph_store.naming import HASHED, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

_RETRIES: Final = 16


class Ref(NamedTuple):
    """The value of a name, and the generation to expect when replacing it."""

    generation: int
    value: dict[str, Any]


class RefReader:
    """All names of the store, to read. Safe to use from threads."""

    __slots__ = ("_folders",)

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def get(self, name: str) -> Ref | None:
        """The value of ``name``; None if it has none. Raise :class:`RecordCorrupt`."""
        generation, document = self.newest(escape(name))
        return _as_ref(generation, document)

    def list(self, prefix: str = "") -> dict[str, Ref]:
        """Every ref whose name starts with ``prefix``, sorted by name."""
        found: dict[str, Ref] = {}
        beginnings = (escape(prefix), HASHED) if prefix else ("",)
        for folder_name in self.folder_names():
            if not folder_name.startswith(beginnings):
                continue
            generation, document = self.newest(folder_name)
            if document is None:
                continue
            name = str(document["name"])
            ref = _as_ref(generation, document)
            if ref is not None and name.startswith(prefix):
                found[name] = ref
        return dict(sorted(found.items()))

    def folder_names(self) -> Sequence[str]:
        """The names of the refs' folders, for garbage collection and checks."""
        return files.list_folder(self._folders["refs"])

    def generations(self, folder_name: str) -> Sequence[int]:
        """The generations kept of one ref, oldest first; empty if it never was."""
        try:
            names = files.list_named_folder(folder_name, self._folders["refs"])
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise io_error(error, "open", self.where(folder_name, 0).parent) from error
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def load(self, folder_name: str, generation: int) -> dict[str, Any]:
        """The whole document of one generation; raise FileNotFoundError, RecordCorrupt."""
        place = f"{folder_name}/{generation}"
        document = records.load(
            place, self._folders["refs"], lambda: self.where(folder_name, generation)
        )
        good = isinstance(document.get("name"), str) and isinstance(
            document.get("value"), dict | None
        )
        if not good or escape(document["name"]) != folder_name:
            where = self.where(folder_name, generation)
            raise RecordCorrupt(f"the ref {where} is not a ref of that name")
        return document

    def newest(self, folder_name: str) -> tuple[int, dict[str, Any] | None]:
        """The highest generation and its document; (0, None) if there is none."""
        for _ in range(_RETRIES):
            kept = self.generations(folder_name)
            if not kept:
                return 0, None
            try:
                return kept[-1], self.load(folder_name, kept[-1])
            except FileNotFoundError:
                continue  # garbage collection ran between the two looks
        raise StoreIOError(f"cannot read the ref {self.where(folder_name, 0).parent}")

    def where(self, folder_name: str, generation: int) -> Path:
        """The path of one generation's file, for messages."""
        return self._folders.shown("refs").joinpath(folder_name, str(generation))


class RefBatch(Protocol):
    """What moving a name needs of a transaction."""

    generations: dict[str, int]

    def set_ref(self, name: str, value: Mapping[str, object], expected: int | None) -> None:
        """Give a name a value at commit, if it is at ``expected`` then."""
        ...

    def delete_ref(self, name: str, expected: int | None) -> None:
        """Take a name's value away at commit, if it is at ``expected`` then."""
        ...

    def commit(self) -> None:
        """Make it durable and visible."""
        ...


class Refs(RefReader):
    """All names of the store, to read and to move. Safe to use from threads."""

    __slots__ = ("_begin",)

    def __init__(
        self, folders: Folders, begin: Callable[[], AbstractContextManager[RefBatch]]
    ) -> None:
        super().__init__(folders)
        self._begin = begin

    def set(self, name: str, value: Mapping[str, object], expected: int | None) -> Ref:
        """Give ``name`` a value if it is at generation ``expected`` (None: absent)."""
        with self._begin() as transaction:
            transaction.set_ref(name, value, expected)
            transaction.commit()
        return Ref(transaction.generations[name], dict(value))

    def delete(self, name: str, expected: int | None) -> None:
        """Take the value of ``name`` away if it is at generation ``expected``.

        Raise :class:`RefConflict` otherwise; an absent ref is a conflict too.
        """
        with self._begin() as transaction:
            transaction.delete_ref(name, expected)
            transaction.commit()


def make_folders(folders: Folders, names: Iterable[str]) -> None:
    """Make the folders of ``names``; those that hold no value yet are durable on return.

    All of them by one sync. A folder without a value may have been left by a killed
    process that had not come so far, so it is synced too.
    """
    reader = RefReader(folders)
    fresh = False
    for name in names:
        folder_name = escape(name)
        made = files.make_folder(folder_name, folders["refs"])
        fresh = made or fresh or not reader.generations(folder_name)
    if fresh:
        folders.disk.sync_folder(folders["refs"])


def link_generation(
    folders: Folders, name: str, expected: int | None, staged: str, stage: int
) -> int:
    """Make the staged file the next generation of ``name``; return its number.

    :func:`make_folders` came before. The folder of the ref is synced, so the name is
    durable on return. Raise :class:`RefConflict` if the ref is not at ``expected``, or
    if somebody else linked the same generation first.
    """
    folder_name = escape(name)
    number = check_expected(folders, name, expected) + 1  # of what was checked, not of later
    fd = files.open_folder(folder_name, folders["refs"])
    try:
        try:
            os.link(staged, str(number), src_dir_fd=stage, dst_dir_fd=fd)
        except FileExistsError:
            raise conflict(name, expected, number) from None
        folders.disk.sync_folder(fd)
    finally:
        os.close(fd)
    return number


def check_expected(folders: Folders, name: str, expected: int | None) -> int:
    """Raise :class:`RefConflict` if ``name`` is not at generation ``expected``.

    Return the highest generation that was seen, which may be a deletion's; 0 if
    there is none.
    """
    highest, document = RefReader(folders).newest(escape(name))
    ref = _as_ref(highest, document)
    current = None if ref is None else ref.generation
    if current != expected:
        raise conflict(name, expected, current)
    return highest


def conflict(name: str, expected: int | None, current: int | None) -> RefConflict:
    """The error for a name that is not at the generation that was expected."""

    def said(generation: int | None) -> str:
        return "absent" if generation is None else f"at generation {generation}"

    return RefConflict(
        f"the ref {name!r} is {said(current)}, but was expected {said(expected)}", current=current
    )


def _as_ref(generation: int, document: dict[str, Any] | None) -> Ref | None:
    value = None if document is None else document["value"]
    return None if value is None else Ref(generation, value)
