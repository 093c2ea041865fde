"""Addresses without their secrets: what identities hash and messages show.

Pure text work, so that a channel's or an index's credentials never reach a
hash, a message or a record, whatever the spelling: user and password, conda's
``/t/TOKEN/``, and query values whose key says that they are secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

MASK: Final = "***"
_GIT_USER: Final = "git@"
_SCHEME: Final = r"[A-Za-z][A-Za-z0-9+.\-]{0,20}://"
_URL: Final = re.compile(rf"(?P<scheme>{_SCHEME})(?P<rest>\S*?)(?={_SCHEME}|\s|\Z)")
_USERINFO: Final = re.compile(r"[^/?#]*@")
_BARE_SLASH: Final = re.compile(r"[^/?#@:]+:(?![0-9]{1,5}(?:[/?#]|\Z))[^@]*@")
"""A password with a ``/`` in it, which no standard allows and people still write."""
_TOKEN: Final = re.compile(r"/t/([^/?#]+)(?=[/?#]|\Z)")
_QUERY: Final = re.compile(r"(?<=[?&])([^=&#?]*)=([^&#]*)")
_SECRET_KEY: Final = re.compile(r"sig|token|key|secret|passw|pwd|auth|credential", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"(?:\$\{\w+\}|\$\w+|%[A-Za-z_]\w*%)")


def _userinfo(rest: str) -> str:
    """The part of an address (after ``://``) up to its ``@``; empty when there is none."""
    match = _USERINFO.match(rest) or _BARE_SLASH.match(rest)
    return match[0] if match else ""


def _without_values(rest: str, instead: str) -> str:
    """``rest`` with the value of every query key that says it is a secret replaced."""

    def replace(match: re.Match[str]) -> str:
        return f"{match[1]}={instead}" if _SECRET_KEY.search(match[1]) else match[0]

    return _QUERY.sub(replace, rest)


def _rewritten(text: str, replace: Callable[[str], str]) -> str:
    if "://" not in text:
        return text
    return _URL.sub(lambda match: match["scheme"] + replace(match["rest"]), text)


def without_credentials(text: str) -> str:
    """``text`` with the credentials of every address in it taken out.

    >>> without_credentials("https://u:p@host/t/abc/ch?sig=x&v=1")
    'https://host/ch?sig=&v=1'
    """

    def clean(rest: str) -> str:
        info = _userinfo(rest)
        rest = rest if info == _GIT_USER else rest[len(info) :]
        return _without_values(_TOKEN.sub("", rest, count=1), "")

    return _rewritten(text, clean)


def masked(text: str) -> str:
    """``text`` with the credentials of every address in it shown as ``***``.

    >>> masked("https://u:p@host/t/abc/ch")
    'https://***@host/t/***/ch'
    """

    def mask(rest: str) -> str:
        info = _userinfo(rest)
        rest = _TOKEN.sub(f"/t/{MASK}", rest[len(info) :], count=1)
        shown = info if info in ("", _GIT_USER) else f"{MASK}@"
        return shown + _without_values(rest, MASK)

    return _rewritten(text, mask)


def has_credentials(text: str) -> bool:
    """Whether an address in ``text`` carries a literal secret.

    ``${NAME}`` is none, and neither is a user name alone in front of a host that
    is reached by ssh (``git@``).
    """
    for match in _URL.finditer(text):
        info = _userinfo(match["rest"])[:-1]
        rest = match["rest"][len(info) :]
        user, colon, password = info.partition(":")
        secrets = [password if colon else "" if "ssh" in match["scheme"] else user]
        secrets += [found[1] for found in _TOKEN.finditer(rest)]
        secrets += [f[2] for f in _QUERY.finditer(rest) if _SECRET_KEY.search(f[1])]
        if any(s and s != "git" and not _REFERENCE.fullmatch(s) for s in secrets):
            return True
    return False


def address_problem(text: str) -> str | None:
    """Why nothing can ever lie at an address; None when something may, or it is none.

    >>> address_problem("https://[x/simple"), address_problem("https://host/simple")
    ('Invalid IPv6 URL', None)
    """
    if "://" not in text or _REFERENCE.search(text):
        return None
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text.removeprefix("git+"))
        parts.port  # noqa: B018  it is read when it is asked for
    except ValueError as error:
        return str(error)
    if parts.scheme.lower() in ("http", "https", "ssh", "git") and not parts.hostname:
        return "it names no host"
    return None
