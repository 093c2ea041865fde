"""Secrets taken out of what a step says, before anybody sees it.

Builders do it with what they hand to a step, and the host again with all that it is told.
"""

from __future__ import annotations

import base64
import json
import threading
from typing import Final, overload
from urllib.parse import quote

_SHORTEST: Final = 3
"""Shorter values are left alone: they would blank out ordinary words."""


class Redactor:
    """Knows the secrets that one build was given. Safe for threads."""

    def __init__(self) -> None:
        """Know none yet."""
        self._lock = threading.Lock()
        self._values: set[str] = set()

    def learn(self, secret: bytes) -> None:
        """Take a secret's bytes out of every later text: whole, line by line, and encoded.

        Encoded: as base64 (headers have it so, with or without a line's end), in an address,
        and in JSON.
        """
        text = secret.decode("utf-8", "replace")
        parts = {text.strip(), *(line.strip() for line in text.splitlines())}
        if len(text.strip()) >= _SHORTEST:
            bare = secret.strip()
            for data in {bare, bare + b"\n", secret}:
                parts |= {
                    base64.b64encode(data).decode().rstrip("="),
                    base64.urlsafe_b64encode(data).decode().rstrip("="),
                }
            parts |= {quote(bare, safe=""), json.dumps(text.strip())[1:-1]}
        with self._lock:
            self._values |= {part for part in parts if len(part) >= _SHORTEST}

    @overload
    def clean(self, text: str) -> str: ...
    @overload
    def clean(self, text: bytes) -> bytes: ...
    def clean(self, text: str | bytes) -> str | bytes:
        """``text`` with ``***`` in place of every secret; bytes in whatever encoding."""
        if isinstance(text, bytes):
            plain = text.decode("utf-8", "surrogateescape")
            return self.clean(plain).encode("utf-8", "surrogateescape")
        with self._lock:
            values = sorted(self._values, key=len, reverse=True)
        for value in values:
            text = text.replace(value, "***")
        return text
