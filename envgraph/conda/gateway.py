"""How rattler is run and what it is told: loops, connections, virtual packages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from envgraph.conda import credentials
from envgraph.conda.channels import ChannelSource
from envgraph.errors import InputError

if TYPE_CHECKING:
    from rattler import Gateway, GenericVirtualPackage

T = TypeVar("T")

_REQUEST_SECONDS: Final = 900
_RETRIES: Final = 3


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where this thread already has a loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, name="envgraph-solve")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def subdirs(platform: str) -> list[Any]:
    """The folders of a channel that a platform uses."""
    import rattler

    return [rattler.Subdir(platform)] + ([] if platform == "noarch" else [rattler.Subdir("noarch")])


def open_gateway(sources: Sequence[ChannelSource], cache: Path) -> Gateway:
    """A gateway whose requests carry credentials that its cache never sees.

    rattler is given addresses without credentials. On the wire only, the mirror
    middleware puts tokens in place, and a header carries user and password (rattler
    ignores them in a mirror's address).
    """
    import rattler
    from rattler.networking import (
        AddHeadersMiddleware,
        AuthenticationMiddleware,
        Client,
        MirrorMiddleware,
        RetryMiddleware,
    )

    secret = [s for s in sources if s.has_credentials and not s.is_file]
    tokens = {s.address: [credentials.without_userinfo(s.secret_address)] for s in secret}
    tokens = {address: place for address, place in tokens.items() if place != [address]}
    headers = {s.address: credentials.basic_header(s.secret_address) for s in secret}
    middlewares: list[Any] = [RetryMiddleware(_RETRIES)]
    if any(headers.values()):
        middlewares.append(AddHeadersMiddleware(_header_giver(headers)))
    if tokens:
        middlewares.append(MirrorMiddleware(tokens))
    middlewares.append(AuthenticationMiddleware())
    cache.mkdir(parents=True, exist_ok=True)
    return rattler.Gateway(
        cache_dir=cache,
        client=Client(middlewares, user_agent="envgraph", timeout=_REQUEST_SECONDS),
    )


class Gateways:
    """Gateways of one piece of work, used again for the same channels.

    Opening one reads the system's certificates (10 ms), and each keeps the repodata that
    it has read: environments that are locked together ask about one state of a channel.
    Not for longer than that: what a channel has by then would not be seen.
    """

    def __init__(self) -> None:
        """None is open yet."""
        self._open: dict[tuple[object, ...], Gateway] = {}

    def get(self, sources: Sequence[ChannelSource], cache: Path) -> Gateway:
        """The gateway for these channels, opened when it is first asked for."""
        # Equal channels may be asked for with other credentials.
        key = (cache, *((source.address, source.secret_address) for source in sources))
        if key not in self._open:
            self._open[key] = open_gateway(sources, cache)
        return self._open[key]


def _header_giver(headers: Mapping[str, str]) -> Callable[[str, str], dict[str, str] | None]:
    """Which Authorization a request gets, by its host and the channel's path."""
    known = [
        (parts.hostname or "", parts.netloc, parts.path.rstrip("/") + "/", header)
        for parts, header in ((urlsplit(address), header) for address, header in headers.items())
        if header
    ]
    known.sort(key=lambda item: -len(item[2]))

    def give(host: str, path: str) -> dict[str, str] | None:
        for hostname, netloc, prefix, header in known:
            if host in (hostname, netloc) and path.startswith(prefix):
                return {"Authorization": header}
        return None

    return give


def virtual_packages(given: Mapping[str, str]) -> list[GenericVirtualPackage]:
    """Rattler's virtual packages for ``name → version[=build]``; InputError for no version."""
    from rattler import GenericVirtualPackage, PackageName
    from rattler.package import BuildString
    from rattler.version import Version

    made = []
    for name, text in sorted(given.items()):
        version, _, build = text.partition("=")
        try:
            made.append(
                GenericVirtualPackage(
                    PackageName(name), Version(version), BuildString(build or "0")
                )
            )
        except Exception as error:
            raise InputError(
                f"virtual_packages: {name}: {text!r} is no version",
                code="virtual-package",
                detail=str(error),
            ) from None
    return made
