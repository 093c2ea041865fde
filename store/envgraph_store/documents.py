"""Which objects name other objects, whatever their meaning.

Any object that is not compressed or archived data is taken for a document, and
every ``sha256:<hex>`` in it names something. That is generic on purpose: the
store follows manifests, locks and records without knowing what they are.
"""

from __future__ import annotations

import re
from typing import Final

from envgraph_store.digest import Digest

HEAD: Final = 512
"""How many bytes of an object :func:`is_document` wants to see."""

_DIGEST: Final = re.compile(rb"sha256:([0-9a-f]{64})(?![0-9a-f])")
_BINARY: Final = (
    b"\x1f\x8b",  # gzip
    b"\x28\xb5\x2f\xfd",  # zstd
    b"\x50\x2a\x4d\x18",  # zstd, skippable frame
    b"PK\x03\x04",  # zip: wheels and .conda archives
    b"BZh",  # bzip2: .tar.bz2 archives
    b"\xfd7zXZ\x00",  # xz
)


def is_document(head: bytes) -> bool:
    """Whether an object that begins with ``head`` may name other objects."""
    return not head.startswith(_BINARY) and head[257:262] != b"ustar"


def digests(data: bytes) -> set[Digest]:
    """Every digest that the text of a document holds."""
    return {Digest.from_hex(found.decode("ascii")) for found in _DIGEST.findall(data)}
