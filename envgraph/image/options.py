"""What decides a layer's bytes apart from the archive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from envgraph.image.compress import Compression, default_compression

FORMAT: Final = 1
"""The assembler's format. A change in the bytes that it writes is a new number;
``envgraph/image/README.md`` says why for each."""

PREFIX: Final = "/opt/env"


@dataclass(frozen=True, slots=True)
class LayerOptions:
    """How archives become layers; equal options and archives give equal bytes.

    ``prefix`` is absolute and plain. ``python`` is ``3.12``, or empty without
    Python; ``site_packages`` is below the prefix, ``lib/python3.12/site-packages``.
    ``bytecode_key`` names the Python build that compiles; empty means no bytecode.
    """

    prefix: str = PREFIX
    python: str = ""
    site_packages: str = ""
    compression: Compression = field(default_factory=default_compression)
    bytecode_key: str = ""

    def __post_init__(self) -> None:
        parts = self.prefix.split("/")
        if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
            raise ValueError(f"not a plain absolute prefix: {self.prefix!r}")
        if self.bytecode_key and not self.python:
            raise ValueError("bytecode without a Python")

    @property
    def inner(self) -> str:
        """The prefix as a name in a tar: ``opt/env``."""
        return self.prefix[1:]

    @property
    def stdlib(self) -> str:
        """``lib/python3.12``: below it, Python files get bytecode. Empty without Python."""
        return f"lib/python{self.python}" if self.python else ""

    @property
    def cache_tag(self) -> str:
        """``cpython-312``: the middle of a ``.pyc`` file's name."""
        return "cpython-" + self.python.replace(".", "")
