"""A tar archive as a build context: unpacked into memory's index, never onto the disk.

An archive of a stranger is judged before anything is kept: its compression is bounded by
size and ratio, its names stay inside, nothing lies below a link, no member is there twice,
and only files, folders and links are in it. Owners, times and special bits are dropped.
"""

from __future__ import annotations

import bz2
import lzma
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from envgraph.errors import IntegrityError
from envgraph.lock.sources import Headers
from envgraph.spec.listing import check_path
from envgraph.spec.tree import MAX_ENTRIES, TreeEntry

if TYPE_CHECKING:
    import tarfile

LARGEST: Final = 32 << 30
"""Bytes of an archive, and of what comes out of it."""

_RATIO: Final = 300
_FREE: Final = 64 << 20
"""Bytes that may come out of it whatever went in: a small file of text shrinks well."""

_PIECE: Final = 1 << 20
_WINDOW: Final = 1 << 27
_SMALL: Final = 1 << 10
_BLOCK: Final = 512
_DRIVE: Final = re.compile(r"[A-Za-z]:")


def plain_tar(packed: Path, plain: Path, title: str) -> Path:
    """The archive decompressed to ``plain``; itself where it is not compressed.

    IntegrityError for what is no tar, was cut off, or grows beyond all measure.
    """
    with packed.open("rb") as source:
        head = source.read(512)
        source.seek(0)
        unpack = _decompressor(head)
        if unpack is None:
            if head[257:262] != b"ustar" and not _is_old_tar(head):
                raise _wrong(title, "it is no tar archive (plain, gz, xz, bz2 or zst)")
            return packed
        with plain.open("wb") as target:
            _copy(source, target, unpack, title)
    return plain


def _copy(source: IO[bytes], target: IO[bytes], unpack: Any, title: str) -> None:
    taken = given = 0
    try:
        while True:
            data = source.read(_PIECE // 4)
            taken += len(data)
            for piece in unpack(data):
                given += len(piece)
                if given > LARGEST or given > _FREE + taken * _RATIO:
                    raise _wrong(title, f"more than {given >> 20} MiB come out of it: a bomb")
                target.write(piece)
            if not data:
                return
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        raise _wrong(title, f"it cannot be decompressed ({str(error)[:200]})") from None
    except MemoryError:
        raise _wrong(title, "it wants more memory than it may have") from None


def _decompressor(head: bytes) -> Any:
    """A function from packed pieces (the last one is empty) to plain ones."""
    if head.startswith(b"\x1f\x8b"):
        return _Stream(lambda: zlib.decompressobj(31))
    if head.startswith(b"BZh"):
        return _Stream(bz2.BZ2Decompressor)
    if head.startswith(b"\xfd7zXZ\x00"):
        return _Stream(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_WINDOW))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _Zstd()
    return None


class _Stream:
    """gzip, bzip2 and xz, several streams behind each other too."""

    def __init__(self, make: Any) -> None:
        self._make, self._now, self._begun = make, make(), False

    def __call__(self, data: bytes) -> Iterator[bytes]:
        gzip = hasattr(self._now, "unconsumed_tail")
        if not data and self._begun and not self._now.eof:
            if gzip:
                yield self._now.flush()
            if not self._now.eof:
                raise EOFError("it was cut off")
        while data:
            if self._now.eof:
                self._now = self._make()
            self._begun = True
            yield self._now.decompress(data, _PIECE)
            data = self._now.unconsumed_tail if gzip else b""
            while not gzip and not self._now.eof and not self._now.needs_input:
                yield self._now.decompress(b"", _PIECE)
            if self._now.eof:
                data = self._now.unused_data
                if not data.strip(b"\0"):  # padding
                    return


class _Zstd:
    def __init__(self) -> None:
        self._left: Any = None
        self._done = True

    def __call__(self, data: bytes) -> Iterator[bytes]:
        import zstandard

        if not data:
            if not self._done:
                raise EOFError("it was cut off")
            return
        try:
            while data:
                if self._left is None:
                    # a window is bounded, and so is what one small piece may become
                    unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
                    self._left = unpacker.decompressobj(write_size=_PIECE)
                self._done = False
                for start in range(0, len(data), _SMALL):
                    yield self._left.decompress(data[start : start + _SMALL])
                    if self._left.eof:
                        data = self._left.unused_data + data[start + _SMALL :]
                        self._left, self._done = None, True
                        break
                else:
                    return
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None


def _is_old_tar(head: bytes) -> bool:
    """A header without magic whose sum fits."""
    if len(head) < 512:
        return False
    try:
        said = int(head[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return said == sum(head[:148]) + 8 * 32 + sum(head[156:512])


@dataclass(slots=True)
class ArchiveTree:
    """What a plain tar holds, by path; files are read in place."""

    title: str
    path: Path
    entries: dict[str, TreeEntry] = field(default_factory=dict)
    _places: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, title: str) -> ArchiveTree:
        """List the members; IntegrityError or InputError for one that may not be there."""
        import tarfile

        tree = cls(title, path)
        try:
            with path.open("rb") as raw:
                total, end = os.fstat(raw.fileno()).st_size, 0
                with tarfile.open(
                    fileobj=Headers(raw), mode="r:", encoding="utf-8", errors="surrogateescape"
                ) as archive:
                    for count, member in enumerate(archive):
                        if count >= MAX_ENTRIES:
                            raise _wrong(title, f"it holds more than {MAX_ENTRIES} entries")
                        tree._add(member, total)
                        end = member.offset_data
                        if member.isreg():
                            end += -(-member.size // _BLOCK) * _BLOCK
                _check_end(raw, end, title)
        except (tarfile.TarError, ValueError, EOFError, OSError, RecursionError) as error:
            raise _wrong(title, f"it is no whole tar archive ({str(error)[:200]})") from None
        return tree

    def read(self, path: str) -> Iterator[bytes]:
        """The bytes of a file, piece by piece."""
        start, left = self._places[path]
        with self.path.open("rb") as raw:
            raw.seek(start)
            while left and (piece := raw.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece

    def _add(self, member: tarfile.TarInfo, total: int) -> None:
        if member.isdir() and member.name.strip("./") == "":
            return
        if "\\" in member.name or _DRIVE.match(member.name):
            raise _wrong(self.title, f"the name {member.name[:100]!a} is none of Linux")
        path = check_path(member.name, self.title)
        before = self.entries.get(path)
        if before is not None and not (member.isdir() and before.kind == "folder"):
            raise _wrong(self.title, f"{path[:100]!a} is there twice")
        if member.isdir():
            self.entries[path] = TreeEntry("folder", path)
        elif member.issym():
            self.entries[path] = TreeEntry("link", path, target=member.linkname)
        elif member.islnk():
            target = check_path(member.linkname, self.title)
            if target not in self._places:
                raise _wrong(self.title, f"{path[:100]!a} is a hard link to no file before it")
            self._places[path] = self._places[target]
            old = self.entries[target]
            self.entries[path] = TreeEntry("file", path, old.executable, size=old.size)
        elif member.isreg() and member.sparse is None:
            if member.size < 0 or member.offset_data + member.size > total:
                raise _wrong(self.title, f"{path[:100]!a} reaches beyond its end: it was cut off")
            self._places[path] = (member.offset_data, member.size)
            executable = bool(member.mode & 0o100)
            self.entries[path] = TreeEntry("file", path, executable, size=member.size)
        else:
            raise _wrong(self.title, f"{path[:100]!a} is neither a file nor a folder nor a link")


def _check_end(raw: IO[bytes], end: int, title: str) -> None:
    """After the last member come blocks of zeros, and nothing else."""
    raw.seek(end)
    count = 0
    while piece := raw.read(_PIECE):
        count += len(piece)
        if piece.strip(b"\0"):
            raise _wrong(title, "something lies behind its end")
    if count < _BLOCK:
        raise _wrong(title, "it has no end: it was cut off")


def _wrong(title: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{title} cannot be a build context: {why}",
        code="context-archive",
        hint="for a git repository write git+https://HOST/PATH#REF:FOLDER",
    )
