"""Secrets in addresses: taken out, put back for one origin, never shown.

An address may carry a user and password (``https://user:pw@host/``), a conda
token (``/t/TOKEN/``) or references (``${NAME}``) to variables or to the
workspace's ``secrets``. Everything that is stored, hashed, logged or printed
goes through :func:`clean` or :func:`mask` first.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from envgraph.errors import InputError

_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)")
_TOKEN: Final = re.compile(r"/t/([^/]+)(?=/|$)")
_URL_USERINFO: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@'\"]+@")
_ADDRESS: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s#]+")
_TOKEN_IN_URL: Final = re.compile(r"(://[^\s'\"]*?)/t/[^/\s:'\"]+")
_TOKEN_IN_PATH: Final = re.compile(r"/t/[^/\s]+/")
_MASK: Final = "***"
_SHORTEST_SECRET: Final = 4


def has_reference(text: str) -> bool:
    """Whether ``text`` holds a ``${NAME}``."""
    return _REFERENCE.search(text) is not None


def _read_secret(name: str, where: str) -> str:
    kind, _, rest = where.partition(":")
    if kind == "file":
        try:
            return Path(rest).expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"the secret {name!r} cannot be read from its file",
                code="secret-unreadable",
                detail=str(error),
            ) from None
    raise InputError(f"the secret {name!r} must be env:VARIABLE or file:PATH", code="secret-kind")


def expand(text: str, environ: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    """Put values in the place of references; the workspace's secrets win over variables.

    Raises InputError that names the reference and never shows a value.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        where = secrets.get(name, "")
        if where and not where.startswith("env:"):
            return quote(_read_secret(name, where), safe="")
        variable = where.removeprefix("env:") if where else name
        found = environ.get(variable)
        if found is None:
            raise InputError(
                f"the variable {variable} is not set",
                code="secret-missing",
                detail=f"needed for {clean(text)}",
                hint=f"export {variable}, or take the reference out of the address",
            )
        return quote(found, safe="%/:@") if match.start() == 0 else quote(found, safe="%")

    return _REFERENCE.sub(value, text)


def secrets_of(url: str) -> tuple[str, ...]:
    """Every secret that an expanded address carries, in plain and quoted spelling."""
    found: list[str] = []
    try:
        parts = urlsplit(url)
        user, password = parts.username, parts.password
    except ValueError:
        return ()
    for secret in (password, user if password is None else None):
        if secret:
            found += [secret, unquote(secret)]
    found += _TOKEN.findall(parts.path)
    return tuple(dict.fromkeys(found))


def clean(url: str) -> str:
    """``url`` without user, password, token, query and fragment; text if it is no URL.

    >>> clean("https://user:pw@host:8443/t/abc/channel/")
    'https://host:8443/channel'
    """
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return _URL_USERINFO.sub(r"\1", url)
    host = parts.netloc.rpartition("@")[2]
    path = _TOKEN.sub("", parts.path, count=1).rstrip("/")
    return urlunsplit((parts.scheme, host, path, "", ""))


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` with every known secret, userinfo and conda token replaced by ``***``."""
    for secret in sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len)[::-1]:
        text = text.replace(secret, _MASK)
    text = _URL_USERINFO.sub(rf"\1{_MASK}@", text)
    text = _TOKEN_IN_URL.sub(rf"\1/t/{_MASK}", text)
    return _TOKEN_IN_PATH.sub(f"/t/{_MASK}/", text)


def userinfo(url: str) -> tuple[str, str] | None:
    """User and password of an expanded address, unquoted."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")


def basic_header(url: str) -> str:
    """The Authorization header for an address's user and password, or empty."""
    login = userinfo(url)
    if login is None:
        return ""
    return "Basic " + base64.b64encode(f"{login[0]}:{login[1]}".encode()).decode()


def without_userinfo(url: str) -> str:
    """The address to open: userinfo gone (it becomes a header), token and query kept."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def addresses_in(text: str) -> list[str]:
    """Every address that a line of a requirements file names."""
    return [found.removeprefix("git+") for found in _ADDRESS.findall(text)]


def with_login(url: str, addresses: Iterable[str]) -> str:
    """``url`` with the user and password of an address of the same origin."""
    parts = urlsplit(url)
    if parts.username is not None:
        return url
    for address in addresses:
        other = urlsplit(address)
        same = (other.scheme, other.hostname, other.port) == (
            parts.scheme,
            parts.hostname,
            parts.port,
        )
        if same and other.username is not None:
            info = other.netloc.rpartition("@")[0]
            return urlunsplit(parts._replace(netloc=f"{info}@{parts.netloc}"))
    return url


def recorded(url: str) -> str:
    """``url`` as a lock may hold it: literal credentials dropped, references kept.

    >>> recorded("https://user:${PASSWORD}@host/t/abc/channel/")
    'https://host/channel'
    >>> recorded("https://host/t/${TOKEN}/channel")
    'https://host/t/${TOKEN}/channel'
    """
    try:
        parts = urlsplit(url) if has_reference(url) else None
    except ValueError:
        parts = None
    if parts is None:
        return clean(url)
    info, _, host = parts.netloc.rpartition("@")
    kept = info if info and all(_REFERENCE.fullmatch(part) for part in info.split(":")) else ""
    path = _TOKEN.sub(
        lambda match: match.group(0) if _REFERENCE.fullmatch(match.group(1)) else "",
        parts.path,
        count=1,
    )
    netloc = f"{kept}@{host}" if kept else host
    return urlunsplit((parts.scheme, netloc, path.rstrip("/"), "", ""))
