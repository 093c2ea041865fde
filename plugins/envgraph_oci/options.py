"""What envgraph.yaml may say of an OCI registry, and the place that it means."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from envgraph.api import RegistryError, check_repository

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_HOST: Final = "registry-1.docker.io"
_UPLOADS: Final = ("whole", "single", "auto", "chunked")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?"
_HOST: Final = re.compile(
    rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII
)
_METADATA: Final = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16"})


@dataclass(frozen=True, slots=True)
class OciOptions:
    """The keys beside ``type: oci``. Times are seconds, sizes bytes."""

    url: str
    """``HOST[:PORT][/PREFIX]``, with ``https://`` or ``http://`` before it where it matters."""

    insecure: bool = False
    """Plain http, or https whose certificate is not checked; for this registry's host only."""

    ca: str = ""
    """A file of certificates (PEM) to trust beside those of the system."""

    auth_hosts: tuple[str, ...] = ()
    """Further ``host[:port]`` that may be given this registry's login: its token service."""

    connections: int = 4
    """How many connections stay open for further requests."""

    connect_timeout: int = 30
    read_timeout: int = 60

    upload: str = "whole"
    """``whole`` (POST, PUT), ``single`` (one POST), ``chunked`` (PATCH), or ``auto``: chunked
    where the registry says how long its chunks must be, else whole."""

    chunk_size: int = 16 << 20


class Origin(NamedTuple):
    """Whom credentials belong to: scheme, host and port, nothing less."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme] == self.port
        return f"{self.scheme}://{name}" + ("" if usual else f":{self.port}")


def origin_of(url: str) -> Origin:
    """The origin of an http or https address; ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http address")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname.lower().rstrip("."), port)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a registry is. ``schemes`` are tried in this order until one is spoken there."""

    title: str
    host: str
    schemes: tuple[str, ...]
    prefix: str = ""

    @property
    def hostname(self) -> str:
        """The host without its port, in lower case."""
        return origin_of(f"https://{self.host}").host


def wrong(summary: str, hint: str = "") -> RegistryError:
    """The error for settings that cannot be meant."""
    return RegistryError(summary, code="registry-options", hint=hint)


def place_of(options: OciOptions) -> Place:
    """The place behind options; RegistryError ``registry-options`` says what is wrong.

    The address is never repeated in the message where it may hold a password.
    """
    scheme, mark, rest = options.url.strip().rpartition("://")
    if "@" in rest or "?" in rest or "#" in rest:
        raise wrong(
            "the url of a registry is HOST[:PORT][/PREFIX], without login, query or fragment",
            "logins come from docker's config.json: `envgraph registry login HOST`",
        )
    host, _, prefix = rest.rstrip("/").partition("/")
    found = _HOST.fullmatch(host)
    if found is None or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise wrong(f"{host[:100]!r} is no host of a registry", "write HOST[:PORT][/PREFIX]")
    if prefix:
        check_repository(prefix)
    if options.upload not in _UPLOADS:
        raise wrong(f"upload is {options.upload[:40]!r}", f"it is one of {', '.join(_UPLOADS)}")
    for name in ("connections", "connect_timeout", "read_timeout", "chunk_size"):
        if getattr(options, name) < 1:
            raise wrong(f"{name} must be 1 or more")
    title = host.lower()
    if title in _DOCKER_HUB_NAMES and scheme in ("", "https"):
        return Place(DOCKER_HUB, _DOCKER_HUB_HOST, ("https",), prefix)
    return Place(title, title, _schemes(scheme + mark, title, options.insecure), prefix)


def _schemes(scheme: str, host: str, insecure: bool) -> tuple[str, ...]:
    """Docker's rule: https, but loopback and ``insecure`` hosts may be spoken to plainly."""
    try:
        local = is_loopback(origin_of(f"http://{host}").host)
    except ValueError:
        raise wrong(f"{host[:100]!r} is no host of a registry") from None
    if scheme == "https://":
        return ("https",)
    if scheme == "http://":
        if local or insecure:
            return ("http",)
        raise wrong(f"http://{host} would be neither secret nor safe", "add `insecure: true`")
    if scheme:
        raise wrong(f"{scheme[:20]!r} begins no address of a registry", "https:// or http:// does")
    if insecure:
        return ("https", "http")
    return ("http", "https") if local else ("https",)


def for_host(host: str, near: OciOptions | None) -> OciOptions:
    """The options for a bare ``host[:port]``, with what an entry for the same host sets."""
    if near is None:
        return OciOptions(host)
    scheme, mark, _ = near.url.rpartition("://")
    return replace(near, url=f"{scheme}{mark}{host}")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine by its form alone."""
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") if address is None else (
        address.is_loopback
    )  # fmt: skip


def special(host: str) -> str:
    """``link-local`` (cloud metadata too) or ``loopback`` for such an address, else empty."""
    address = _address(host)
    if address is not None and (address.is_link_local or str(address) in _METADATA):
        return "link-local"
    return "loopback" if is_loopback(host) else ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def next_address(before: str, location: str, place: Place) -> str:
    """Where ``location`` in the answer of ``before`` leads, its query kept as it is.

    RegistryError ``registry-answer`` for what no registry has a reason to send: no http,
    from https to http, with a login, to a link-local address.
    """
    try:
        target = urljoin(before, location)
        origin = origin_of(target)
    except ValueError:
        raise _bad_address(place, "an address that is not http") from None
    if urlsplit(target).username is not None:
        raise _bad_address(place, "an address with a login in it")
    if before.startswith("https:") and origin.scheme == "http":
        raise RegistryError(
            f"{place.title} leads from https to {origin}, which is refused",
            code="registry-answer",
            hint="a registry behind a proxy needs `X-Forwarded-Proto`, or `relativeurls`",
        )
    if special(origin.host) == "link-local" and origin.host != place.hostname:
        raise _bad_address(place, f"the link-local address {origin.host}")
    return target


def _bad_address(place: Place, what: str) -> RegistryError:
    return RegistryError(f"{place.title} leads to {what}, which is refused", code="registry-answer")
