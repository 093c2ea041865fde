"""Serve a folder as a real HTTP/1.1 server on 127.0.0.1, count, and fail on demand.

It does what channel servers do: ETag and Last-Modified (repeated on 304), Range,
HEAD, keep-alive, a listen backlog of 256. It can ask for a password or a token. What
it can do wrong is a :class:`Fault`::

    with ChannelServer(folder) as server:
        server.fault("/noarch/repodata.json", Fault(status=500, times=2))
"""

from __future__ import annotations

import threading
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Self

from envgraph.testing.http_faults import Fault, Request, redirect, unavailable
from envgraph.testing.http_handler import Handler
from envgraph.testing.loopback import LoopbackServer

__all__ = ["ChannelServer", "Fault", "Request", "redirect", "unavailable"]


class ChannelServer:
    """Serves ``folder`` from construction of the ``with`` block until its end.

    ``username`` and ``password`` ask for basic authentication; ``token`` serves below
    ``/t/TOKEN/`` only. Every request is kept in :attr:`requests`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        username: str | None = None,
        password: str = "",
        token: str | None = None,
        validators: bool = True,
        ranges: bool = True,
    ) -> None:
        """``validators=False`` sends neither ETag nor Last-Modified."""
        self.folder = Path(folder)
        self.username, self.password, self.token = username, password, token
        self.validators, self.ranges = validators, ranges
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._faults: dict[str, list[Fault]] = {}
        self._hits: Counter[tuple[str, int]] = Counter()
        self._connections = 0
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.end_connections()
        self._server.server_close()

    @property
    def port(self) -> int:
        """The port that the system chose."""
        return int(self._server.server_address[1])

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:PORT`` without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The channel's address, with the token where there is one, without a password."""
        return f"{self.origin}/t/{self.token}" if self.token else self.origin

    @property
    def url_with_password(self) -> str:
        """The address with ``user:password@`` in it."""
        quoted = urllib.parse.quote(self.password, safe="")
        return self.url.replace("://", f"://{self.username}:{quoted}@")

    @property
    def requests(self) -> tuple[Request, ...]:
        """All requests, in the order in which they came."""
        with self._lock:
            return tuple(self._requests)

    @property
    def bytes_sent(self) -> int:
        """Bytes of bodies sent so far."""
        return sum(request.sent for request in self.requests)

    @property
    def authorizations(self) -> tuple[str, ...]:
        """Every Authorization header that came, in order."""
        return tuple(
            request.headers["authorization"]
            for request in self.requests
            if "authorization" in request.headers
        )

    def count(self, path: str | None = None, *, method: str | None = None) -> int:
        """How many requests came, of one path (without token) or of all."""
        return sum(
            (path is None or request.path == path) and (method is None or request.method == method)
            for request in self.requests
        )

    def forget(self) -> None:
        """Begin counting anew; faults stay."""
        with self._lock:
            self._requests.clear()

    def fault(self, path: str, *faults: Fault) -> Self:
        """Script a path (``/noarch/repodata.json``, or ``*`` for all): one fault after another."""
        with self._lock:
            self._faults[path] = list(faults)
            for key in [key for key in self._hits if key[0] == path]:
                del self._hits[key]
        return self

    def heal(self) -> None:
        """Do nothing wrong from now on."""
        with self._lock:
            self._faults.clear()
            self._hits.clear()

    def take_fault(self, path: str) -> Fault | None:
        """The fault that the next answer for a path shows; each call counts as one answer."""
        with self._lock:
            for pattern in (path, "*"):
                for number, fault in enumerate(self._faults.get(pattern, ())):
                    self._hits[pattern, number] += 1
                    hits = self._hits[pattern, number]
                    if hits <= fault.skip:
                        return None
                    if fault.times is None or hits <= fault.skip + fault.times:
                        return fault
        return None

    def note(self, request: Request) -> None:
        """Keep a request."""
        with self._lock:
            self._requests.append(request)

    def next_connection(self) -> int:
        """The number of a new connection."""
        with self._lock:
            self._connections += 1
            return self._connections


class _Server(LoopbackServer):
    def __init__(self, owner: ChannelServer) -> None:
        self.owner = owner
        super().__init__(Handler)
