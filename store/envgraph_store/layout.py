"""Where everything lies: an OCI image layout with the store's folders beside it.

The picture, and what each folder promises, is in ``store/README.md``. This
module creates the folders, checks that they are ours, and holds one descriptor
for each, so that an operation ends in the store it began in even if somebody
renames the folder meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Final, Literal

from envgraph_store import files
from envgraph_store.errors import (
    StoreFormatError,
    StoreMissing,
    StoreUnsafe,
    io_error,
)

FORMAT: Final = 1
"""Version of the on-disk format. 1: the first."""

FORMAT_FILE: Final = "envgraph-store.json"
OCI_LAYOUT_FILE: Final = "oci-layout"
OCI_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE: Final = "index.json"
GENERATION_FILE: Final = "generation"

MEDIA_TYPE_INDEX: Final = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
REF_NAME: Final = "org.opencontainers.image.ref.name"

FOLDERS: Final = {
    "blobs": "blobs/sha256",
    "packages": "packages",
    "actions": "actions",
    "refs": "refs",
    "locks": "locks",
    "stage": "stage",
    "quarantine": "quarantine",
}
AreaName = Literal["blobs", "packages"]
AREAS: Final[tuple[AreaName, ...]] = ("blobs", "packages")
EMPTY_INDEX: Final = (
    b'{"manifests":[],"mediaType":"' + MEDIA_TYPE_INDEX.encode() + b'","schemaVersion":2}'
)

_KNOWN: Final = {
    "blobs", "packages", "actions", "refs", "locks", "stage", "quarantine", "memo",
    FORMAT_FILE, OCI_LAYOUT_FILE, INDEX_FILE, GENERATION_FILE,
}  # fmt: skip


class Folders:
    """The store's folders, open; ``path`` is the root, ``disk`` makes bytes durable.

    ``restored`` names those that were missing and had to be made again.
    """

    def __init__(self, path: Path, disk: files.Disk) -> None:
        self.path = path
        self.disk = disk
        self.restored: set[str] = set()
        self._open: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        """The descriptor of a folder: ``root`` or a key of :data:`FOLDERS`."""
        try:
            return self._open[name]
        except KeyError:
            raise ValueError("the store is closed") from None

    def shown(self, name: str) -> Path:
        """The path of a folder, for messages and for other programs."""
        return self.path / FOLDERS[name]

    def close(self) -> None:
        """Close every descriptor; using the store afterwards raises ValueError."""
        opened, self._open = self._open, {}
        for fd in opened.values():
            os.close(fd)

    def _adopt(self) -> None:
        root = files.open_folder(str(self.path))
        self._open["root"] = root
        _check_owner(root, self.path)
        for name, place in FOLDERS.items():
            try:
                self._open[name] = files.open_folder(place, root)
            except FileNotFoundError:
                self._restore(root, name, place)
            _check_owner(self._open[name], self.path / place)

    def _restore(self, root: int, name: str, place: str) -> None:
        """Make a folder again, durably: copying tools drop empty ones."""
        outer = place.rpartition("/")[0]
        if outer:
            files.make_folder(outer, root)
        files.make_folder(place, root)
        self._open[name] = files.open_folder(place, root)
        self.restored.add(name)
        if outer:
            parent = files.open_folder(outer, root)
            try:
                self.disk.sync_folder(parent)
            finally:
                os.close(parent)
        self.disk.sync_folder(root)


def open_folders(path: Path, *, create: bool, disk: files.Disk) -> Folders:
    """Open the store at ``path``, creating it if it is not there and ``create`` says so.

    Raise :class:`StoreMissing`, :class:`StoreFormatError` (a newer format, or a
    folder with something else in it), :class:`StoreUnsafe` (another owner, or
    writable by group or world) or :class:`StoreIOError`.
    """
    path = Path(os.path.realpath(path))
    try:
        present = _read_format(path)
        if not present:
            if not create:
                raise StoreMissing(
                    f"there is no store at {path}", hint="'envgraph apply' creates one"
                )
            _create(path, disk)
            _read_format(path)
        folders = Folders(path, disk)
        try:
            folders._adopt()
        except BaseException:
            folders.close()
            raise
    except OSError as error:
        raise io_error(error, "open the store at", path) from error
    return folders


def _check_owner(fd: int, path: Path) -> None:
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        raise StoreUnsafe(
            f"{path} belongs to user {status.st_uid}, not to you (user {os.geteuid()})",
            hint="use a store of your own (--store, ENVGRAPH_STORE); share through a registry",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreUnsafe(
            f"{path} may be written by others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"run 'chmod go-w {path}', then 'envgraph store verify'",
        )


def _read_format(path: Path) -> bool:
    """Whether a store that we can use is there."""
    try:
        fd, _ = files.open_regular(str(path / FORMAT_FILE))
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    try:
        document = json.loads(text)
        version = document["format"]
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise ValueError(version)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StoreFormatError(
            f"{path / FORMAT_FILE} does not say which format the store has",
            hint=f'if this is a store of yours, write {{"format": {FORMAT}}} into it',
        ) from None
    if version > FORMAT:
        raise StoreFormatError(
            f"the store at {path} has format {version}; this envgraph knows up to {FORMAT}",
            hint="use a newer envgraph, or another store (--store)",
        )
    return True


def _create(path: Path, disk: files.Disk) -> None:
    """Create the store; a half-made one of an earlier, killed attempt is completed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = files.make_folder(str(path))
    root = files.open_folder(str(path))
    try:
        if not made:
            _check_owner(root, path)
            foreign = sorted(set(files.list_folder(root)) - _KNOWN)
            foreign = [name for name in foreign if not name.startswith(".new-")]
            if foreign:
                raise StoreFormatError(
                    f"{path} is not a store, and not empty (it holds {foreign[0]!r})",
                    hint="give the store a folder of its own",
                )
        for place in FOLDERS.values():
            parent = ""
            for part in place.split("/"):
                parent = f"{parent}/{part}" if parent else part
                files.make_folder(parent, root)
        blobs = files.open_folder("blobs", root)
        try:
            disk.sync_folder(blobs)
        finally:
            os.close(blobs)
        _write_once(root, OCI_LAYOUT_FILE, OCI_LAYOUT, disk)
        _write_once(root, INDEX_FILE, EMPTY_INDEX, disk)
        word = os.urandom(16).hex().encode() + b"\n"
        replace_file(root, GENERATION_FILE, word, disk, keep=True, mode=0o644)
        _write_once(root, FORMAT_FILE, json.dumps({"format": FORMAT}).encode() + b"\n", disk)
    finally:
        os.close(root)
    parent_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.sync_folder(parent_fd)
    finally:
        os.close(parent_fd)


def _write_once(root: int, name: str, data: bytes, disk: files.Disk) -> None:
    """Put a durable file where none is; the first of several writers wins."""
    replace_file(root, name, data, disk, keep=True)


def replace_file(
    root: int,
    name: str,
    data: bytes,
    disk: files.Disk,
    *,
    keep: bool = False,
    mode: int = files.FILE_MODE,
) -> None:
    """Write a file of the root durably and whole; ``keep`` leaves one that is there.

    A folder in its place is moved to the quarantine.
    """
    temporary = f".new-{name}-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        fd = files.create_file(temporary, root, mode)
        try:
            files.write_all(fd, data)
            disk.sync_file(fd)
        finally:
            os.close(fd)
        if keep:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, name, src_dir_fd=root, dst_dir_fd=root)
        else:
            try:
                os.rename(temporary, name, src_dir_fd=root, dst_dir_fd=root)
            except IsADirectoryError:
                aside = f"{FOLDERS['quarantine']}/root-{name}-{os.urandom(4).hex()}"
                os.rename(name, aside, src_dir_fd=root, dst_dir_fd=root)
                os.rename(temporary, name, src_dir_fd=root, dst_dir_fd=root)
        disk.sync_folder(root)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=root)
