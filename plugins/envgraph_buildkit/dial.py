"""Byte streams to a server: plain, TLS, and dockerd's upgrade from HTTP/1.1 to HTTP/2.

grpcio dials by itself and cannot be handed a socket. Where a connection has to be upgraded
first, a private unix socket stands between: grpcio connects to it, and each of its
connections is joined to an upgraded one.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from envgraph.api import BuilderError
from envgraph_buildkit.options import SETTING, Endpoint
from envgraph_buildkit.tls import context_of, no_tls, reason_of

_LATE_SECONDS: Final = 2.0
_CHUNK: Final = 1 << 16
_UPGRADE: Final = (
    b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_HEAD_LIMIT: Final = 1 << 14

Dial = Callable[[], socket.socket]


def dial(endpoint: Endpoint) -> socket.socket:
    """A connection to the server, TLS where the endpoint has it; BuilderError else."""
    secure = None if endpoint.tls is None or endpoint.local else context_of(endpoint.tls)
    made: socket.socket | None = None
    try:
        if endpoint.local:
            made = socket.socket(socket.AF_UNIX)
            made.settimeout(endpoint.connect_seconds)
            made.connect(endpoint.path)
        else:
            made = socket.create_connection(endpoint.host_port, endpoint.connect_seconds)
        if secure is not None and endpoint.tls is not None:
            name = endpoint.tls.server_name or endpoint.host_port[0]
            made = secure.wrap_socket(made, server_hostname=name)
        made.settimeout(None)
    except OSError as error:
        if made is not None:
            made.close()
        if isinstance(error, ssl.SSLError):
            raise no_tls(endpoint, error) from None
        raise unreachable(endpoint, str(error)) from None
    return made


def unreachable(endpoint: Endpoint, reason: str) -> BuilderError:
    """Nothing answers there."""
    hint = "start dockerd or buildkitd, or correct the address"
    if "Permission denied" in reason:
        hint = "join the group that may use the socket (often `docker`), or use another builder"
    elif "reset" in reason and endpoint.tls is None:
        hint += "; a server that speaks TLS needs `ca:`, and often `cert:` and `key:`"
    whence = "" if endpoint.why == SETTING else f"The address is from {endpoint.why}. "
    return BuilderError(
        f"no BuildKit answers at {endpoint.address}",
        code="builder-down",
        detail=f"{whence}{reason}",
        hint=hint,
        retryable=True,
    )


def late_refusal(endpoint: Endpoint) -> BuilderError | None:
    """What the server has against this client's certificate; None where it has nothing.

    With TLS 1.3 it tells so after the handshake, and only who sends nothing is sure to read it.
    """
    if endpoint.tls is None or endpoint.local:
        return None
    try:
        with dial(endpoint) as probe:
            probe.settimeout(_LATE_SECONDS)
            probe.recv(1)
    except ssl.SSLError as error:
        return no_tls(endpoint, error) if "ALERT" in reason_of(error) else None
    except (OSError, BuilderError):
        return None
    return None


def upgrade(connection: socket.socket, seconds: float = 10.0) -> bytes | None:
    """Turn a connection to dockerd into one of HTTP/2; the first bytes of it.

    None when the server did not take it: it is spoken to plainly then, on a new connection.
    TimeoutError when nothing came within ``seconds``: whoever speaks only HTTP/2 says so at once.
    """
    connection.settimeout(seconds)
    try:
        connection.sendall(_UPGRADE)
        head = b""
        while b"\r\n\r\n" not in head:
            part = connection.recv(_CHUNK)
            head += part
            if not part or len(head) > _HEAD_LIMIT or not head.startswith(b"HTTP/1."[: len(head)]):
                return None
    except TimeoutError:
        raise
    except OSError:
        return None
    connection.settimeout(None)
    status, _, rest = head.partition(b"\r\n\r\n")
    return rest if status.split(b" ", 2)[1:2] == [b"101"] else None


def join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways in two threads until both ends are done; then both are closed."""
    left = threading.Lock()
    open_ways = [2]

    def carry(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(_CHUNK):
                target.sendall(part)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        with left:
            open_ways[0] -= 1
            last = open_ways[0] == 0
        if last:
            source.close()
            target.close()

    for pair in ((one, other), (other, one)):
        threading.Thread(target=carry, args=pair, name="buildkit-bytes", daemon=True).start()


class PrivateFolder:
    """A folder of this user's for sockets, with a path short enough for them."""

    def __init__(self) -> None:
        """Make it."""
        place = tempfile.gettempdir()
        self.path = Path(tempfile.mkdtemp(prefix="egbk-", dir=place if len(place) < 60 else "/tmp"))  # noqa: S108

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)


class Gate:
    """A private unix socket whose every connection becomes an upgraded one to dockerd."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        """Listen; nothing is dialled yet."""
        self._endpoint = endpoint
        self.address = f"unix://{folder}/gate.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/gate.sock")
        self._listener.listen()
        threading.Thread(target=self._accept, name="buildkit-gate", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            try:
                outer = dial(self._endpoint)
                first = upgrade(outer, self._endpoint.connect_seconds)
                if first is None:
                    outer.close()
                    raise OSError("no upgrade")
                inner.sendall(first)
            except (OSError, BuilderError):
                inner.close()  # grpcio says `unavailable`, and tries again
                continue
            join(inner, outer)

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
