"""One object on its way into the store: hashed while it is written."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final, Protocol, Self

from envgraph_store import files
from envgraph_store.digest import Digest
from envgraph_store.errors import DigestMismatch, io_error
from envgraph_store.layout import AreaName
from envgraph_store.stage import Staged

_BUFFER: Final = 1 << 18
_SMALL: Final = 1 << 16


class Batch(Protocol):
    """What a writer needs of the transaction that it writes for."""

    @property
    def where(self) -> Path:
        """The folder that holds what is not visible yet, for messages."""
        ...

    def begin(self, writer: StagedWriter) -> tuple[str, int]:
        """Make the file: its name, and a descriptor to write to, which the writer closes."""
        ...

    def finished(self, area: AreaName, digest: Digest, staged: Staged, fd: int) -> None:
        """Take the whole object; the descriptor is the batch's from now on."""
        ...

    def drop(self, name: str) -> None:
        """Remove the file of a writer that gave up."""
        ...


class StagedWriter:
    """Write one object; its digest is known, and checked, at :meth:`finish`.

    One writer is used by one thread at a time. It is also a context manager:
    leaving it unfinished aborts it.
    """

    def __init__(
        self, owner: Batch, area: AreaName, expect: Digest | None, limit: int | None
    ) -> None:
        self._owner = owner
        self._expect = expect
        self._limit = limit
        self._hash = files.new_hash()
        self._buffer = bytearray()
        self._mutex = threading.Lock()
        self.area: AreaName = area
        self.size = 0
        self._name, self._fd = owner.begin(self)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take bytes; return how many. Raise :class:`DigestMismatch` beyond the size."""
        count = data.nbytes if isinstance(data, memoryview) else len(data)
        try:
            with self._mutex:
                self._require_open()
                self.size += count
                if self._limit is not None and self.size > self._limit:
                    raise DigestMismatch(
                        f"more than the announced {self._limit} bytes were written"
                    )
                if count < _SMALL:
                    self._buffer += data
                    if len(self._buffer) >= _BUFFER:
                        self._flush()
                else:
                    self._flush()
                    self._put(data)
        except BaseException:
            self.abort()
            raise
        return count

    def finish(self) -> Digest:
        """End the object and return the digest of what was written.

        Raise :class:`DigestMismatch` if it, or the size, is not what was
        announced; nothing of it is kept then.
        """
        try:
            with self._mutex:
                self._require_open()
                self._flush()
                digest = Digest.from_hex(self._hash.hexdigest())
                if self._limit is not None and self.size != self._limit:
                    raise DigestMismatch(f"{self.size} bytes were written, {self._limit} announced")
                if self._expect is not None and digest != self._expect:
                    raise DigestMismatch(f"the bytes are {digest}, announced was {self._expect}")
                fd, self._fd = self._fd, -1
        except BaseException:
            self.abort()
            raise
        self._owner.finished(self.area, digest, Staged(self._name, self.size), fd)
        return digest

    def abort(self) -> None:
        """Drop what was written; a second call, or one after finish, does nothing."""
        with self._mutex:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            self._owner.drop(self._name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()

    def _require_open(self) -> None:
        if self._fd < 0:
            raise ValueError("the writer is finished")

    def _flush(self) -> None:
        if self._buffer:
            self._put(self._buffer)
            self._buffer = bytearray()

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)
        try:
            files.write_all(self._fd, data)
        except OSError as error:
            raise io_error(error, "write to", self._owner.where) from error
