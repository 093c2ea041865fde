"""``ENV`` and ``ARG`` that look like secrets: what they say stays in the image for everybody.

The words are those of BuildKit's own check (``SecretsUsedInArgOrEnv``). Values that are no
secret to begin with say nothing: none at all, a variable, a path, a switch or a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_WORDS: Final = "apikey|auth|credential|credentials|key|password|pword|passwd|secret|token"
_SECRET: Final = re.compile(rf"(?i)(?:_|\A)(?:{_WORDS})(?:_|\Z)")
_PUBLIC: Final = re.compile(r"(?i)(?:_|\A)public(?:_|\Z)")
_HARMLESS: Final = re.compile(
    r"(?i)\$.*|[./~].*|[a-z]+://[^@]*|true|false|none|null|yes|no|\d{1,5}"
)
_PAIR: Final = re.compile(r"""([A-Za-z_][A-Za-z0-9_]*)=("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"']*)""")
_FLAT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s+(.+)\Z", re.DOTALL)

HINT: Final = (
    "mount it where it is needed: `RUN --mount=type=secret,id=NAME`, with NAME in `secrets:` of"
    " envgraph.yaml"
)


def secret_names(instruction: str) -> Iterator[str]:
    """The names that an ``ENV`` or ``ARG`` gives values to that look like secrets."""
    word, _, rest = instruction.strip().partition(" ")
    if word.upper() not in ("ENV", "ARG"):
        return
    rest = rest.strip()
    flat = _FLAT.match(rest) if word.upper() == "ENV" and not _PAIR.match(rest) else None
    for name, value in [(flat[1], flat[2])] if flat else _PAIR.findall(rest):
        plain = value.strip().strip("\"'")
        if not plain or _HARMLESS.fullmatch(plain):
            continue
        if _SECRET.search(name) and not _PUBLIC.search(name):
            yield name


def warning(word: str, name: str) -> str:
    """What is said of one."""
    return f"{word} {name} looks like a secret, and everybody can read it in the image's history"
