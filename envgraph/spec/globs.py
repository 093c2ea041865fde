"""Patterns of ``.dockerignore`` as regular expressions that never take long to say no.

Of two wildcards only the last one has to be tried at more than the first place where what
follows it fits: whatever lies behind can be taken up by the next one. So all others are
atomic groups, and matching takes at most the square of the path's length, whoever wrote
the pattern. For ``*`` that holds within a part of the path, for ``**`` over all of it, and
for ``**/`` where a part of the path begins there.
"""

from __future__ import annotations

import re
from typing import Final

_STAR: Final = "*"
_ANY: Final = "**"
_FOLDERS: Final = "**/"
_LEADS: Final = {_ANY: ".*?", _FOLDERS: "(?:.*?/)??"}


def docker_regex(pattern: str) -> str:
    """Moby's meaning of one pattern, to be matched as a whole: ``*`` and ``?`` stop at a slash.

    ``**`` does not stop there. ValueError for a ``[`` without its ``]``.
    """
    chunks: list[tuple[str, list[str]]] = [("", [""])]
    for wildcard, text in _tokens(pattern):
        if wildcard == _STAR:
            chunks[-1][1].append("")
        elif wildcard:
            chunks.append((_LEADS[wildcard], [""]))
        else:
            chunks[-1][1][-1] += text
    out = []
    for (lead, pieces), (wildcard, _) in zip(chunks, [*chunks[1:], ("", [])], strict=True):
        at_slash = wildcard == _LEADS[_FOLDERS] and pieces[-1][-1:] in ("", "/")
        done = wildcard == _LEADS[_ANY] or at_slash
        text = lead + _chunk(pieces, not done)
        out.append(_atomic(text) if done else text)
    return "".join(out)


def _chunk(pieces: list[str], last: bool) -> str:
    """What lies between two ``**``: pieces with a ``*`` between each."""
    stars = [f"[^/]*?{piece}" for piece in pieces[1:]]
    free = stars[-1:] if last else []
    atomic = [_atomic(star) for star in stars[: len(stars) - len(free)]]
    return "".join([pieces[0], *atomic, *free])


def _atomic(regex: str) -> str:
    return f"(?>{regex})" if regex else ""


def _tokens(pattern: str) -> list[tuple[str, str]]:
    """A wildcard, or a piece of regular expression that has one length."""
    found: list[tuple[str, str]] = []
    i = 0
    while i < len(pattern):
        c = pattern[i]
        if pattern.startswith(_ANY, i):
            while i < len(pattern) and pattern[i] == "*":
                i += 1
            folders = pattern.startswith("/", i)
            found.append((_FOLDERS if folders else _ANY, ""))
            i += folders
            continue
        if c == "*":
            found.append((_STAR, ""))
        elif c == "?":
            found.append(("", "[^/]"))
        elif c == "[":
            end = pattern.find("]", i + 1)
            if end < 0:
                raise ValueError(f"no ] after [ in {pattern!r}")
            inner = pattern[i + 1 : end]
            negation = "^" if inner[:1] in ("!", "^") else ""
            inner = re.sub(r"[\\[&|~]|(?<=-)-", r"\\\g<0>", inner[len(negation) :])
            found.append(("", f"(?!/)[{negation}{inner}]"))
            i = end
        else:
            if c == "\\" and i + 1 < len(pattern):
                i += 1
            found.append(("", re.escape(pattern[i])))
        i += 1
    return found
