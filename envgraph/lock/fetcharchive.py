"""An archive at an address, brought into a file: over HTTP as every archive, or copied."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from envgraph.conda import credentials
from envgraph.conda.logins import Logins
from envgraph.conda.transport import CHUNK, Transport
from envgraph.errors import FetchError, OfflineError
from envgraph.lock.archivetree import LARGEST
from envgraph.spec.context_address import shown_address


def fetch_archive(address: str, to: Path, *, offline: bool) -> tuple[str, str]:
    """Write the archive to ``to``; its sha256, and the server's ``ETag`` or nothing.

    ``address`` has its credentials in place; no error shows them. FetchError, OfflineError.
    """
    sha256 = hashlib.sha256()
    with to.open("wb") as stream:

        def take(data: bytes) -> None:
            sha256.update(data)
            stream.write(data)

        if address.startswith("file://"):
            _copy(Path(unquote(urlsplit(address).path)), take)
            return sha256.hexdigest(), ""
        with _asked(address, offline), Transport(os.environ, Logins(os.environ)) as transport:
            mark = transport.get_marked(address, take, limit=LARGEST)
    return sha256.hexdigest(), mark


def mark_now(address: str, *, offline: bool) -> str:
    """The ``ETag`` that the server has for the archive now; empty where it has none."""
    with _asked(address, offline), Transport(os.environ, Logins(os.environ)) as transport:
        return transport.mark(address)


def sha256_of(address: str) -> str:
    """The sha256 of an archive on this machine now; FetchError."""
    sha256 = hashlib.sha256()
    _copy(Path(unquote(urlsplit(address).path)), sha256.update)
    return sha256.hexdigest()


@contextmanager
def _asked(address: str, offline: bool) -> Iterator[None]:
    """A connection that may be opened; errors without what the query says."""
    if offline:
        raise OfflineError(
            f"{shown_address(address)} would need a connection",
            hint="run it without --offline once: what is pinned needs none afterwards",
        )
    try:
        yield
    except FetchError as error:
        secrets = [value for _, value in parse_qsl(urlsplit(address).query)]
        [first, *_] = error.diagnostics
        detail = credentials.mask(first.detail, [*secrets, urlsplit(address).query])
        raised = FetchError(replace(first, detail=detail))
        raised.status, raised.retryable = error.status, error.retryable
        raise raised from None


def _copy(path: Path, take: Callable[[bytes], None]) -> None:
    try:
        with path.open("rb") as stream:
            while data := stream.read(CHUNK):
                take(data)
    except OSError as error:
        raised = FetchError(f"{path} cannot be read", code="context-archive",
                            detail=error.strerror or str(error))  # fmt: skip
        raised.status = 404 if isinstance(error, FileNotFoundError) else 0
        raise raised from None
