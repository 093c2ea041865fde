"""One folder of content-addressed objects, read with verification.

Reading needs no lock: an object appears whole, never changes, and goes only by
garbage collection or repair. Whoever asks for a digest gets its bytes or an
error, never other bytes.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from envgraph_store import files, quarantine
from envgraph_store.digest import Digest
from envgraph_store.errors import (
    ObjectCorrupt,
    ObjectMissing,
    ObjectTooBig,
    StoreError,
    io_error,
)
from envgraph_store.layout import Folders

READ_LIMIT: Final = 64 << 20
"""How many bytes :meth:`Area.read` returns at most, if not told otherwise."""

_HEX: Final = frozenset("0123456789abcdef")
_NOT_REGULAR: Final = {errno.EINVAL, errno.ELOOP, errno.ENXIO, errno.EISDIR}


class Area:
    """The objects of one folder: ``blobs`` or ``packages``. Safe to use from threads."""

    __slots__ = ("_folders", "name")

    def __init__(self, folders: Folders, name: str) -> None:
        self._folders = folders
        self.name = name

    def path(self, digest: Digest) -> Path:
        """Where the object lies; its bytes are not verified."""
        return self._folders.shown(self.name) / digest.hex

    def has(self, digest: Digest) -> bool:
        """Whether the object is there, as a regular file, and was not seen to be damaged.

        Its bytes are not read. What ``verify`` found bad counts as absent until a good
        copy is written: then it can be made again.
        """
        bad = quarantine.is_condemned(self._folders, self.name, digest.hex)
        return not bad and self._status(digest) is not None

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of ``digests`` that are not there, as :meth:`has` says it."""
        return {digest for digest in digests if not self.has(digest)}

    def size(self, digest: Digest) -> int:
        """The object's size in bytes; raise :class:`ObjectMissing`."""
        status = self._status(digest)
        if status is None:
            raise self._no_such(digest)
        return status.st_size

    def digests(self) -> Iterator[Digest]:
        """All objects, in no order; names that are no digests are left to ``verify``."""
        for name in files.list_folder(self._folders[self.name]):
            if len(name) == 64 and _HEX.issuperset(name):
                yield Digest.from_hex(name)

    def read(self, digest: Digest, limit: int = READ_LIMIT) -> bytes:
        """The object's bytes, verified.

        Raise :class:`ObjectMissing`, :class:`ObjectCorrupt`, or
        :class:`ObjectTooBig` if it is larger than ``limit`` bytes.
        """
        fd, status = self._open(digest)
        try:
            if status.st_size > limit:
                raise ObjectTooBig(f"{digest} has {status.st_size} bytes, more than {limit}")
            pieces = []
            hasher = files.new_hash()
            left = limit + 1
            while left > 0 and (piece := os.read(fd, min(left, max(status.st_size + 1, 4096)))):
                hasher.update(piece)
                pieces.append(piece)
                left -= len(piece)
        except OSError as error:
            raise io_error(error, "read", self.path(digest)) from error
        finally:
            os.close(fd)
        if hasher.hexdigest() != digest.hex:
            raise self._corrupt(digest, "its bytes have another digest")
        return b"".join(pieces)

    def open(self, digest: Digest) -> BinaryIO:
        """The object as a seekable file, verified before its first byte is handed out.

        A change made after that is met with :class:`ObjectCorrupt` by the read
        that would have returned it.
        """
        fd, status = self._open(digest)
        try:
            reader = _VerifiedFile(fd, digest, status, self)
        except BaseException:
            os.close(fd)
            raise
        return cast(BinaryIO, io.BufferedReader(reader, files.CHUNK // 4))

    def check(self, digest: Digest) -> int:
        """Hash the object and return its size; raise if it is missing or corrupt."""
        fd, status = self._open(digest)
        try:
            actual, size = files.hash_descriptor(fd, status.st_size)
        except OSError as error:
            raise io_error(error, "read", self.path(digest)) from error
        finally:
            os.close(fd)
        if actual != digest.hex:
            raise self._corrupt(digest, "its bytes have another digest")
        return size

    def _status(self, digest: Digest) -> os.stat_result | None:
        try:
            status = os.stat(digest.hex, dir_fd=self._folders[self.name], follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise io_error(error, "look at", self.path(digest)) from error
        return status if stat.S_ISREG(status.st_mode) else None

    def _open(self, digest: Digest) -> tuple[int, os.stat_result]:
        try:
            return files.open_regular(digest.hex, self._folders[self.name])
        except FileNotFoundError:
            raise self._no_such(digest) from None
        except OSError as error:
            if error.errno in _NOT_REGULAR:
                raise self._corrupt(digest, "it is not a regular file") from error
            raise io_error(error, "open", self.path(digest)) from error

    def _no_such(self, digest: Digest) -> StoreError:
        return ObjectMissing(
            f"{digest} is not in the store's {self.name}", hint="run apply again to make it"
        )

    def _corrupt(self, digest: Digest, fault: str) -> StoreError:
        return ObjectCorrupt(
            f"{digest} in the store's {self.name} is damaged: {fault}",
            hint="run 'envgraph store verify --repair', then apply again",
        )


class _VerifiedFile(io.FileIO):
    """A file whose bytes were hashed at the start, and which notices later changes."""

    def __init__(self, fd: int, digest: Digest, status: os.stat_result, area: Area) -> None:
        super().__init__(fd, "rb", closefd=False)
        self._digest = digest
        self._area = area
        self._seen = (0, 0, 0)
        self._verify(status)
        super().__init__(fd, "rb", closefd=True)

    def _verify(self, status: os.stat_result) -> None:
        try:
            actual, _ = files.hash_descriptor(self.fileno(), status.st_size)
        except OSError as error:
            raise io_error(error, "read", self._area.path(self._digest)) from error
        if actual != self._digest.hex:
            raise self._area._corrupt(self._digest, "its bytes have another digest")
        self._seen = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def _unchanged(self) -> None:
        status = os.fstat(self.fileno())
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) != self._seen:
            self._verify(status)

    def readinto(self, buffer) -> int | None:  # type: ignore[no-untyped-def]
        """Read, and check that nobody has written to the file since it was hashed."""
        count = super().readinto(buffer)
        self._unchanged()
        return count

    def readall(self) -> bytes:
        """Read to the end, with the same check."""
        data = super().readall()
        self._unchanged()
        return data

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most ``size`` bytes, with the same check."""
        data = super().read(-1 if size is None else size)
        self._unchanged()
        return data
