"""Open a conda package: its metadata first, then its payload as one stream.

Both formats of conda are read: ``.conda`` (a zip file with ``info-*.tar.zst`` and
``pkg-*.tar.zst``, stored) and ``.tar.bz2``. Nothing is written anywhere.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from envgraph.image.archive_errors import ArchiveError, Reason
from envgraph.image.compress import Decompressed, open_bz2, open_zstd
from envgraph.image.tarread import TarReader
from envgraph.image.zipread import Slice, ZipMember, read_zip

MAX_RATIO: Final = 200
RATIO_GRACE: Final = 256 << 20
MAX_RAW: Final = 64 << 30
MAX_INFO: Final = 256 << 20
_WANTED: Final = {
    "index.json": 4 << 20,
    "paths.json": 64 << 20,
    "files": 64 << 20,
    "has_prefix": 64 << 20,
    "link.json": 4 << 20,
}
"""The metadata that decides a layer, and how large each may be."""


def raw_limit(stored: int) -> int:
    """How many bytes an archive of ``stored`` bytes may unpack to.

    200 times as many and 256 MiB: ten times what real packages reach, and a bomb
    is stopped before it costs more than a second.
    """
    return min(MAX_RAW, RATIO_GRACE + MAX_RATIO * stored)


@dataclass(frozen=True, slots=True)
class CondaArchive:
    """An opened archive. ``info`` holds the metadata files by name below ``info/``."""

    extension: str
    size: int
    info: dict[str, bytes]
    open_payload: Callable[[], TarReader]
    """The payload; for ``.tar.bz2`` it holds ``info/`` too, which is to be skipped."""

    def document(self, name: str) -> Any:
        """``info/<name>`` as JSON, None when it is not there."""
        data = self.info.get(name)
        if data is None:
            return None
        try:
            return json.loads(data, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise ArchiveError(
                Reason.METADATA, f"is not JSON: {error}", entry=f"info/{name}"
            ) from error


def open_conda_archive(file: BinaryIO) -> CondaArchive:
    """Read the metadata of the package in ``file``, which is seekable."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    magic = Slice(file, 0, 4).read()
    if magic[:3] == b"BZh":
        archive = _open_bz2(file, size)
    elif magic[:2] == b"PK":
        archive = _open_zip(file, size)
    else:
        raise ArchiveError(Reason.MALFORMED, "is neither a .conda nor a .tar.bz2 package")
    if "index.json" not in archive.info:
        raise ArchiveError(Reason.METADATA, "is missing", entry="info/index.json")
    if not archive.info.keys() & {"paths.json", "files"}:
        raise ArchiveError(
            Reason.METADATA, "has neither info/paths.json nor info/files: nothing says its files"
        )
    return archive


def _open_zip(file: BinaryIO, size: int) -> CondaArchive:
    members = read_zip(file)
    parts: dict[str, ZipMember] = {}
    for member in members:
        for kind in ("info", "pkg"):
            if member.name.startswith(kind.encode() + b"-") and member.name.endswith(b".tar.zst"):
                if kind in parts:
                    raise ArchiveError(Reason.DUPLICATE, "is a second part", entry=member.name)
                parts[kind] = member
        if member.method != 0 or member.stored != member.size:
            raise ArchiveError(Reason.UNSUPPORTED, "is not stored plainly", entry=member.name)
    if len(parts) != 2:
        raise ArchiveError(Reason.MALFORMED, "lacks its info or pkg part")

    def part(name: str, limit: int) -> TarReader:
        member = parts[name]
        stream = open_zstd(_buffered(Slice(file, member.offset, member.size)))
        return TarReader(stream, limit=min(limit, raw_limit(member.size)))

    # What info/ says decides the layer, and nothing in it is hashed by anything else;
    # the payload's files are held to info/paths.json.
    _check_crc(file, parts["info"])
    info: dict[str, bytes] = {}
    _collect(part("info", MAX_INFO), info, partial=False)
    return CondaArchive(".conda", size, info, lambda: part("pkg", MAX_RAW))


def _check_crc(file: BinaryIO, member: ZipMember) -> None:
    window, crc = Slice(file, member.offset, member.stored), 0
    while piece := window.read(1 << 20):
        crc = zlib.crc32(piece, crc)
    if crc != member.crc:
        raise ArchiveError(Reason.MALFORMED, "does not have its CRC", entry=member.name)


def _open_bz2(file: BinaryIO, size: int) -> CondaArchive:
    def payload() -> TarReader:
        stream: Decompressed = open_bz2(_buffered(Slice(file, 0, size)))
        return TarReader(stream, limit=raw_limit(size))

    info: dict[str, bytes] = {}
    _collect(payload(), info, partial=True)
    return CondaArchive(".tar.bz2", size, info, payload)


def _buffered(window: Slice) -> BinaryIO:
    return io.BufferedReader(window, 1 << 18)


def _collect(tar: TarReader, info: dict[str, bytes], *, partial: bool) -> None:
    """Keep the wanted files of ``info/``; with ``partial`` stop once all that matter are seen.

    A ``.tar.bz2`` has ``info/`` first (conda-build sorts it so), but old ones do not:
    then the whole archive is read.
    """
    for member in tar:
        if not member.name.startswith("info/"):
            if partial and _complete(info):
                return
            continue
        name = member.name[5:]
        if member.kind != "file" or name not in _WANTED:
            continue
        if name in info:
            raise ArchiveError(Reason.DUPLICATE, "is there twice", entry=member.name)
        if member.size > _WANTED[name]:
            raise ArchiveError(Reason.LIMIT, "is too large", entry=member.name)
        info[name] = tar.content()


def _complete(info: dict[str, bytes]) -> bool:
    """Nothing that follows in the archive could matter."""
    if "index.json" not in info or "paths.json" not in info:
        return False
    if "link.json" in info:
        return True
    try:
        index = json.loads(info["index.json"])
        return isinstance(index, dict) and index.get("noarch") not in ("python", True)
    except (ValueError, RecursionError):
        return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there twice")
    return result
