"""Open a wheel: its metadata, its checked list of files, and each file as a stream."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

from envgraph.image.archive_errors import ArchiveError, Reason
from envgraph.image.compress import Decompressed, open_deflate
from envgraph.image.conda_archive import raw_limit
from envgraph.image.tarread import PIECE, check_name
from envgraph.image.zipread import Slice, ZipMember, read_zip

MAX_METADATA: Final = 64 << 20
_HASHES: Final = frozenset(("sha256", "sha384", "sha512"))
_UNHASHED: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file of the wheel and what RECORD says of it (nothing for RECORD itself)."""

    path: str
    member: ZipMember
    algorithm: str
    digest: str
    """Base64 in the URL alphabet, without padding."""

    @property
    def executable(self) -> bool:
        """The maker set an execute bit."""
        return bool(self.member.mode & 0o111)


class WheelArchive:
    """A wheel whose structure was checked; contents are checked as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the directory and RECORD. Raises :class:`ArchiveError`."""
        self._file = file
        size = file.seek(0, io.SEEK_END)
        members = _checked_members(read_zip(file), raw_limit(size))
        self.dist_info = _dist_info(members)
        record_path = f"{self.dist_info}/RECORD"
        if record_path not in members:
            raise ArchiveError(Reason.METADATA, "is missing", entry=record_path)
        record = _parse_record(self._whole(members[record_path], MAX_METADATA))
        self.files: dict[str, WheelFile] = {}
        for path, member in members.items():
            self.files[path] = _described(path, member, record, self.dist_info)
        for path in record:
            if path not in members and not _is_folder(path):
                raise ArchiveError(Reason.MISSING, "is in RECORD and not there", entry=path)

    def read(self, name: str) -> bytes | None:
        """A small file of the ``.dist-info`` folder, checked; None where there is none."""
        file = self.files.get(f"{self.dist_info}/{name}")
        if file is None:
            return None
        if file.member.size > MAX_METADATA:
            raise ArchiveError(Reason.LIMIT, "is too large", entry=file.path)
        return b"".join(self.pieces(file))

    def pieces(self, file: WheelFile) -> Iterator[bytes]:
        """The file's bytes; what does not fit size, CRC or RECORD raises before the end."""
        hashed = hashlib.new(file.algorithm) if file.algorithm else None
        for piece in self._raw_pieces(file.member):
            if hashed is not None:
                hashed.update(piece)
            yield piece
        if hashed is not None and encoded(hashed.digest()) != file.digest:
            raise _differs("is not what RECORD says", file.path)

    def _whole(self, member: ZipMember, limit: int) -> bytes:
        if member.size > limit:
            raise ArchiveError(Reason.LIMIT, "is too large", entry=member.name)
        return b"".join(self._raw_pieces(member))

    def _raw_pieces(self, member: ZipMember) -> Iterator[bytes]:
        window = Slice(self._file, member.offset, member.stored)
        source: Decompressed = cast(Decompressed, window)
        if member.method == _DEFLATED:
            source = open_deflate(cast(BinaryIO, window))
        view = memoryview(bytearray(min(PIECE, member.size + 1)))
        total, crc = 0, 0
        while True:
            try:
                got = source.readinto(view)
            except ValueError as error:
                raise ArchiveError(Reason.MALFORMED, str(error), entry=member.name) from error
            if not got:
                break
            total += got
            if total > member.size:
                break
            piece = bytes(view[:got])
            crc = zlib.crc32(piece, crc)
            yield piece
        if total != member.size or crc != member.crc:
            raise ArchiveError(
                Reason.MISMATCH, "is not as long as it says, or damaged", entry=member.name
            )


def encoded(digest: bytes) -> str:
    """As RECORD writes hashes."""
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _checked_members(members: list[ZipMember], limit: int) -> dict[str, ZipMember]:
    checked: dict[str, ZipMember] = {}
    total = 0
    for member in members:
        name = check_name(member.name)
        kind = stat.S_IFMT(member.mode)
        if member.name.endswith(b"/"):
            if member.size or kind not in (0, stat.S_IFDIR):
                raise ArchiveError(Reason.MALFORMED, "is a folder and is none", entry=member.name)
            continue
        if kind not in (0, stat.S_IFREG):
            raise ArchiveError(Reason.SPECIAL_FILE, "is no regular file", entry=member.name)
        if member.method not in (_STORED, _DEFLATED):
            raise ArchiveError(
                Reason.UNSUPPORTED, "is neither stored nor deflated", entry=member.name
            )
        if member.method == _STORED and member.size != member.stored:
            raise ArchiveError(Reason.MALFORMED, "has two sizes", entry=member.name)
        if name in checked:
            raise ArchiveError(Reason.DUPLICATE, "is there twice", entry=member.name)
        total += member.size
        if total > limit:
            raise ArchiveError(Reason.LIMIT, f"unpacks to more than {limit} bytes", entry=name)
        checked[name] = member
    return checked


def _dist_info(members: dict[str, ZipMember]) -> str:
    found = {
        folder
        for folder, slash, _ in (path.partition("/") for path in members)
        if slash and folder.endswith(".dist-info")
    }
    if len(found) != 1:
        raise ArchiveError(Reason.METADATA, f"has {len(found)} .dist-info folders, not one")
    return found.pop()


def _parse_record(data: bytes) -> dict[str, tuple[str, str, str]]:
    record: dict[str, tuple[str, str, str]] = {}
    try:
        text = data.decode("utf-8")
        for row in csv.reader(text.splitlines()):
            if not row:
                continue
            if len(row) != 3:
                raise ValueError(f"a row of {len(row)} fields")
            path, hashed, size = row
            algorithm, _, digest = hashed.partition("=")
            if path in record:
                raise ValueError(f"{path!r:.100} twice")
            record[path] = (algorithm, digest, size)
    except (ValueError, csv.Error) as error:
        raise ArchiveError(Reason.METADATA, f"RECORD is garbage: {error}") from error
    return record


def _described(path: str, member: ZipMember, record: dict[str, Any], dist_info: str) -> WheelFile:
    algorithm, digest, size = record.get(path, ("", "", ""))
    if path in {f"{dist_info}/{name}" for name in _UNHASHED}:
        return WheelFile(path, member, "", "")
    if path not in record:
        raise ArchiveError(Reason.MISMATCH, "is not in RECORD", entry=path)
    if algorithm not in _HASHES:
        raise ArchiveError(Reason.METADATA, "has no usable hash in RECORD", entry=path)
    if size and size != str(member.size):
        raise _differs(f"has {member.size} bytes, and {size:.20} in RECORD", path)
    return WheelFile(path, member, algorithm, digest.rstrip("="))


def _differs(problem: str, path: str) -> ArchiveError:
    """Real, if seldom: gmsh 4.15.2 was changed after its RECORD was written."""
    hint = "the project changed its wheel after making it: use another version, or its sdist"
    return ArchiveError(Reason.MISMATCH, problem, entry=path, hint=hint)


def _is_folder(path: str) -> bool:
    return path.endswith("/")
