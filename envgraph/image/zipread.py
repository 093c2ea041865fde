"""A strict view of a zip file that somebody else made.

Readers of one zip file can disagree about what is in it (CVE-2025-54368,
CVE-2026-3219): two directories, local headers that differ from the central ones,
data before, between or after members, members that overlap. All of that is
refused here, before any byte is taken out.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from envgraph.image.archive_errors import ArchiveError, Reason

MAX_MEMBERS: Final = 500_000
_MAX_DIRECTORY: Final = 256 << 20
_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_UTF8: Final = 0x800
_DESCRIPTOR: Final = 0x8
_ALLOWED_FLAGS: Final = _UTF8 | _DESCRIPTOR | 0x6
_FULL: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One member: where its stored bytes lie, and what they become."""

    name: bytes
    method: int
    crc: int
    stored: int
    size: int
    mode: int
    """Unix mode bits; 0 where the maker wrote none."""

    offset: int
    """Of its bytes, behind the local header."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the central directory."""

    name: bytes
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    mode: int
    header: int
    """Where the local header lies."""


def read_zip(file: BinaryIO) -> list[ZipMember]:
    """The members in the order of their bytes; refuse a file with two readings."""
    length = file.seek(0, io.SEEK_END)
    count, start, size = _end(file, length)
    if count > MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise ArchiveError(Reason.LIMIT, f"the zip file has more than {MAX_MEMBERS} members")
    file.seek(start)
    directory = _read(file, size)
    found = _central(directory, count)
    found.sort(key=lambda entry: entry.header)
    members: list[ZipMember] = []
    names: set[bytes] = set()
    position = 0
    for entry in found:
        if entry.name in names:
            raise ArchiveError(Reason.DUPLICATE, "is there twice", entry=entry.name)
        names.add(entry.name)
        if entry.header != position:
            raise ArchiveError(
                Reason.MALFORMED, "overlaps, or hidden data lies before it", entry=entry.name
            )
        member, position = _local(file, entry)
        members.append(member)
    if position != start:
        raise ArchiveError(Reason.MALFORMED, "hidden data lies between members and directory")
    return members


def _end(file: BinaryIO, length: int) -> tuple[int, int, int]:
    """Number of members, start and size of the central directory, which ends the file."""
    if length < _END.size:
        raise ArchiveError(Reason.TRUNCATED, "is too short for a zip file")
    tail_at = max(0, length - _END.size - 65_536)
    file.seek(tail_at)
    tail = _read(file, length - tail_at)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveError(Reason.TRUNCATED, "is not a whole zip file: its directory is missing")
    _, disk, first, here, count, size, start, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise ArchiveError(Reason.TRAILING, "data follows the end of the zip file")
    end = tail_at + at
    if disk or first or here != count:
        raise ArchiveError(Reason.UNSUPPORTED, "a zip file in several parts")
    if count == 0xFFFF or size == _FULL or start == _FULL or _is_zip64(file, end):
        file.seek(max(0, end - _LOCATOR.size))
        locator = _read(file, _LOCATOR.size)
        if len(locator) < _LOCATOR.size or locator[:4] != b"PK\x06\x07":
            raise ArchiveError(Reason.MALFORMED, "the zip64 directory is missing")
        at64 = _LOCATOR.unpack(locator)[2]
        _seek(file, at64)
        record = _read(file, _END64.size)
        if len(record) < _END64.size or record[:4] != b"PK\x06\x06":
            raise ArchiveError(Reason.MALFORMED, "the zip64 directory is garbage")
        _, rest, _, _, disk, first, here, count, size, start = _END64.unpack(record)
        if disk or first or here != count or at64 + 12 + rest != end - _LOCATOR.size:
            raise ArchiveError(Reason.MALFORMED, "the zip64 directory is garbage")
        end = at64
    if start + size != end:
        raise ArchiveError(Reason.MALFORMED, "data lies before, between or behind the directories")
    return count, start, size


def _is_zip64(file: BinaryIO, end: int) -> bool:
    if end < _LOCATOR.size:
        return False
    file.seek(end - _LOCATOR.size)
    return _read(file, 4) == b"PK\x06\x07"


def _central(directory: bytes, count: int) -> list[_Entry]:
    found: list[_Entry] = []
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > len(directory):
            raise ArchiveError(Reason.TRUNCATED, "the zip directory ends early")
        (magic, made, _, flags, method, _, _, crc, stored, size, name_len, extra_len, note_len) = (
            _CENTRAL.unpack_from(directory, position)[:13]
        )
        disk, _, attributes, offset = _CENTRAL.unpack_from(directory, position)[13:]
        if magic != b"PK\x01\x02" or disk:
            raise ArchiveError(Reason.MALFORMED, "the zip directory is garbage")
        position += _CENTRAL.size
        name = directory[position : position + name_len]
        extra = directory[position + name_len : position + name_len + extra_len]
        position += name_len + extra_len + note_len
        if flags & ~_ALLOWED_FLAGS:
            raise ArchiveError(Reason.UNSUPPORTED, "is encrypted or patched", entry=name)
        size, stored, offset = _wide(extra, (size, stored, offset), name)
        mode = attributes >> 16 if made >> 8 == 3 else 0
        found.append(_Entry(name, flags, method, crc, stored, size, mode, offset))
    if position != len(directory):
        raise ArchiveError(Reason.MALFORMED, "the zip directory is longer than its members")
    return found


def _wide(extra: bytes, values: tuple[int, int, int], name: bytes) -> tuple[int, int, int]:
    """Sizes and offset with zip64's extra field applied."""
    position = 0
    wide: bytes | None = None
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, position)
        if tag == 1:
            if wide is not None:
                raise ArchiveError(Reason.MALFORMED, "has two zip64 fields", entry=name)
            wide = extra[position + 4 : position + 4 + length]
        position += 4 + length
    result = []
    at = 0
    for value in values:
        if value == _FULL:
            if wide is None or at + 8 > len(wide):
                raise ArchiveError(Reason.MALFORMED, "lacks its zip64 field", entry=name)
            value = int.from_bytes(wide[at : at + 8], "little")
            at += 8
        result.append(value)
    return result[0], result[1], result[2]


def _local(file: BinaryIO, entry: _Entry) -> tuple[ZipMember, int]:
    """The member, if its local header agrees, and the end of all that belongs to it."""
    _seek(file, entry.header)
    fixed = _read(file, _LOCAL.size)
    if len(fixed) < _LOCAL.size or fixed[:4] != b"PK\x03\x04":
        raise ArchiveError(Reason.MALFORMED, "has no local header", entry=entry.name)
    _, _, flags, method, _, _, crc, stored, size, name_len, extra_len = _LOCAL.unpack(fixed)
    name = _read(file, name_len)
    extra = _read(file, extra_len)
    known = (entry.crc, entry.stored, entry.size)
    if flags & _DESCRIPTOR and (crc, stored, size) in ((0, 0, 0), (0, _FULL, _FULL)):
        local = known
    else:
        size, stored, _ = _wide(extra, (size, stored, 0), entry.name)
        local = (crc, stored, size)
    same = name == entry.name and method == entry.method and flags == entry.flags
    if not same or local != known:
        raise ArchiveError(
            Reason.MALFORMED, "local header and central directory differ", entry=entry.name
        )
    start = entry.header + _LOCAL.size + name_len + extra_len
    end = start + entry.stored
    if flags & _DESCRIPTOR:
        end += _descriptor(file, end, entry)
    return ZipMember(name, method, entry.crc, entry.stored, entry.size, entry.mode, start), end


def _descriptor(file: BinaryIO, at: int, entry: _Entry) -> int:
    """Length of the data descriptor behind a member that was written as a stream."""
    _seek(file, at)
    data = _read(file, 24)
    for layout in ("<4sLLL", "<4sLQQ", "<LLL", "<LQQ"):
        length = struct.calcsize(layout)
        if len(data) < length:
            continue
        values = struct.unpack_from(layout, data)
        if layout.startswith("<4s"):
            if values[0] != b"PK\x07\x08":
                continue
            values = values[1:]
        if values == (entry.crc, entry.stored, entry.size):
            return length
    raise ArchiveError(Reason.MALFORMED, "its data descriptor is wrong", entry=entry.name)


def _seek(file: BinaryIO, place: int) -> None:
    """Go where the archive says; it may say any 64 bits, which no file holds."""
    if place >> 62:
        raise ArchiveError(Reason.MALFORMED, "it points behind the end of every file")
    file.seek(place)


def _read(file: BinaryIO, count: int) -> bytes:
    """``count`` bytes, fewer only at the end of the file."""
    data = file.read(count)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


class Slice(io.RawIOBase):
    """A window of ``file``: ``length`` bytes from ``offset``, read in order."""

    def __init__(self, file: BinaryIO, offset: int, length: int) -> None:
        """The window; it seeks before every read, so windows may take turns."""
        self._file = file
        self._at = offset
        self._end = offset + length

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes."""
        left = self._end - self._at
        count = left if size is None or size < 0 else min(size, left)
        if count <= 0:
            return b""
        self._file.seek(self._at)
        data = self._file.read(count)
        self._at += len(data)
        return data

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer``."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)
