"""Where a base image on disk lies: a folder or a tar file, read by name, and verified.

Both kinds are trees of regular files with relative names. A name never leaves the
tree: no ``..``, no absolute path, and a symbolic link in a folder is not followed
out of it. Every opened blob is verified against digest and size while it is read.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from envgraph.errors import InputError, IntegrityError
from envgraph_store.digest import Digest

if TYPE_CHECKING:
    import tarfile

_MAX_MEMBERS: Final = 20_000
_CHUNK: Final = 1 << 20
_MOST_HEADERS: Final = 64 << 20
_COMPRESSED: Final = {
    b"\x1f\x8b": "gunzip",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
}


class Tree(Protocol):
    """Files by relative name."""

    @property
    def title(self) -> str:
        """What messages call it."""

    def size(self, name: str) -> int | None:
        """Bytes of a regular file; None when there is none of that name."""

    def open(self, name: str) -> BinaryIO:
        """The file from its first byte; InputError when there is none."""


class FolderTree:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        """Take ``root`` as it is; nothing is read yet."""
        self._root = root

    @property
    def title(self) -> str:
        """The folder's path."""
        return str(self._root)

    def _path(self, name: str) -> Path | None:
        path = self._root / _inside(name)
        try:
            real = path.resolve(strict=True)
            mode = real.stat().st_mode
        except OSError:
            return None
        root = self._root.resolve()
        return real if stat.S_ISREG(mode) and real.is_relative_to(root) else None

    def size(self, name: str) -> int | None:
        """Bytes of a regular file below the folder."""
        path = self._path(name)
        return None if path is None else path.stat().st_size

    def open(self, name: str) -> BinaryIO:
        """Open a regular file below the folder."""
        path = self._path(name)
        if path is None:
            raise _missing(self.title, name)
        try:
            return path.open("rb")
        except OSError as error:
            raise _unreadable(str(path), error) from error


class TarTree:
    """An uncompressed tar file; members are found once, and read in place."""

    def __init__(self, path: Path) -> None:
        """List the members; InputError or IntegrityError when it is no such tar."""
        self._path = path
        self._members = _list_members(path)

    @property
    def title(self) -> str:
        """The tar's path."""
        return str(self._path)

    def size(self, name: str) -> int | None:
        """Bytes of a member."""
        place = self._members.get(_inside(name))
        return None if place is None else place[1]

    def open(self, name: str) -> BinaryIO:
        """Open a member; several may be open at once."""
        place = self._members.get(_inside(name))
        if place is None:
            raise _missing(self.title, name)
        try:
            raw = self._path.open("rb")
        except OSError as error:
            raise _unreadable(self.title, error) from error
        raw.seek(place[0])
        return io.BufferedReader(_Slice(raw, place[1]), _CHUNK)


def _list_members(path: Path) -> Mapping[str, tuple[int, int]]:
    """Name → offset and size of each regular member, links resolved within the tar."""
    import tarfile

    members: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    try:
        with path.open("rb") as raw:
            total = os.fstat(raw.fileno()).st_size
            _refuse_compressed(path, raw.read(6))
            raw.seek(0)
            with tarfile.open(fileobj=Headers(raw), mode="r:") as archive:
                for count, member in enumerate(archive):
                    if count >= _MAX_MEMBERS:
                        raise _bad(path, f"more than {_MAX_MEMBERS} members")
                    _add_member(path, member, total, members, links)
    except OSError as error:
        raise _unreadable(str(path), error) from error
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise _bad(path, f"not a tar file ({str(error)[:100]})") from error
    for name, target in links.items():
        if target not in members:
            raise _bad(path, f"the link {name[:100]!r} leads to nothing in it")
        members[name] = members[target]
    return members


class Headers(io.RawIOBase):
    """Lets ``tarfile`` read headers, and no more of them than an honest tar holds.

    An extended header may claim gigabytes, and a negative size sends some versions
    of ``tarfile`` around in a circle (CVE-2025-8194): both end at the limit.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._left = raw, _MOST_HEADERS

    def read(self, size: int = -1, /) -> bytes:
        """Header bytes; ValueError beyond the limit."""
        if not 0 <= size <= self._left:
            raise ValueError(f"its headers are larger than {_MOST_HEADERS} bytes")
        self._left -= size
        return self._raw.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As the file below."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """As the file below."""
        return self._raw.tell()


def _add_member(
    path: Path,
    member: tarfile.TarInfo,
    total: int,
    members: dict[str, tuple[int, int]],
    links: dict[str, str],
) -> None:
    if member.isdir():
        return
    try:
        name = _inside(member.name)
        if member.issym():
            target = _inside(os.path.normpath(PurePosixPath(name).parent / member.linkname))
        elif member.islnk():
            target = _inside(member.linkname)
        else:
            target = ""
    except InputError as error:
        raise _bad(path, str(error)) from error
    if name in members or name in links:
        raise _bad(path, f"the member {name[:100]!r} is there twice")
    if target:
        links[name] = target
        return
    if not member.isreg() or member.sparse is not None:
        raise _bad(path, f"the member {name[:100]!r} is no regular file")
    if member.size < 0 or member.offset_data + member.size > total:
        raise _bad(path, f"the member {name[:100]!r} reaches beyond the end: it was cut off")
    members[name] = (member.offset_data, member.size)


def _refuse_compressed(path: Path, magic: bytes) -> None:
    for start, tool in _COMPRESSED.items():
        if magic.startswith(start):
            raise InputError(
                f"{path} is a compressed archive", code="base-image", hint=f"`{tool}` it first"
            )


class _Slice(io.RawIOBase):
    """``size`` bytes of a file from where it stands; closes the file with itself."""

    def __init__(self, raw: BinaryIO, size: int) -> None:
        self._raw, self._left = raw, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._raw.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class VerifyingReader(io.RawIOBase):
    """Reads a blob; its last bytes are handed out only after all of them were verified.

    Short, long or other bytes are an IntegrityError, so a blob that was read to
    its end is the right one.
    """

    def __init__(self, raw: BinaryIO, digest: Digest, size: int, title: str) -> None:
        """Own ``raw``: it is closed with this reader."""
        self._raw, self._digest, self._size, self._title = raw, digest, size, title
        self._hash, self._done, self._verified = hashlib.sha256(), 0, False

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read on; IntegrityError when the bytes are not the blob's."""
        if not len(buffer) or self._verified:
            return 0
        data = self._raw.read(min(len(buffer), self._size - self._done))
        self._done += len(data)
        self._hash.update(data)
        if not data or self._done == self._size:
            self._verify()
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file below."""
        if not self.closed:
            self._raw.close()
        super().close()

    def _verify(self) -> None:
        why = ""
        if self._done < self._size:
            why = f"{self._done} bytes, and its descriptor says {self._size}"
        elif self._raw.read(1):
            why = f"longer than the {self._size} bytes that its descriptor says"
        elif self._hash.hexdigest() != self._digest.hex:
            why = f"its bytes are sha256:{self._hash.hexdigest()}"
        if why:
            raise IntegrityError(
                f"{self._title}: the blob {self._digest} is wrong: {why}",
                code="blob-mismatch",
                hint="copy the image again from where it came from",
            )
        self._verified = True


def read_verified(raw: BinaryIO, digest: Digest, size: int, title: str) -> bytes:
    """The whole blob, verified; for documents, whose size the caller has bounded."""
    with VerifyingReader(raw, digest, size, title) as reader:
        return reader.readall() or b""


def hash_file(raw: BinaryIO) -> tuple[Digest, int]:
    """Digest and size of what is left of ``raw``."""
    digest, size = hashlib.sha256(), 0
    while data := raw.read(_CHUNK):
        digest.update(data)
        size += len(data)
    return Digest.from_hex(digest.hexdigest()), size


def _inside(name: str) -> str:
    """The name in one spelling; InputError if it could leave the tree."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise InputError(f"the name {name[:100]!r} leads out of the image", code="base-image")
    return "/".join(parts)


def _missing(title: str, name: str) -> InputError:
    return InputError(f"{title}: {name[:200]} is not there", code="base-image")


def _unreadable(title: str, error: OSError) -> InputError:
    return InputError(f"{title}: {error.strerror or error}", code="base-image")


def _bad(path: Path, why: str) -> IntegrityError:
    return IntegrityError(f"{path}: {why}", code="base-image")
