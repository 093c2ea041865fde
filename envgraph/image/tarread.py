"""A strict, streaming reader of tar archives that somebody else made.

It understands ustar, pax (``path``, ``linkpath``, ``size``) and GNU long names,
checks every header's sum, and validates the *effective* name. What has no place
in a package (devices, sparse files, absolute or climbing names, junk after the
end) is refused with an :class:`ArchiveError` that names the entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from envgraph.image.archive_errors import ArchiveError, Reason
from envgraph.image.compress import Decompressed

PIECE: Final = 1 << 20
"""Bytes per read: large enough that hashlib and zstandard run without the GIL."""

MAX_NAME: Final = 4095
MAX_COMPONENT: Final = 255
MAX_DEPTH: Final = 128
MAX_ENTRIES: Final = 500_000
_MAX_EXTENDED: Final = 1 << 20
_BLOCK: Final = 512
_ZERO: Final = bytes(_BLOCK)
_SPACES: Final = b" " * 8
_PLAIN: Final = re.compile(rb"[\w+@%=,~-][\w+@%=,~.-]*(?:/[\w+@%=,~-][\w+@%=,~.-]*)*")
"""Most names, at a glance: no part is empty or begins with a dot, nothing odd in them."""

_DRIVE: Final = re.compile(rb"[A-Za-z]:")

Kind = Literal["file", "directory", "symlink", "hardlink"]
_KINDS: Final[dict[int, Kind]] = {
    ord("0"): "file",
    0: "file",
    ord("7"): "file",
    ord("5"): "directory",
    ord("2"): "symlink",
    ord("1"): "hardlink",
}
_SPECIAL: Final = {ord("3"): "character device", ord("4"): "block device", ord("6"): "FIFO"}


@dataclass(slots=True)
class Member:
    """One entry. ``name`` and ``target`` are text with surrogate escapes."""

    name: str
    kind: Kind
    size: int
    executable: bool
    target: str = ""


def check_name(raw: bytes, *, what: str = "name") -> str:
    """The path that ``raw`` means, as ``a/b/c``; refuse one that is not plainly inside.

    A leading ``./`` and a trailing ``/`` are dropped, as tar writes them.
    """
    if len(raw) <= MAX_COMPONENT and _PLAIN.fullmatch(raw) and raw.count(b"/") < MAX_DEPTH:
        return raw.decode("ascii")
    name = raw
    while name.startswith(b"./"):
        name = name[2:].lstrip(b"/")
    name = name.rstrip(b"/")
    if not name or name == b"." or raw.startswith(b"/"):
        problem = "empty" if not name or name == b"." else "absolute"
        raise ArchiveError(Reason.UNSAFE_NAME, f"{what} is {problem}", entry=raw)
    if len(name) > MAX_NAME:
        raise ArchiveError(Reason.LIMIT, f"{what} has more than {MAX_NAME} bytes", entry=raw)
    if b"\0" in name or b"\\" in name or _DRIVE.match(name):
        raise ArchiveError(
            Reason.UNSAFE_NAME, f"{what} holds NUL, a backslash or a drive", entry=raw
        )
    parts = name.split(b"/")
    if len(parts) > MAX_DEPTH:
        raise ArchiveError(Reason.LIMIT, f"{what} has more than {MAX_DEPTH} parts", entry=raw)
    for part in parts:
        if part in (b"", b".", b".."):
            raise ArchiveError(Reason.UNSAFE_NAME, f"{what} climbs or is not plain", entry=raw)
        if len(part) > MAX_COMPONENT:
            raise ArchiveError(
                Reason.LIMIT, f"{what} has a part of more than {MAX_COMPONENT} bytes", entry=raw
            )
    return name.decode("utf-8", "surrogateescape")


class TarReader:
    """Iterate over :class:`Member`; after each, ask for its bytes or go on."""

    def __init__(self, source: Decompressed, *, limit: int) -> None:
        """Read from ``source``, of which no more than ``limit`` bytes are accepted."""
        self._source = source
        self._limit = limit
        self._read = 0
        self._buffer = bytearray(PIECE)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._unread = 0
        """Bytes of the current member (padding included) that nobody has taken."""
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """Every member in the archive's order; ends after a checked end of archive."""
        entries = 0
        path = link = None
        size: int | None = None
        extended = False
        while True:
            self._skip()
            header = self._exactly(_BLOCK, b"")
            if header == _ZERO:
                if extended:
                    raise ArchiveError(Reason.MALFORMED, "an extended header has no entry")
                self._check_end()
                return
            kind, name, length = _parse(header)
            if kind in b"xgLK":
                if kind == ord("g") and extended:
                    raise ArchiveError(Reason.MALFORMED, "global header inside an entry")
                data = self._small(length, name)
                if kind == ord("L"):
                    path, extended = data.rstrip(b"\0"), True
                elif kind == ord("K"):
                    link, extended = data.rstrip(b"\0"), True
                else:
                    records = _pax(data, name)
                    if kind == ord("g"):
                        if records.keys() & {b"path", b"linkpath", b"size"}:
                            raise ArchiveError(
                                Reason.MALFORMED, "a global header names one file", entry=name
                            )
                        continue
                    path = records.get(b"path", path)
                    link = records.get(b"linkpath", link)
                    if b"size" in records:
                        size = _decimal(records[b"size"], name)
                    extended = True
                continue
            entries += 1
            if entries > MAX_ENTRIES:
                raise ArchiveError(Reason.LIMIT, f"has more than {MAX_ENTRIES} entries")
            member = _member(
                header, kind, name if path is None else path, link, length if size is None else size
            )
            path = link = size = None
            extended = False
            self._unread = member.size
            self._padding = -member.size % _BLOCK
            if self._read - (self._end - self._start) + member.size > self._limit:
                raise ArchiveError(
                    Reason.LIMIT,
                    f"unpacks to more than {self._limit} bytes",
                    entry=member.name,
                )
            yield member

    def pieces(self) -> Iterator[memoryview]:
        """The current member's bytes, each piece valid until the next is asked for."""
        while self._unread:
            if self._start == self._end:
                self._fill()
            take = min(self._unread, self._end - self._start)
            piece = self._view[self._start : self._start + take]
            self._start += take
            self._unread -= take
            yield piece

    def content(self) -> bytes:
        """The current member's bytes at once; the caller has looked at its size."""
        return bytes(self.view())

    def view(self) -> memoryview | bytes:
        """Like :meth:`content`, without a copy where it can be: valid until the next read."""
        take = self._unread
        if take <= self._end - self._start:
            self._unread = 0
            self._start += take
            return self._view[self._start - take : self._start]
        return b"".join(bytes(piece) for piece in self.pieces())

    def _skip(self) -> None:
        left = self._unread + self._padding
        self._unread = self._padding = 0
        while left > (have := self._end - self._start):
            left -= have
            self._start = self._end
            self._fill()
        self._start += left

    def _fill(self) -> None:
        """Get more; the buffer is empty. The end of the source is a truncated archive."""
        self._start = 0
        self._end = self._source_read(self._view)
        if not self._end:
            raise ArchiveError(Reason.TRUNCATED, "the archive ends in the middle")

    def _source_read(self, view: memoryview) -> int:
        try:
            got = self._source.readinto(view)
        except ValueError as error:
            raise ArchiveError(Reason.MALFORMED, str(error)) from error
        self._read += got
        if self._read > self._limit + PIECE:
            raise ArchiveError(Reason.LIMIT, f"unpacks to more than {self._limit} bytes")
        return got

    def _exactly(self, count: int, entry: bytes) -> bytes:
        start = self._start
        if count <= self._end - start:
            self._start = start + count
            return bytes(self._view[start : start + count])
        parts = bytearray()
        while len(parts) < count:
            if self._start == self._end:
                self._fill()
            take = min(count - len(parts), self._end - self._start)
            parts += self._view[self._start : self._start + take]
            self._start += take
        return bytes(parts)

    def _small(self, length: int, name: bytes) -> bytes:
        if length > _MAX_EXTENDED:
            raise ArchiveError(Reason.LIMIT, "has an oversized extended header", entry=name)
        data = self._exactly(length, name)
        self._padding = -length % _BLOCK
        return data

    def _check_end(self) -> None:
        """Only zeros may follow the first zero block."""
        while True:
            if any(self._view[self._start : self._end]):
                raise ArchiveError(Reason.TRAILING, "data follows the end of the archive")
            self._start, self._end = 0, self._source_read(self._view)
            if not self._end:
                return


def _parse(header: bytes) -> tuple[int, bytes, int]:
    """Type, name as written, size; the header's sum is checked."""
    name = header[:100].partition(b"\0")[0]
    if header[257:262] == b"ustar" and header[345] and header[257:265] != b"ustar  \0":
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    checksum = _number(header[148:156], name)
    if checksum != sum(header) - sum(header[148:156]) + 256:
        raise ArchiveError(Reason.MALFORMED, "the header's checksum is wrong", entry=name)
    return header[156], name, _number(header[124:136], name)


def _number(field: bytes, name: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.partition(b"\0")[0].strip(b" ")
    try:
        if text.isdigit() or not text:
            return int(text or b"0", 8)
    except ValueError:
        pass
    raise ArchiveError(Reason.MALFORMED, "a number in its header is garbage", entry=name)


def _decimal(text: bytes, name: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise ArchiveError(Reason.MALFORMED, "its extended size is garbage", entry=name)
    return int(text)


def _pax(data: bytes, name: bytes) -> dict[bytes, bytes]:
    """Records of a pax header: length, space, key, equals sign, value, newline."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        digits = data[position:space] if space > 0 else b""
        length = int(digits) if digits.isdigit() else 0
        record = data[space + 1 : position + length]
        key, equals, value = record.partition(b"=")
        if not equals or not record.endswith(b"\n") or position + length > len(data):
            raise ArchiveError(Reason.MALFORMED, "its extended header is garbage", entry=name)
        if key.startswith(b"GNU.sparse") or key in records:
            reason = Reason.SPARSE if key not in records else Reason.MALFORMED
            raise ArchiveError(reason, "is sparse or names a key twice", entry=name)
        records[key] = value[:-1]
        position += length
    return records


def _member(header: bytes, kind: int, path: bytes, link: bytes | None, size: int) -> Member:
    if kind == ord("S"):
        raise ArchiveError(Reason.SPARSE, "is a sparse file", entry=path)
    if kind not in _KINDS:
        what = _SPECIAL.get(kind, f"tar type {chr(kind)!r}")
        raise ArchiveError(Reason.SPECIAL_FILE, f"is a {what}", entry=path)
    what_kind = _KINDS[kind]
    if what_kind == "file" and path.endswith(b"/"):
        what_kind = "directory"  # as the first tars wrote them
    mode = _number(header[100:108], path)
    if what_kind == "directory" and path in (b".", b"./") and not size:
        return Member(".", "directory", 0, True)
    name = check_name(path)
    target = b""
    if what_kind in ("symlink", "hardlink"):
        target = header[157:257].partition(b"\0")[0] if link is None else link
        if not target or b"\0" in target or len(target) > MAX_NAME:
            raise ArchiveError(Reason.UNSAFE_LINK, "its link target is not a path", entry=path)
    if what_kind != "file":
        if size and what_kind != "hardlink":
            raise ArchiveError(Reason.MALFORMED, "has content but is no file", entry=path)
        size = 0
    return Member(
        name, what_kind, size, bool(mode & 0o100), target.decode("utf-8", "surrogateescape")
    )
