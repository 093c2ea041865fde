"""An image's files as a folder: its layers unpacked in order, whiteouts applied.

For running a command in the image without a container engine. Every name is resolved
inside the folder, as if it were the root (symbolic links included), so no entry of a
hostile layer is written, linked or removed outside of it (CVE-2021-29136, CVE-2025-4330).
Owner, setuid bits, devices and times are not kept: one ordinary user runs the files.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast

from envgraph.errors import IntegrityError
from envgraph.image.compress import Decompressed, open_gzip, open_zstd
from envgraph.model.oci import Manifest
from envgraph_store.digest import Digest

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
MOUNT_POINTS: Final = ("proc", "dev", "sys", "tmp", "run", "workspace")
"""Folders that a runtime mounts something on; made where the image has none."""

MAX_LINKS: Final = 40
MAX_ENTRIES: Final = 2_000_000
MAX_BYTES: Final = 1 << 40

_BROKEN: Final = (
    tarfile.TarError, ValueError, RecursionError, EOFError,
    FileExistsError, FileNotFoundError, NotADirectoryError, IsADirectoryError,
)  # fmt: skip


def unpack(manifest: Manifest, open_blob: Callable[[Digest], BinaryIO], target: Path) -> None:
    """Unpack every layer of ``manifest`` into the empty folder ``target``.

    ``open_blob`` gives verified bytes. IntegrityError for a layer that is no archive or
    that tries to leave the folder.
    """
    root = target.resolve()
    for descriptor in manifest.layers:
        with open_blob(descriptor.digest) as blob:
            try:
                _Layer(root).unpack(_plain_tar(blob, descriptor.media_type))
            except _BROKEN as error:
                raise IntegrityError(
                    f"layer {descriptor.digest} cannot be unpacked: {str(error)[:200]}",
                    code="bad-layer",
                ) from error
    for name in MOUNT_POINTS:
        path = _inside(root, [name])
        if not path.is_dir():
            path.mkdir(0o755)


class _Stream(io.RawIOBase):
    """A decompressor as a file, for tarfile."""

    def __init__(self, source: Decompressed) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        return self._source.readinto(buffer)


def _plain_tar(blob: BinaryIO, media_type: str) -> BinaryIO:
    if media_type.endswith("gzip"):
        return cast(BinaryIO, io.BufferedReader(_Stream(open_gzip(blob)), 1 << 20))
    if media_type.endswith("zstd"):
        return cast(BinaryIO, io.BufferedReader(_Stream(open_zstd(blob)), 1 << 20))
    return blob


class _Layer:
    """One layer on its way into ``root``. Remembers what it wrote: whiteouts spare that."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: set[Path] = set()

    def unpack(self, stream: BinaryIO) -> None:
        entries = size = 0
        with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
            while (member := archive.next()) is not None:
                entries += 1
                size += member.size
                if entries > MAX_ENTRIES or size > MAX_BYTES:
                    raise ValueError("it is larger than any image should be")
                self._place(archive, member)
                archive.members = []  # type: ignore[attr-defined]  # it would remember them all

    def _place(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            return
        folder, name = _inside(self._root, parts[:-1]), parts[-1]
        if name == OPAQUE:
            self._clear(folder)
            return
        if name.startswith(WHITEOUT):
            hidden = name.removeprefix(WHITEOUT)
            if hidden in ("", ".", "..") or hidden.startswith(WHITEOUT):
                raise ValueError(f"the whiteout {name[:100]!r} names nothing")
            _remove(folder / hidden)
            return
        folder.mkdir(0o755, parents=True, exist_ok=True)
        path = folder / name
        self._remember(path)
        if member.isdir():
            if path.is_symlink() or not path.is_dir():
                _remove(path)
                path.mkdir()
            path.chmod(_mode(member.mode) | stat.S_IXUSR)
            return
        _remove(path)
        if member.isreg():
            content = archive.extractfile(member)
            assert content is not None
            with path.open("xb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
            path.chmod(_mode(member.mode))
        elif member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            target = _parts(member.linkname)
            source = _inside(self._root, target[:-1]).joinpath(*target[-1:])
            os.link(source, path, follow_symlinks=False)

    def _remember(self, path: Path) -> None:
        while path != self._root and path not in self._written:
            self._written.add(path)
            path = path.parent

    def _clear(self, folder: Path) -> None:
        """Remove what lower layers put into ``folder``, at every depth."""
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if path not in self._written:
                _remove(path)
            elif path.is_dir() and not path.is_symlink():
                self._clear(path)


def _parts(name: str) -> list[str]:
    """A name's parts below the root; ValueError for one that climbs."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "//")]
    if ".." in parts or "\0" in name:
        raise ValueError(f"the entry {name[:100]!r} climbs")
    return parts


def _inside(root: Path, parts: Sequence[str]) -> Path:
    """The real path of ``parts`` with ``root`` as the root of every link on the way."""
    todo, done, links = list(reversed(parts)), root, 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            done = done if done == root else done.parent
            continue
        try:
            target = str((done / part).readlink())
        except OSError:
            done = done / part
            continue
        links += 1
        if links > MAX_LINKS:
            raise ValueError("a path has too many symbolic links")
        if target.startswith("/"):
            done = root
        todo.extend(reversed(target.split("/")))
    return done


def _mode(mode: int) -> int:
    """Read and execute as written; nobody but the owner writes, no setuid, no sticky bit."""
    return (mode & 0o755) | stat.S_IRUSR | stat.S_IWUSR


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
