"""The conversation with one registry: its address, its logins, its lists page by page."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from envgraph.api import RegistryError, check_repository, read_object
from envgraph.errors import IntegrityError
from envgraph_oci.answers import Answer, Call
from envgraph_oci.auth import Auth, Lookup, Scopes
from envgraph_oci.http import Http
from envgraph_oci.options import OciOptions, next_address, origin_of, place_of

HTML_HINT: Final = "is this a registry's address, and is no login page before it?"
_LIST_LIMIT: Final = 16 << 20
_MAX_PAGES: Final = 10_000
_NEXT: Final = re.compile(r'<([^<>]{1,4096})>\s*;[^,<]*?\brel="?next"?', re.IGNORECASE)


class Wire:
    """One registry to talk to. Opens nothing until it is asked; safe to use from threads."""

    def __init__(
        self,
        options: OciOptions,
        *,
        root: str,
        lookup: Lookup,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Bind; RegistryError ``registry-options`` when the options cannot be meant."""
        self.options = options
        self.place = place_of(options)
        self._http = Http(options, self.place, root=root, environ=environ, clock=clock, wall=wall)
        self.auth = Auth(self._http, lookup, options.auth_hosts)

    @property
    def title(self) -> str:
        """The host as the user writes it."""
        return self.place.title

    @property
    def base(self) -> str:
        """``https://host/v2/``."""
        return f"{self._http.origin}/v2/"

    def full_name(self, name: str) -> str:
        """A repository's name on the wire; refused when it is none."""
        check_repository(name)
        return check_repository(f"{self.place.prefix}/{name}" if self.place.prefix else name)

    def pages(
        self, url: str, scopes: Scopes, what: str, *, absent: bool = False
    ) -> Iterator[dict[str, Any]]:
        """The documents of a list, page by page along ``Link: rel=next``."""
        return (page for _, page in self.answers(url, scopes, what, absent=absent))

    def answers(
        self, url: str, scopes: Scopes, what: str, *, absent: bool = False
    ) -> Iterator[tuple[Answer, dict[str, Any]]]:
        """Pages with their answers. ``absent``: a first page that is not there is none."""
        seen: set[str] = set()
        for number in range(_MAX_PAGES):
            answer = self.auth.send(Call("GET", url, what), scopes)
            if answer.status == 404 and absent and not number:
                answer.discard()
                return
            if answer.status != 200:
                raise answer.error()
            data = answer.read(_LIST_LIMIT)
            try:
                document = read_object(data or b"", what)
            except IntegrityError:
                raise answer.answer_error("its answer is no list", HTML_HINT) from None
            yield answer, document
            seen.add(url)
            link = _NEXT.search(answer.header("Link")[:8192])
            if link is None:
                return
            url = next_address(answer.url, link[1], self.place)
            if origin_of(url) != origin_of(answer.url):
                raise answer.answer_error("its list goes on at another host, which is refused")
            if url in seen:
                raise answer.answer_error("its list has no end")
        raise RegistryError(f"{self.title}: {what}: more than {_MAX_PAGES} pages")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
