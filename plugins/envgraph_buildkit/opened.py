"""Blobs that are read piece by piece, opened once."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import BinaryIO, Final, cast

from envgraph.api import Digest

_CHUNK: Final = 1 << 20


class Opened:
    """Blobs that stay open between calls: BuildKit reads a megabyte with each.

    To open a blob may mean to hash or to download it.
    """

    def __init__(self) -> None:
        """Nothing is open."""
        self._lock = threading.Lock()
        self._waiting: dict[tuple[Digest, int], tuple[BinaryIO, ExitStack]] = {}
        self._closed = False

    @contextmanager
    def at(
        self,
        digest: Digest,
        open_blob: Callable[[Digest], AbstractContextManager[BinaryIO]],
        position: int,
    ) -> Iterator[BinaryIO]:
        """A blob from a position on; it waits for whoever goes on where this one ended."""
        with self._lock:
            found = self._waiting.pop((digest, position), None)
        if found is None:
            stack = ExitStack()
            stream = stack.enter_context(open_blob(digest))
        else:
            stream, stack = found
        counted = _Counted(stream, position)
        with stack:
            if found is None:
                skip(stream, position)
            yield cast("BinaryIO", counted)
            with self._lock:
                place = (digest, counted.position)
                if not self._closed and place not in self._waiting:
                    self._waiting[place] = (stream, stack.pop_all())

    def close(self) -> None:
        """Close all that waits; what is read now is closed when that ends."""
        with self._lock:
            self._closed = True
            left, self._waiting = list(self._waiting.values()), {}
        for _, stack in left:
            stack.close()


class _Counted:
    """A stream that knows where it is."""

    def __init__(self, stream: BinaryIO, position: int) -> None:
        self._stream = stream
        self.position = position

    def read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self.position += len(part)
        return part


def skip(stream: BinaryIO, count: int) -> None:
    """Go on ``count`` bytes further, by reading where the stream cannot seek."""
    with contextlib.suppress(OSError, io.UnsupportedOperation, AttributeError):
        stream.seek(count)
        return
    while count > 0 and (part := stream.read(min(_CHUNK, count))):
        count -= len(part)
