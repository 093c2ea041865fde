"""A registry over HTTP on 127.0.0.1 that does what a script says, and else what is right.

::

    with ScriptedRegistry() as server:
        server.script("PUT", r"/blobs/uploads/", Reply(202))
        ...
        assert server.count("PUT") == 1

It keeps everything in memory and every request in :attr:`ScriptedRegistry.requests`. It can
ask for a login or for tokens, and be a token service. What is right is the distribution
spec 1.1, in :mod:`envgraph.testing.registry.scripted_answers`.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal, Self

from envgraph.testing.loopback import LoopbackServer
from envgraph.testing.registry.scripted_answers import Contents, TokenService

_PIECE = 64 << 10
_KEPT = 1 << 20
"""Bodies up to here are remembered with their requests."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and in ``fault`` what becomes of it.

    ``half``     the header promises the whole body, half of it comes, the connection ends
    ``endless``  no length, and zeros until the client goes or 256 MiB were sent
    ``reset``    the connection is reset without an answer
    ``hang``     nothing until the server closes
    ``early``    answered before the request's body was read; the connection ends
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fault: Literal["", "half", "endless", "reset", "hang", "early"] = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it came; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def authorization(self) -> str:
        """The Authorization header, empty without one."""
        return self.headers.get("authorization", "")


Answering = Reply | Callable[[Seen], Reply | None]
"""What a script holds: an answer, or a function of the request (None: do what is right)."""


@dataclass(slots=True)
class _Rule:
    method: str
    pattern: re.Pattern[str]
    answers: list[Answering]
    always: bool


class ScriptedRegistry:
    """Serves from construction until the end of the ``with`` block.

    ``login``: (name, password) for basic authentication. ``tokens``: whose tokens it takes;
    ``realm`` is then the address that its challenge names. ``certificate`` (certificate and
    key in PEM) makes it speak TLS.
    """

    def __init__(
        self,
        *,
        login: tuple[str, str] | None = None,
        tokens: TokenService | None = None,
        realm: str = "",
        referrers: bool = True,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        """``referrers=False``: it has no referrers API."""
        self.contents = Contents(referrers=referrers)
        self.login, self.tokens, self.realm = login, tokens, realm
        self.closing = threading.Event()
        self._lock = threading.RLock()
        self._requests: list[Seen] = []
        self._rules: list[_Rule] = []
        self._connections = 0
        self._server = _Server(self, certificate)
        self._scheme = "https" if certificate else "http"
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
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """With its scheme."""
        return f"{self._scheme}://{self.host}"

    def script(self, method: str, pattern: str, *answers: Answering, always: bool = False) -> None:
        """Answer requests whose target holds ``pattern`` so: one each, or ``always`` the last."""
        with self._lock:
            self._rules.append(_Rule(method, re.compile(pattern), list(answers), always))

    @property
    def requests(self) -> tuple[Seen, ...]:
        """Every request, in the order in which they came."""
        with self._lock:
            return tuple(self._requests)

    @property
    def authorizations(self) -> list[str]:
        """Every Authorization header that came."""
        return [seen.authorization for seen in self.requests if seen.authorization]

    def count(self, method: str = "", pattern: str = "") -> int:
        """How many requests came."""
        return sum(
            method in ("", seen.method) and bool(re.search(pattern, seen.target))
            for seen in self.requests
        )

    def forget(self) -> None:
        """Begin counting anew."""
        with self._lock:
            self._requests.clear()

    def scripted(self, seen: Seen) -> Reply | None:
        """What the script says for a request; None when it says nothing."""
        with self._lock:
            for rule in self._rules:
                if rule.method in ("*", seen.method) and rule.pattern.search(seen.target):
                    last = rule.always and len(rule.answers) == 1
                    answer = rule.answers[0] if last else rule.answers.pop(0)
                    if not rule.answers:
                        self._rules.remove(rule)
                    reply = answer if isinstance(answer, Reply) else answer(seen)
                    if reply is not None:
                        return reply
        return None

    def note(self, seen: Seen) -> None:
        """Keep a request."""
        with self._lock:
            self._requests.append(seen)

    def answer(self, seen: Seen) -> Reply:
        """What is right."""
        with self._lock:
            if self.tokens is not None and seen.path == "/token":
                return Reply(*self.tokens.answer(seen.method, seen.target, seen.headers, seen.body))
            refusal = self._refusal(seen)
            if refusal is not None:
                return refusal
            return Reply(*self.contents.answer(seen.method, seen.target, seen.headers, seen.body))

    def _refusal(self, seen: Seen) -> Reply | None:
        if self.login is not None:
            import base64

            wanted = base64.b64encode(":".join(self.login).encode()).decode()
            if seen.authorization != f"Basic {wanted}":
                return Reply(401, {"WWW-Authenticate": 'Basic realm="scripted"'})
        if self.tokens is not None and self.realm:
            challenge = self.tokens.refusal(
                seen.method, seen.target, seen.authorization, self.realm
            )
            if challenge:
                return Reply(401, {"WWW-Authenticate": challenge})
        return None

    def next_connection(self) -> int:
        """The number of a new connection."""
        with self._lock:
            self._connections += 1
            return self._connections


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.owner: ScriptedRegistry = self.server.owner
        self.number = self.owner.next_connection()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def handle_expect_100(self) -> bool:
        return True

    def _any(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        try:
            head = Seen(self.command, self.path, headers, b"", self.number)
            reply = self.owner.scripted(head)
            body = b"" if reply is not None and reply.fault == "early" else self._body(headers)
            seen = Seen(self.command, self.path, headers, body, self.number)
            self.owner.note(seen if len(body) <= _KEPT else replace(seen, body=b""))
            self._send(reply if reply is not None else self.owner.answer(seen))
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def _body(self, headers: Mapping[str, str]) -> bytes:
        """The request's body; a client that goes away in the middle ends the connection."""
        length = int(headers.get("content-length", "0"))
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionError("the request's body ended early")
        return data

    def _send(self, reply: Reply) -> None:
        if reply.fault == "hang":
            self.close_connection = True
            self.owner.closing.wait()
            return
        if reply.fault == "reset":
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        body = reply.body[: len(reply.body) // 2] if reply.fault == "half" else reply.body
        self.close_connection = self.close_connection or bool(reply.fault)
        self.send_response(reply.status)
        headers = {key.lower() for key in reply.headers}
        for key, value in reply.headers.items():
            self.send_header(key, value)
        if "content-length" not in headers and reply.fault != "endless" and reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in _zeros() if reply.fault == "endless" else (body,):
            self.wfile.write(piece)


def _zeros() -> Iterator[bytes]:
    for _ in range((256 << 20) // _PIECE):
        yield b"\0" * _PIECE


class _Server(LoopbackServer):
    def __init__(self, owner: ScriptedRegistry, certificate: tuple[Path, Path] | None) -> None:
        self.owner = owner
        super().__init__(_Handler)
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
