"""The one type for "sha256 of these bytes".

A :class:`Digest` cannot hold anything but ``sha256:`` and 64 lower-case
hexadecimal digits, so code that has one never checks it again, and a path made
from one never leaves its folder (CVE-2024-3727).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_PATTERN: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)


class DigestError(ValueError):
    """The text is not ``sha256:`` followed by 64 lower-case hexadecimal digits."""


class Digest:
    """An immutable sha256 digest; equal, hashable and ordered by its text."""

    __slots__ = ("_hex",)
    _hex: str

    def __init__(self, text: str) -> None:
        """Read ``sha256:<hex>``; raise :class:`DigestError` on anything else."""
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise DigestError(f"not a sha256 digest: {text[:100]!r}")
        object.__setattr__(self, "_hex", match.group(1))

    @classmethod
    def of(cls, data: bytes | memoryview) -> Digest:
        """The digest of ``data``."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @classmethod
    def from_hex(cls, hex_digits: str) -> Digest:
        """Read the bare 64 hexadecimal digits, as conda and pip write them."""
        return cls("sha256:" + hex_digits)

    @property
    def hex(self) -> str:
        """The 64 hexadecimal digits."""
        return self._hex

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Digest never changes")

    def __str__(self) -> str:
        return "sha256:" + self._hex

    def __repr__(self) -> str:
        return f"Digest('sha256:{self._hex}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self._hex == other._hex

    def __lt__(self, other: Digest) -> bool:
        return self._hex < other._hex

    def __hash__(self) -> int:
        return hash(self._hex)

    def __reduce__(self) -> tuple[type[Digest], tuple[str]]:
        return (Digest, (str(self),))
