"""HTTP GET for archives: one loop that owns retries, redirects and credentials.

urllib3 moves the bytes and nothing else. Rules: credentials belong to an origin
(scheme, host, port) and go nowhere else; https never becomes http; a body is
bounded and must keep moving; what failed half-way is resumed by Range, and only
on a 206 that continues exactly where the bytes stopped.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from envgraph.conda import answers, credentials
from envgraph.conda.logins import Logins
from envgraph.errors import FetchError, IntegrityError
from envgraph.model.proxies import proxy_for

if TYPE_CHECKING:
    import urllib3

CHUNK: Final = 256 * 1024
_ATTEMPTS: Final = 5
_REDIRECTS: Final = 10
_CONNECT_SECONDS: Final = 30.0
_READ_SECONDS: Final = 60.0
_LONGEST_WAIT: Final = 60.0
_STALL_SECONDS: Final = 120.0
_STALL_BYTES: Final = 16 * 1024
_RETRY_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

Write = Callable[[bytes], object]


@dataclass(slots=True)
class Download:
    """How far one body has come; survives from one attempt to the next."""

    write: Write
    size: int | None
    limit: int
    secrets: tuple[str, ...] = ()
    received: int = 0
    validator: str = ""
    skip: int = 0
    method: str = "GET"
    mark: str = ""

    def take(self, data: bytes, where: str) -> None:
        """Hand new bytes on; refuse what is longer than promised."""
        if self.skip:
            dropped = min(self.skip, len(data))
            self.skip -= dropped
            data = data[dropped:]
        if self.received + len(data) > self.limit:
            raise IntegrityError(
                f"{where} is longer than the {self.limit} bytes it should have", code="too-long"
            )
        if data:
            self.write(data)
            self.received += len(data)


@dataclass(slots=True)
class _Failure(Exception):
    """One attempt failed; ``retry`` says whether another one may help."""

    summary: str
    retry: bool
    detail: str = ""
    wait: float | None = None
    status: int = 0

    def __str__(self) -> str:
        return self.summary


@dataclass
class Transport:
    """Connections for a run of downloads; close it, or use it as a context manager.

    ``environ`` gives proxies and certificates; ``sleep``, ``clock`` and ``jitter``
    are arguments so that tests do not wait. Thread-safe (urllib3's pools are).
    """

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    logins: Logins | None = None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    attempts: int = _ATTEMPTS
    _pools: dict[str, Any] = field(default_factory=dict, repr=False)

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        for pool in list(self._pools.values()):
            pool.clear()
        self._pools.clear()

    def get(self, url: str, write: Write, *, size: int | None, limit: int) -> int:
        """Stream the body of ``url`` (credentials in it are used) to ``write``.

        Returns the number of bytes. Raises FetchError (``retryable`` says whether
        waiting may help) and IntegrityError; both name the address without secrets.
        """
        return self._perform(
            url, Download(write, size, limit, credentials.secrets_of(url))
        ).received

    def get_marked(self, url: str, write: Write, *, limit: int) -> str:
        """As :meth:`get`; the ``ETag`` that tells these bytes from others, empty without one."""
        return self._perform(url, Download(write, None, limit, credentials.secrets_of(url))).mark

    def mark(self, url: str) -> str:
        """The ``ETag`` that the server has for an address now; reads no body."""
        secrets = credentials.secrets_of(url)
        return self._perform(url, Download(lambda data: 0, None, 0, secrets, method="HEAD")).mark

    def _perform(self, url: str, download: Download) -> Download:
        where = credentials.clean(url)
        failure = _Failure("", False)
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(self._pause(attempt, failure))
            try:
                self._attempt(url, download)
                return download
            except _Failure as error:
                failure = error
                if not error.retry:
                    break
        raised = FetchError(
            f"{where}: {failure.summary}",
            code="http-status" if failure.status else "fetch",
            detail=credentials.mask(failure.detail, download.secrets),
            hint=answers.hint(failure.status),
        )
        raised.retryable = failure.retry
        raised.status = failure.status
        raise raised

    def _pause(self, attempt: int, failure: _Failure) -> float:
        if failure.wait is not None:
            return min(max(failure.wait, 0.0), _LONGEST_WAIT)
        return float(min(_LONGEST_WAIT, 0.5 * 2 ** (attempt - 1) * (0.5 + self.jitter())))

    def _attempt(self, url: str, download: Download) -> None:
        import urllib3

        try:
            response = self._open(url, download)
            try:
                self._read(response, download, credentials.clean(url))
            finally:
                response.close()
                response.release_conn()
        except urllib3.exceptions.SSLError as error:
            raise _Failure("the certificate is not trusted", False, str(error)) from None
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, (ssl.SSLError, urllib3.exceptions.SSLError)):
                raise _Failure("the certificate is not trusted", False, str(error)) from None
            raise _Failure(answers.describe(error), True, str(error)) from None
        except (OSError, ValueError) as error:
            raise _Failure(
                answers.describe(error), isinstance(error, OSError), str(error)
            ) from None

    def _open(self, url: str, download: Download) -> urllib3.BaseHTTPResponse:
        origin = _origin(url)
        target = url
        for _ in range(_REDIRECTS):
            headers = {"Accept-Encoding": "identity", "User-Agent": "envgraph"}
            if _origin(target) == origin:
                headers |= self._authorization(target, url)
            if download.received:
                headers["Range"] = f"bytes={download.received}-"
                if download.validator:
                    headers["If-Range"] = download.validator
            response: urllib3.BaseHTTPResponse = self._pool(target).request(
                download.method,
                credentials.without_userinfo(target),
                headers=headers,
                preload_content=False,
                redirect=False,
                retries=False,
                decode_content=False,
            )
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                try:
                    self._check_status(response, download)
                except BaseException:
                    response.close()
                    raise
                return response
            response.close()
            target = _redirected(credentials.without_userinfo(target), location)
        raise _Failure(f"more than {_REDIRECTS} redirects", False)

    def _authorization(self, target: str, first: str) -> dict[str, str]:
        header = credentials.basic_header(first)
        if not header and self.logins is not None:
            header = self.logins.header(target)
        return {"Authorization": header} if header else {}

    def _check_status(self, response: urllib3.BaseHTTPResponse, download: Download) -> None:
        status = response.status
        if status == 200:
            download.skip = download.received
            download.validator = _validator(response.headers)
            download.mark = response.headers.get("ETag", "")
            return
        if status == 206 and download.received:
            _check_range(response.headers.get("Content-Range", ""), download)
            return
        retry = status in _RETRY_STATUS
        wait = answers.retry_after(response.headers.get("Retry-After")) if retry else None
        raise _Failure(f"the server answered {status} {response.reason or ''}".strip(), retry,
                       wait=wait, status=status)  # fmt: skip

    def _read(self, response: urllib3.BaseHTTPResponse, download: Download, where: str) -> None:
        started, mark = self.clock(), download.received
        length = response.headers.get("Content-Length", "")
        if length.isdecimal():
            promised = int(length) + (download.received if not download.skip else 0)
            if download.size is not None and promised != download.size:
                raise IntegrityError(
                    f"{where} has {promised} bytes, not {download.size}", code="wrong-size"
                )
        while data := response.read1(CHUNK):
            download.take(data, where)
            now = self.clock()
            if now - started > _STALL_SECONDS and download.received != download.size:
                if download.received - mark < _STALL_BYTES:
                    raise _Failure("the server sends almost nothing", True)
                started, mark = now, download.received
        if download.size is not None and download.received < download.size:
            raise _Failure(
                f"the body ended after {download.received} of {download.size} bytes", True
            )

    def _pool(self, url: str) -> Any:
        import urllib3

        proxy = proxy_for(url, self.environ)
        scheme = urlsplit(url).scheme
        key = f"{scheme} {proxy or ''}"
        pool = self._pools.get(key)
        if pool is None:
            logging.getLogger("urllib3.connectionpool").addFilter(answers.mask_log)
            common: dict[str, Any] = {
                "timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
                "maxsize": 8,
            }
            if scheme == "https" or (proxy or "").startswith("https:"):
                common["ssl_context"] = answers.trusted_certificates(self.environ)
            if proxy:
                login = credentials.userinfo(proxy)
                headers = (
                    urllib3.make_headers(proxy_basic_auth=f"{login[0]}:{login[1]}")
                    if login
                    else None
                )
                pool = urllib3.ProxyManager(
                    credentials.without_userinfo(proxy), proxy_headers=headers, **common
                )
            else:
                pool = urllib3.PoolManager(**common)
            self._pools[key] = pool
        return pool


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default


def _redirected(current: str, location: str) -> str:
    """Where a redirect leads; refuse what no archive server has a reason to ask for."""
    target = urljoin(current, location)
    parts, before = urlsplit(target), urlsplit(current)
    shown = credentials.clean(target)
    if parts.scheme not in ("http", "https"):
        raise _Failure(f"redirected to {shown}, which is not http", False)
    if before.scheme == "https" and parts.scheme == "http":
        raise _Failure(f"redirected from https to {shown}", False)
    if parts.username is not None:
        target = credentials.without_userinfo(target)
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return target
    if address.is_link_local and parts.hostname != before.hostname:
        raise _Failure(f"redirected to the link-local address {parts.hostname}", False)
    return target


def _validator(headers: Mapping[str, str]) -> str:
    tag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _check_range(text: str, download: Download) -> None:
    unit, _, rest = text.partition(" ")
    span, _, total = rest.partition("/")
    first, _, _last = span.partition("-")
    download.skip = 0
    wrong_total = (
        total not in ("*", "") and total.isdecimal() and download.size not in (None, int(total))
    )
    if unit != "bytes" or first != str(download.received) or wrong_total:
        raise _Failure(f"the server continued at {text!r}, not at {download.received}", False)
