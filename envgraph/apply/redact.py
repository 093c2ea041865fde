"""Secrets taken out of what a step says, before anybody sees it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from envgraph.errors import InputError

_SHORTEST: Final = 4
"""Shorter values are left alone: they would blank out ordinary words."""


class Redactor:
    """Knows the secrets that one build was given. Safe for threads."""

    def __init__(self) -> None:
        """Know none yet."""
        self._lock = threading.Lock()
        self._values: set[str] = set()

    def add(self, secret: bytes) -> None:
        """Take a secret's bytes out of every later text: whole, and line by line."""
        text = secret.decode("utf-8", "replace")
        parts = {text.strip(), *(line.strip() for line in text.splitlines())}
        with self._lock:
            self._values |= {part for part in parts if len(part) >= _SHORTEST}

    def clean(self, text: str) -> str:
        """``text`` with ``***`` in place of every secret."""
        with self._lock:
            values = sorted(self._values, key=len, reverse=True)
        for value in values:
            text = text.replace(value, "***")
        return text


def read_secret(name: str, reference: str, redactor: Redactor) -> bytes:
    """A secret of envgraph.yaml, which the redactor knows from then on; InputError without it."""
    kind, _, place = reference.partition(":")
    value: bytes | None = None
    if kind == "env":
        text = os.environ.get(place)
        value = None if text is None else text.encode("utf-8", "surrogateescape")
    else:
        with suppress(OSError):
            value = Path(place).read_bytes()
    if value is None:
        raise InputError(
            f"the secret {name!r} cannot be read",
            code="no-secret",
            hint="set the variable" if kind == "env" else "see whether the file is there",
        )
    redactor.add(value)
    return value
