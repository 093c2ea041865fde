"""Addresses without their secrets: what identities hash and messages show.

Pure text work, so that a channel's or an index's credentials never reach a
hash, a message or a record, whatever the spelling: user and password, conda's
``/t/TOKEN/``, and query values whose key says that they are secret.
"""

from __future__ import annotations

import re
from typing import Final

_URL: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<rest>[^\s'\"]+)")
_TOKEN: Final = re.compile(r"/t/[^/\s?#]+(?=[/?#]|$)")
_SECRET_QUERY: Final = re.compile(
    r"(?i)(?<=[?&])([^=&#\s]*(?:sig|token|key|secret|passw|pwd|auth|credential)[^=&#\s]*)=[^&#\s]*"
)
MASK: Final = "***"


def _userinfo_end(rest: str) -> int:
    """Where the user info of ``rest`` (an address after ``://``) ends, or 0.

    It ends at the last ``@`` before the path, as RFC 3986 has it: ``user:p@ss@host``.
    A password with a bare ``/`` is taken whole when what follows its ``@`` is a host.
    """
    end = min((rest.find(c) for c in "/?#" if c in rest), default=len(rest))
    return rest.rfind("@", 0, end) + 1


def without_credentials(text: str) -> str:
    """``text`` with the credentials of every address in it taken out.

    >>> without_credentials("https://u:p@host/t/abc/ch")
    'https://host/ch'
    """

    def clean(match: re.Match[str]) -> str:
        rest = match["rest"][_userinfo_end(match["rest"]) :]
        # A path may hold an @ (a VCS revision), so only the authority was searched.
        return match["scheme"] + _SECRET_QUERY.sub(r"\1=", _TOKEN.sub("", rest, count=1))

    return _URL.sub(clean, text)


def masked(text: str) -> str:
    """``text`` with the credentials of every address in it shown as ``***``.

    >>> masked("https://u:p@host/t/abc/ch")
    'https://***@host/t/***/ch'
    """

    def mask(match: re.Match[str]) -> str:
        end = _userinfo_end(match["rest"])
        rest = _TOKEN.sub(f"/t/{MASK}", match["rest"][end:], count=1)
        info = f"{MASK}@" if end else ""
        return match["scheme"] + info + _SECRET_QUERY.sub(rf"\1={MASK}", rest)

    return _URL.sub(mask, text)


def has_credentials(text: str) -> bool:
    """Whether an address in ``text`` carries a literal secret (``${NAME}`` is none)."""
    for match in _URL.finditer(text):
        rest = match["rest"]
        end = _userinfo_end(rest)
        secrets = [rest[: end - 1].partition(":")[2]] if end else []
        secrets += [found[0][3:] for found in _TOKEN.finditer(rest[end:])]
        secrets += [found[0].partition("=")[2] for found in _SECRET_QUERY.finditer(rest)]
        if end and ":" not in rest[: end - 1] and rest[: end - 1] != "git":
            secrets.append(rest[: end - 1])
        if any(s and not re.fullmatch(r"(\$\{?\w+\}?:?)+", s) for s in secrets):
            return True
    return False
