"""Connections by urllib3: proxies, certificates, and whom a connection has reached."""

from __future__ import annotations

import logging
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from envgraph.api import RegistryError, proxy_for
from envgraph_oci.options import OciOptions, Place, origin_of, special, wrong

TARGET: Final = "X-Envgraph-Target"
"""Never sent: it tells a connection the exact path and query to ask for."""

_CERTIFICATES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


_QUERY: Final = re.compile(r"(/[^\s\"?]*)\?[^\s\"]*")


class Connections:
    """The pools of one registry; safe for threads. See :class:`envgraph_oci.http.Http`."""

    def __init__(
        self,
        options: OciOptions,
        place: Place,
        root: str,
        environ: Mapping[str, str],
        secrets: set[str],
    ) -> None:
        """Open nothing yet. ``secrets`` gets the proxy's password."""
        self._place = place
        self._options = options
        self._environ = environ
        self._root = root
        self._secrets = secrets
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, bool], urllib3.PoolManager] = {}
        self._own_kinds: set[str] = set()
        logging.getLogger("urllib3.connectionpool").addFilter(without_queries)

    def close(self) -> None:
        """Close every connection that nobody uses."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def is_own(self, host: str) -> bool:
        """Whether a host is the registry itself."""
        return host == self._place.hostname

    def pool(self, url: str) -> urllib3.PoolManager:
        """The connections for an address: by proxy, and apart where nothing is verified."""
        own = self.is_own(origin_of(url).host)
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
                self._secrets |= {unquote(parts.password or ""), pair}
            bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
            manager: urllib3.PoolManager = urllib3.ProxyManager(bare, proxy_headers=login, **common)
        else:
            manager = urllib3.PoolManager(**common)
        manager.pool_classes_by_scheme = _pool_classes(
            None if proxy else self._check_peer, quiet=own and self._options.insecure
        )
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
        if self.is_own(host):
            self._own_kinds.add(kind)
        elif kind and kind not in self._own_kinds:
            raise RegistryError(
                f"{self._place.title} leads to {host}, a {kind} address, which is refused",
                code="registry-answer",
            )


def without_queries(record: logging.LogRecord) -> bool:
    """urllib3 logs what it asks for, and storage services sign in the query.

    The whole line is looked at: another filter may have put the arguments into it.
    """
    record.msg, record.args = _QUERY.sub(r"\1?…", record.getMessage()), ()
    return True


def _pool_classes(check: Callable[[str, str], None] | None, *, quiet: bool) -> dict[str, Any]:
    """urllib3's pools, with connections that look whom they reached and keep a target exact.

    (urllib3 writes the escapes of an address in upper case, and some registries sign the
    query of their upload addresses as they wrote it.) ``quiet``: the user has said that no
    certificate is checked, and is not warned of it by urllib3 at each request.
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
        target = kept.pop(TARGET, "")
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

        def connect(self) -> None:
            super().connect()
            self.is_verified = self.is_verified or quiet

        def request(
            self, method: str, url: str, body: Any = None, headers: Any = None, **more: Any
        ) -> None:
            url, headers = exact(url, headers)
            super().request(method, url, body, headers, **more)

    plain = type("Pool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": Plain})
    secure = type("SecurePool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": Secure})
    return {"http": plain, "https": secure}
