"""What is asked and what comes back: bounded bodies, streams, connections given back."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import urllib3

from envgraph.api import RegistryError
from envgraph_oci import faults

Body = Callable[[], Generator[bytes, None, None]]
"""Makes the pieces of a body; called again for each try."""

FAULTS: Final = (urllib3.exceptions.HTTPError, OSError)
"""What urllib3 raises."""

_ERROR_LIMIT: Final = 64 << 10
_LEFT_OVER: Final = 64 << 10
_PATIENCE: Final = 60.0
"""Seconds before a slow body is judged."""

_SLOWEST: Final = 1024
"""Bytes a second, on average."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked. A body's ``size`` is sent as its length; ``follow``: go along redirects."""

    method: str
    url: str
    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Body | None = field(default=None, repr=False)
    size: int = 0
    follow: bool = True


class Owner(Protocol):
    """What an answer asks of the one who got it."""

    @property
    def title(self) -> str:
        """What messages call the registry."""
        ...

    def clock(self) -> float:
        """Seconds that only go forward."""
        ...

    def status_error(self, what: str, answer: Answer, body: bytes) -> RegistryError:
        """The error for a status that was not hoped for."""
        ...


class Answer:
    """An answer whose body is still to come. ``url`` is the address that gave it in the end."""

    def __init__(
        self, owner: Owner, call: Call, url: str, response: urllib3.BaseHTTPResponse
    ) -> None:
        """Bind; the body is read by :meth:`read`, or streamed by :class:`Stream`."""
        self._owner = owner
        self._call = call
        self.response = response
        self.url = url
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    def header(self, name: str) -> str:
        """A header's text, empty when it is not there."""
        return self.headers.get(name, "").strip()

    @property
    def media_type(self) -> str:
        """The Content-Type without parameters, in lower case."""
        return self.header("Content-Type").partition(";")[0].strip().lower()

    @property
    def length(self) -> int | None:
        """What Content-Length says; None when it says nothing."""
        text = self.header("Content-Length")
        return int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else None

    def read(self, limit: int) -> bytes | None:
        """The whole body; None when it is longer than ``limit``."""
        self.check_encoding()
        data, whole = bytearray(), False
        began = self._owner.clock()
        try:
            while (self.length or 0) <= limit and len(data) <= limit and not whole:
                piece = self.response.read1(limit + 1 - len(data))
                data += piece
                whole = not piece
                waited = self._owner.clock() - began
                if not whole and waited > _PATIENCE and len(data) < waited * _SLOWEST:
                    raise RegistryError(
                        f"{self._owner.title}: {self._call.what}: {len(data)} bytes came in"
                        f" {waited:.0f} seconds",
                        code="registry-down",
                        retryable=True,
                    )
        except FAULTS as error:
            raise faults.of_connection(self._owner.title, error) from None
        finally:
            self.close(whole=whole)
        return bytes(data) if whole else None

    def check_encoding(self) -> None:
        """Refuse a compressed answer: nothing asked for one, and it has no bound."""
        if self.header("Content-Encoding").lower() not in ("", "identity"):
            self.close()
            raise RegistryError(
                f"{self._owner.title}: {self._call.what}: the answer is compressed"
                " (Content-Encoding), which was not asked for",
                code="registry-answer",
            )

    def close(self, *, whole: bool = False) -> None:
        """Give the connection back when the ``whole`` body was read, else end it."""
        if not whole:
            self.response.close()
        self.response.release_conn()

    def discard(self) -> None:
        """Done with it: a small rest is read, so that the connection serves again."""
        if self._call.method == "HEAD" or self.status == 204 or self.length == 0:
            self.response.drain_conn()
            self.close(whole=True)
        elif self.status == 416 or self.length is None:
            self.close()
        else:
            with contextlib.suppress(RegistryError):
                self.read(_LEFT_OVER)

    def error(self) -> RegistryError:
        """The error that this answer is; its body is read as far as it helps."""
        body = b""
        encoded = self.header("Content-Encoding").lower() not in ("", "identity")
        if self.status == 416 or encoded or self._call.method == "HEAD":
            self.discard()
        else:
            with contextlib.suppress(RegistryError):
                body = self.read(_ERROR_LIMIT) or b""
        return self._owner.status_error(self._call.what, self, body)

    def answer_error(self, why: str, hint: str = "") -> RegistryError:
        """The error for an answer that makes no sense; the connection is ended."""
        self.close()
        return RegistryError(
            f"{self._owner.title}: {self._call.what}: {why}", code="registry-answer", hint=hint
        )


class Stream(io.RawIOBase):
    """The body of an answer as it comes; faults are RegistryErrors that may be tried again."""

    def __init__(self, answer: Answer, title: str) -> None:
        """Own the answer."""
        self._answer = answer
        self._title = title
        self._whole = False

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Whatever has come, at least one byte, up to the buffer's size."""
        try:
            data = self._answer.response.read1(len(buffer))
        except FAULTS as error:
            raise faults.of_connection(self._title, error) from None
        self._whole = self._whole or not data
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the connection back, or end it when something is left."""
        if not self.closed:
            self._answer.close(whole=self._whole)
        super().close()
