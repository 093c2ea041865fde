"""What a test server does wrong, and what it remembers of each request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fault:
    """What one path does wrong, ``times`` often (None: always), after ``skip`` good answers.

    ``status`` is what is answered, with ``headers`` (``Retry-After``, ``Location``).
    ``body``:

    ``empty``    nothing beside the status
    ``garbage``  bytes that are no index and no archive, with their own length
    ``wrong``    the file's length, every byte inverted
    ``half``     the file's length in the header, half of it, then the connection ends
    ``endless``  no length; bytes until the client goes or ``limit`` bytes are sent
    ``slow``     the right bytes, one in each packet
    ``good``     the right bytes (to answer them with another status or headers)
    ``hang``     nothing at all until the server is closed
    ``reset``    the connection is reset without an answer
    """

    status: int = 500
    body: Literal[
        "empty", "garbage", "wrong", "half", "endless", "slow", "good", "hang", "reset"
    ] = "empty"
    times: int | None = None
    skip: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    limit: int = 1 << 40
    content: bytes | None = None
    """Stands for the file's bytes where it is given: a bomb, an older index."""


def redirect(location: str, *, status: int = 302, times: int | None = None) -> Fault:
    """Send the client elsewhere: another path, host, port or scheme."""
    return Fault(status=status, headers={"Location": location}, times=times)


def unavailable(*, retry_after: str = "0", times: int | None = 1) -> Fault:
    """503 with a Retry-After, in seconds or as a date."""
    return Fault(status=503, headers={"Retry-After": retry_after}, times=times)


@dataclass(slots=True)
class Request:
    """One request as it came: the path without query and token, headers in lower case.

    It is there before the first byte of the answer is sent, and its counts run ahead
    of what the client has seen: who has read an answer finds it counted.
    """

    method: str
    path: str
    headers: dict[str, str]
    connection: int
    """Counts connections from 1: equal numbers shared one."""

    status: int = 0
    """0 until a status is sent."""

    sent: int = 0
    """Bytes of the answer's body that were given to the connection."""
