"""One request and its answer, along redirects.

Rules: retries and redirects are our own; an Authorization header goes to the origin that it
was given for and not on with a redirect to another one; no answer is decompressed; a body
that is not streamed has a limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from envgraph.api import RegistryError
from envgraph_oci import faults
from envgraph_oci.answers import FAULTS, Answer, Call
from envgraph_oci.connections import TARGET, Connections
from envgraph_oci.options import OciOptions, Origin, Place, next_address, origin_of

_REDIRECTS: Final = 10


class Http:
    """Connections to one registry and to where it leads; safe for threads.

    ``root`` is the folder of relative paths, ``environ`` has proxies and certificates,
    ``clock`` counts seconds and ``wall`` is the time of day. ``secrets`` are taken out of
    what servers say.
    """

    def __init__(
        self,
        options: OciOptions,
        place: Place,
        *,
        root: str,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """Open nothing yet."""
        self.place = place
        self.title = place.title
        self.clock = clock
        self._wall = wall
        self.secrets: set[str] = set()
        self._connections = Connections(options, place, root, environ, self.secrets)
        self._lock = threading.RLock()
        self._scheme = place.schemes[0] if len(place.schemes) == 1 else ""

    def close(self) -> None:
        """Close every connection that nobody uses."""
        self._connections.close()

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
            f"{self.title}: {call.what}: more than {_REDIRECTS} redirects",
            code="registry-answer",
        )

    def _one(self, call: Call, url: str, headers: dict[str, str]) -> Answer:
        """One request on one connection."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if target.isascii() and target.isprintable() and " " not in target:
            headers[TARGET] = target
        body: bytes | Generator[bytes, None, None] | None
        if callable(call.body):
            body, headers["Content-Length"] = call.body(), str(call.size)
        else:
            body = call.body
        try:
            response = self._connections.pool(url).request(
                call.method, url, body=body, headers=headers, preload_content=False,
                redirect=False, retries=False, decode_content=False,
            )  # fmt: skip
        except FAULTS as error:
            raise faults.of_connection(self._place_of(url), error) from None
        except ValueError:
            raise RegistryError(
                f"{self.title}: {call.what}: an address that cannot be asked",
                code="registry-answer",
            ) from None
        finally:
            if isinstance(body, Generator):
                body.close()
        return Answer(self, call, url, response)

    def status_error(self, what: str, answer: Answer, body: bytes) -> RegistryError:
        """The error for a status, with what the registry says of it and no secret.

        What the address has in its query may be a signature.
        """
        query = urlsplit(answer.url).query
        signed = {query, *(value for _, value in parse_qsl(query) if len(value) > 7)}
        signed |= {quote(value, safe="") for value in signed}
        return faults.of_status(
            self.title, what, answer.status, answer.headers, body,
            secrets=self.secrets | signed, now=self._wall(),
        )  # fmt: skip

    def _place_of(self, url: str) -> str:
        """What messages call the place of an address; without path and query."""
        origin = origin_of(url)
        own = self._connections.is_own(origin.host)
        return self.title if own else f"{self.title} → {origin}"
