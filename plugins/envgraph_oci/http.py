"""One request and its answer: connections, redirects, bounded bodies. The owner of urllib3.

Rules: retries and redirects are our own; an Authorization header goes to the origin that it
was given for and not on with a redirect to another one; no answer is decompressed; a body
that is not streamed has a limit.
"""

from __future__ import annotations

import io
import logging
import ssl
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from envgraph.api import RegistryError, proxy_for
from envgraph_oci import faults
from envgraph_oci.options import (
    OciOptions,
    Origin,
    Place,
    next_address,
    origin_of,
    special,
    wrong,
)

Body = Callable[[], Generator[bytes, None, None]]
"""Makes the pieces of a body; called again for each try."""

_REDIRECTS: Final = 10
_ERROR_LIMIT: Final = 64 << 10
_LEFT_OVER: Final = 64 << 10
_TARGET: Final = "X-Envgraph-Target"
_FAULTS: Final = (urllib3.exceptions.HTTPError, OSError)
_CERTIFICATES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


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


class Answer:
    """An answer whose body is still to come. ``url`` is the address that gave it in the end."""

    def __init__(
        self, http: Http, call: Call, url: str, response: urllib3.BaseHTTPResponse
    ) -> None:
        """Bind; the body is read by :meth:`read`, or streamed by :class:`Stream`."""
        self._http = http
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
        parts: list[bytes] = []
        left = limit + 1
        try:
            if (self.length or 0) > limit:
                return None
            while left and (data := self.response.read1(left)):
                parts.append(data)
                left -= len(data)
        except _FAULTS as error:
            raise faults.of_connection(self._http.place.title, error) from None
        finally:
            self.close(whole=left > 0)
        return b"".join(parts) if left else None

    def check_encoding(self) -> None:
        """Refuse a compressed answer: nothing asked for one, and it has no bound."""
        if self.header("Content-Encoding").lower() not in ("", "identity"):
            self.close()
            raise RegistryError(
                f"{self._http.place.title}: {self._call.what}: the answer is compressed"
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
        small = (self.length or 0) <= _LEFT_OVER and "Transfer-Encoding" not in self.headers
        if self.status != 416 and (small or self._call.method == "HEAD"):
            self.response.drain_conn()
            self.close(whole=True)
        else:
            self.close()

    def error(self) -> RegistryError:
        """The error that this answer is; its body is read as far as it helps."""
        body = b""
        encoded = self.header("Content-Encoding").lower() not in ("", "identity")
        if self.status == 416 or encoded or self._call.method == "HEAD":
            self.discard()
        else:
            try:
                body = self.read(_ERROR_LIMIT) or b""
            except RegistryError:
                body = b""
        return faults.of_status(
            self._http.place.title, self._call.what, self.status, self.headers, body,
            secrets=self._http.secrets, now=self._http.wall(),
        )  # fmt: skip

    def answer_error(self, why: str, hint: str = "") -> RegistryError:
        """The error for an answer that makes no sense; the connection is ended."""
        self.close()
        return RegistryError(
            f"{self._http.place.title}: {self._call.what}: {why}", code="registry-answer", hint=hint
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
        except _FAULTS as error:
            raise faults.of_connection(self._title, error) from None
        self._whole = self._whole or not data
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the connection back, or end it when something is left."""
        if not self.closed:
            self._answer.close(whole=self._whole)
        super().close()


class Http:
    """Connections to one registry and to where it leads; safe for threads.

    ``root`` is the folder of relative paths, ``environ`` has proxies and certificates,
    ``wall`` is the time of day. ``secrets`` are taken out of what servers say.
    """

    def __init__(
        self,
        options: OciOptions,
        place: Place,
        *,
        root: str,
        environ: Mapping[str, str],
        wall: Callable[[], float],
    ) -> None:
        """Open nothing yet."""
        self.place = place
        self.wall = wall
        self.secrets: set[str] = set()
        self._options = options
        self._environ = environ
        self._root = root
        self._lock = threading.RLock()
        self._pools: dict[tuple[str, bool], urllib3.PoolManager] = {}
        self._own_kinds: set[str] = set()
        self._scheme = place.schemes[0] if len(place.schemes) == 1 else ""
        logging.getLogger("urllib3.connectionpool").addFilter(_without_queries)

    def close(self) -> None:
        """Close every connection that nobody uses."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    @property
    def origin(self) -> Origin:
        """The registry's own origin; asks it once where its scheme has to be found out."""
        with self._lock:
            if not self._scheme:
                self._scheme = self._find_scheme()
        return origin_of(f"{self._scheme}://{self.place.host}")

    def _find_scheme(self) -> str:
        """The first scheme that is spoken there. Nothing secret is sent for that."""
        first, second = self.place.schemes
        try:
            if self._ping(first) != 400 or first == "https":
                return first
        except RegistryError as error:
            if not ("TLS" in str(error) or (first == "http" and "broke" in str(error))):
                raise
            self._ping(second)
        return second

    def _ping(self, scheme: str) -> int:
        url = f"{scheme}://{self.place.host}/v2/"
        answer = self.send(Call("GET", url, "ask for its scheme", follow=False))
        answer.discard()
        return answer.status

    def send(self, call: Call, authorization: str = "") -> Answer:
        """The answer to a call, redirects followed. ``authorization`` is for its origin only."""
        url, origin = call.url, origin_of(call.url)
        for _ in range(_REDIRECTS + 1):
            headers = {
                "Accept-Encoding": "identity",
                "User-Agent": "envgraph",
                **call.headers,
                **({"Authorization": authorization} if authorization else {}),
            }
            answer = self._one(call, url, headers)
            location = answer.header("Location")
            reads = call.method in ("GET", "HEAD")
            moved = answer.status in ((301, 302, 303, 307, 308) if reads else (307, 308))
            if not moved or not location or not call.follow:
                return answer
            answer.discard()
            url = next_address(url, location, self.place)
            if origin_of(url) != origin:
                authorization = ""  # for good, even if a later redirect leads back
        raise RegistryError(
            f"{self.place.title}: {call.what}: more than {_REDIRECTS} redirects",
            code="registry-answer",
        )

    def _one(self, call: Call, url: str, headers: dict[str, str]) -> Answer:
        """One request on one connection."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if target.isascii() and target.isprintable() and " " not in target:
            headers[_TARGET] = target
        body = call.body() if callable(call.body) else call.body
        if body is not None:
            headers["Content-Length"] = str(call.size if callable(call.body) else len(body))  # type: ignore[arg-type]
        try:
            response = self._pool(url).request(
                call.method, url, body=body, headers=headers, preload_content=False,
                redirect=False, retries=False, decode_content=False,
            )  # fmt: skip
        except _FAULTS as error:
            raise faults.of_connection(self._title(url), error) from None
        except ValueError:
            raise RegistryError(
                f"{self.place.title}: {call.what}: an address that cannot be asked",
                code="registry-answer",
            ) from None
        finally:
            if isinstance(body, Generator):
                body.close()
        return Answer(self, call, url, response)

    def _title(self, url: str) -> str:
        origin = origin_of(url)
        return self.place.title if self._is_own(origin.host) else f"{self.place.title} → {origin}"

    def _is_own(self, host: str) -> bool:
        return host == self.place.hostname

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The connections for an address: by proxy, and apart where nothing is verified."""
        own = self._is_own(origin_of(url).host)
        proxy = proxy_for(url, self._environ) or ""
        with self._lock:
            if (proxy, own) not in self._pools:
                self._pools[proxy, own] = self._make_pool(proxy, own)
            return self._pools[proxy, own]

    def _make_pool(self, proxy: str, own: bool) -> urllib3.PoolManager:
        common: dict[str, Any] = {
            "timeout": urllib3.Timeout(
                connect=self._options.connect_timeout, read=self._options.read_timeout
            ),
            "maxsize": self._options.connections,
            "ssl_context": self._certificates(own),
        }
        if proxy:
            parts = urlsplit(proxy)
            login = None
            if parts.username is not None:
                pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
                login = urllib3.make_headers(proxy_basic_auth=pair)
                self.secrets |= {unquote(parts.password or ""), pair}
            bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
            manager: urllib3.PoolManager = urllib3.ProxyManager(bare, proxy_headers=login, **common)
        else:
            manager = urllib3.PoolManager(**common)
        manager.pool_classes_by_scheme = _pool_classes(None if proxy else self._check_peer)
        return manager

    def _certificates(self, own: bool) -> ssl.SSLContext:
        """Whom to trust: the user's variables or the system's, and ``ca`` beside them."""
        if own and self._options.insecure:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        named = next((self._environ[n] for n in _CERTIFICATES if self._environ.get(n)), "")
        ca = str(Path(self._root, self._options.ca)) if self._options.ca else ""
        path = named
        try:
            folder = bool(named) and Path(named).is_dir()
            context = ssl.create_default_context(
                cafile=named if named and not folder else None, capath=named if folder else None
            )
            path = ca
            if ca:
                context.load_verify_locations(cafile=ca)
        except OSError:
            raise wrong(f"the certificates in {path} cannot be read", "a file in PEM") from None
        return context

    def _check_peer(self, host: str, address: str) -> None:
        """Before a byte is sent elsewhere: not to this machine's or the cloud's own services.

        Names can mean any address, so that is asked of the connection itself.
        """
        kind = special(address)
        if self._is_own(host):
            self._own_kinds.add(kind)
        elif kind and kind not in self._own_kinds:
            raise RegistryError(
                f"{self.place.title} leads to {host}, a {kind} address, which is refused",
                code="registry-answer",
            )


def _without_queries(record: logging.LogRecord) -> bool:
    """urllib3 logs what it asks for, and storage services sign in the query."""
    record.args = (
        tuple(
            arg.partition("?")[0] if isinstance(arg, str) and arg.startswith("/") else arg
            for arg in (record.args if isinstance(record.args, tuple) else ())
        )
        or record.args
    )
    return True


def _pool_classes(check: Callable[[str, str], None] | None) -> dict[str, Any]:
    """urllib3's pools, with connections that look whom they reached and keep a target exact.

    (urllib3 writes the escapes of an address in upper case, and some registries sign the
    query of their upload addresses as they wrote it.)
    """

    def looked(connection: HTTPConnection, sock: Any) -> Any:
        if check is not None:
            try:
                check(connection.host.strip("[]").lower().rstrip("."), sock.getpeername()[0])
            except BaseException:
                sock.close()
                raise
        return sock

    def exact(url: str, headers: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
        kept = dict(headers or {})
        target = kept.pop(_TARGET, "")
        return (target if target and url.startswith("/") else url), kept

    class Plain(HTTPConnection):
        def _new_conn(self) -> Any:
            return looked(self, super()._new_conn())

        def request(
            self, method: str, url: str, body: Any = None, headers: Any = None, **more: Any
        ) -> None:
            url, headers = exact(url, headers)
            super().request(method, url, body, headers, **more)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> Any:
            return looked(self, super()._new_conn())

        def request(
            self, method: str, url: str, body: Any = None, headers: Any = None, **more: Any
        ) -> None:
            url, headers = exact(url, headers)
            super().request(method, url, body, headers, **more)

    plain = type("Pool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": Plain})
    secure = type("SecurePool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": Secure})
    return {"http": plain, "https": secure}
