"""Secrets taken out of what a step says, before anybody sees it."""

from __future__ import annotations

import base64
import json
import threading
from typing import Final
from urllib.parse import quote

_SHORTEST: Final = 4
"""Shorter values are left alone: they would blank out ordinary words."""


class Redactor:
    """Knows the secrets that one build was given. Safe for threads."""

    def __init__(self) -> None:
        """Know none yet."""
        self._lock = threading.Lock()
        self._values: set[str] = set()

    def add(self, secret: bytes) -> None:
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

    def clean(self, text: str) -> str:
        """``text`` with ``***`` in place of every secret."""
        with self._lock:
            values = sorted(self._values, key=len, reverse=True)
        for value in values:
            text = text.replace(value, "***")
        return text
