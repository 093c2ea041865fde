"""The one encoding that identities are hashed from, and the one key function.

A document is None, bool, int, str, Digest, NodeKey, a list or tuple, or a
mapping with str keys. Its canonical form is JSON in UTF-8 with keys sorted by
code point, no insignificant space, NFC text, no floats (a float has many
spellings), and explicit nulls. It is wrapped as ``[schema, document]``, so the
same document under two schemas has two hashes, and ``1``, ``"1"`` and ``true``
differ. Quoting makes it length-safe: no delimiter can be forged by a value.

Changing anything here changes every identity ever made; the golden vectors in
``tests/golden/identity`` stand guard.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from envgraph_store.digest import Digest

_KEY: Final = re.compile(r"envkey1:([0-9a-f]{64})", re.ASCII)


class CanonicalError(TypeError):
    """The document holds a value that has no canonical form."""


class NodeKey:
    """The identity of a graph node, ``envkey1:<hex>``; never mistaken for a Digest."""

    __slots__ = ("_hex",)
    _hex: str

    def __init__(self, text: str) -> None:
        """Read ``envkey1:<hex>``; raise ValueError on anything else."""
        match = _KEY.fullmatch(text)
        if match is None:
            raise ValueError(f"not a node key: {text[:100]!r}")
        object.__setattr__(self, "_hex", match.group(1))

    @property
    def hex(self) -> str:
        """The 64 hexadecimal digits."""
        return self._hex

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a NodeKey never changes")

    def __str__(self) -> str:
        return "envkey1:" + self._hex

    def __repr__(self) -> str:
        return f"NodeKey('envkey1:{self._hex}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeKey) and self._hex == other._hex

    def __lt__(self, other: NodeKey) -> bool:
        return self._hex < other._hex

    def __hash__(self) -> int:
        return hash(("envkey1", self._hex))


def _plain(value: object, where: str) -> object:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, (Digest, NodeKey)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        plain: dict[str, object] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise CanonicalError(f"{where}: key {key!r} is not text")
            key = unicodedata.normalize("NFC", key)
            if key in plain:
                raise CanonicalError(f"{where}: two keys are {key!r} after NFC")
            plain[key] = _plain(item, f"{where}.{key}")
        return plain
    raise CanonicalError(f"{where}: {type(value).__name__} has no canonical form")


def canonical_bytes(schema: str, document: object) -> bytes:
    """The canonical form of ``document`` under ``schema``, for example ``definition/1``."""
    return json.dumps(
        [schema, _plain(document, "$")],
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        separators=(",", ":"),
    ).encode("utf-8", "surrogatepass")


def digest_of(schema: str, document: object) -> Digest:
    """The identity of ``document`` under ``schema``."""
    return Digest.of(canonical_bytes(schema, document))


def node_key(kind: str, document: object) -> NodeKey:
    """The key of a graph node of ``kind`` whose inputs are ``document``."""
    return NodeKey("envkey1:" + Digest.of(canonical_bytes("node/1/" + kind, document)).hex)
