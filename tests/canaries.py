"""Secrets that occur nowhere else, and the search for them in all that was written and said."""

from __future__ import annotations

import base64
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path


class Canaries:
    """Makes secrets, remembers what was said, and searches."""

    def __init__(self, home: Path) -> None:
        self.made: list[str] = []
        self.said: list[str] = []
        self.home = home

    def new(self) -> str:
        secret = f"canary{len(self.made):02}x{os.urandom(6).hex()}"
        self.made.append(secret)
        return secret

    def listen(self, *values: object) -> None:
        for value in values:
            self.said.append(f"{value} {value!r}")

    def spellings(self, secret: str) -> list[bytes]:
        found = {secret, urllib.parse.quote(secret, safe="")}
        return [text.encode() for text in found]

    def search(self, folder: Path, *, but: frozenset[Path] = frozenset()) -> list[str]:
        """Places below ``folder`` and in what was said that hold a canary."""
        texts = {f"said {i}": text.encode() for i, text in enumerate(self.said)}
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path not in but:
                texts[str(path)] = path.read_bytes() + str(path).encode()
        hits: list[str] = []
        for where, data in texts.items():
            data += b"".join(_decoded(data))
            hits += [f"{where}: {s}" for s in self.made for n in self.spellings(s) if n in data]
        return hits


def _decoded(data: bytes) -> Iterator[bytes]:
    """What base64 in ``data`` says (an Authorization header, for one)."""
    for match in re.findall(rb"(?:Basic |\b)([A-Za-z0-9+/]{24,400}={0,2})", data)[:20_000]:
        try:
            yield base64.b64decode(match + b"=" * (-len(match) % 4))
        except ValueError:
            continue
