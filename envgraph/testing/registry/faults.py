"""The faults of a registry, for :class:`~envgraph.testing.registry.faulty.FaultyRegistry`.

Each function gives a fault that spoils the calls ``at`` … ``at + times - 1`` of a method.
``times=ALWAYS`` is every call from ``at`` on. Nothing here waits: slowness is told to the
clock that a test brings.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, cast

from envgraph.api import Digest, RegistryError, Repository
from envgraph.testing.registry.faulty import Call, Fault

ALWAYS: Final = 1 << 30

_PIECE: Final = 1 << 16


# -- faults of any method


def fails(method: str, error: Exception, *, at: int = 1, times: int = 1) -> Fault:
    """The call raises that error, and does nothing."""

    def action(call: Call) -> Any:
        raise error

    return Fault(method, action, at, times)


def down(method: str, *, at: int = 1, times: int = 1) -> Fault:
    """No answer; trying again may help."""
    error = RegistryError("no answer", code="registry-down", retryable=True)
    return fails(method, error, at=at, times=times)


def busy(method: str, seconds: float, *, at: int = 1, times: int = 1) -> Fault:
    """It asks to be left alone for so long (429, 503 with Retry-After)."""
    error = RegistryError("busy", code="registry-down", retryable=True, retry_after=seconds)
    return fails(method, error, at=at, times=times)


def denied(method: str, *, expired: bool = False, at: int = 1, times: int = 1) -> Fault:
    """Credentials are not enough; with ``expired`` a fresh token, and so another try, helps."""
    error = RegistryError("denied", code="registry-denied", retryable=expired)
    return fails(method, error, at=at, times=times)


def done_but_down(method: str, *, at: int = 1, times: int = 1) -> Fault:
    """The call is done, and its answer is lost."""

    def action(call: Call) -> Any:
        call.go(*call.arguments)
        raise RegistryError("the answer was lost", code="registry-down", retryable=True)

    return Fault(method, action, at, times)


def before(method: str, then: Callable[[Repository], object], *, at: int = 1) -> Fault:
    """Something happens just before the call: a tag moves, a manifest is deleted.

    ``then`` gets the repository inside, in which no fault is met.
    """

    def action(call: Call) -> Any:
        then(call.repository)
        return call.go(*call.arguments)

    return Fault(method, action, at)


# -- faults of what is read


def body(spoil: Callable[[BinaryIO], BinaryIO], *, at: int = 1, times: int = 1) -> Fault:
    """``open_blob`` gives what ``spoil`` makes of the true body."""

    @contextmanager
    def opened(call: Call) -> Iterator[BinaryIO]:
        with call.go(*call.arguments) as true:
            yield spoil(true)

    return Fault("open_blob", opened, at, times)


def cut(after: int, *, at: int = 1, times: int = 1) -> Fault:
    """The body ends after so many bytes, as if that were all."""
    return body(lambda true: _body(_first(true, after)), at=at, times=times)


def breaks(after: int, *, at: int = 1, times: int = 1) -> Fault:
    """The body raises RegistryError (``registry-down``) after so many bytes."""

    def pieces(true: BinaryIO) -> Iterator[bytes]:
        yield from _first(true, after)
        raise RegistryError("the connection was reset", code="registry-down", retryable=True)

    return body(lambda true: _body(pieces(true)), at=at, times=times)


def wrong_byte(position: int = 0, *, at: int = 1, times: int = 1) -> Fault:
    """One byte of the body is another, ``position`` bytes after where it begins."""

    def pieces(true: BinaryIO) -> Iterator[bytes]:
        yield from _first(true, position)
        yield bytes(byte ^ 1 for byte in true.read(1))
        yield from _all(true)

    return body(lambda true: _body(pieces(true)), at=at, times=times)


def longer(extra: bytes = b"\0", *, at: int = 1, times: int = 1) -> Fault:
    """The body goes on after its end."""

    def pieces(true: BinaryIO) -> Iterator[bytes]:
        yield from _all(true)
        yield extra

    return body(lambda true: _body(pieces(true)), at=at, times=times)


def endless(*, at: int = 1, times: int = 1) -> Fault:
    """The body has no end: zeros follow it for ever."""

    def pieces(true: BinaryIO) -> Iterator[bytes]:
        yield from _all(true)
        while True:
            yield bytes(_PIECE)

    return body(lambda true: _body(pieces(true)), at=at, times=times)


def slow(
    wait: Callable[[float], object], seconds: float, piece: int = 1, *, at: int = 1, times: int = 1
) -> Fault:
    """Each ``piece`` bytes take so many ``seconds``, which are told to ``wait``."""

    def pieces(true: BinaryIO) -> Iterator[bytes]:
        while data := true.read(piece):
            wait(seconds)
            yield data

    return body(lambda true: _body(pieces(true)), at=at, times=times)


def no_ranges(*, at: int = 1, times: int = ALWAYS) -> Fault:
    """``open_blob`` begins at the first byte, or not at all."""

    def action(call: Call) -> Any:
        if call.arguments[2]:
            raise RegistryError("no ranges here", code="registry-unsupported")
        return call.go(*call.arguments)

    return Fault("open_blob", action, at, times)


def other_manifest(data: bytes, *, honest: bool = False, at: int = 1, times: int = 1) -> Fault:
    """``get_manifest`` gives these bytes; under the true digest, unless it is ``honest``."""

    def action(call: Call) -> Any:
        found = call.go(*call.arguments)
        digest = Digest.of(data) if honest else found.digest
        return dataclasses.replace(found, data=data, digest=digest)

    return Fault("get_manifest", action, at, times)


def lying_size(size: int, *, at: int = 1, times: int = 1) -> Fault:
    """``resolve`` says another size."""

    def action(call: Call) -> Any:
        found = call.go(*call.arguments)
        return None if found is None else dataclasses.replace(found, size=size)

    return Fault("resolve", action, at, times)


# -- faults of what is written


def half_push(after: int, *, at: int = 1, times: int = 1) -> Fault:
    """``push_blob`` reads so many bytes, and the connection breaks. Nothing is kept."""

    def action(call: Call) -> Any:
        _, source = call.arguments
        with source() as data:
            for _ in _first(data, after):
                pass
        raise RegistryError("the connection was reset", code="registry-down", retryable=True)

    return Fault("push_blob", action, at, times)


def lost_push(*, at: int = 1, times: int = 1) -> Fault:
    """``push_blob`` takes everything, says that all is well, and keeps nothing."""

    def action(call: Call) -> Any:
        _, source = call.arguments
        with source() as data:
            for _ in _all(data):
                pass

    return Fault("push_blob", action, at, times)


def lost_manifest(*, at: int = 1, times: int = 1) -> Fault:
    """``put_manifest`` says that all is well, and keeps nothing."""
    return Fault("put_manifest", lambda call: Digest.of(call.arguments[1]), at, times)


def rewritten_manifest(*, at: int = 1, times: int = 1) -> Fault:
    """``put_manifest`` keeps other bytes than it was given, and says so by their digest."""

    def action(call: Call) -> Any:
        reference, data, media_type = call.arguments
        reference = str(Digest.of(data + b"\n")) if reference.startswith("sha256:") else reference
        return call.go(reference, data + b"\n", media_type)

    return Fault("put_manifest", action, at, times)


def _body(pieces: Iterator[bytes]) -> BinaryIO:
    return cast(BinaryIO, _Pieces(pieces))


class _Pieces(io.RawIOBase):
    """A body made of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._source = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._source, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _first(data: BinaryIO, count: int) -> Iterator[bytes]:
    while count > 0 and (piece := data.read(min(count, _PIECE))):
        count -= len(piece)
        yield piece


def _all(data: BinaryIO) -> Iterator[bytes]:
    while piece := data.read(_PIECE):
        yield piece
