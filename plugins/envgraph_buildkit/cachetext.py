"""Caches as envgraph.yaml and docker's buildx write them: ``type=local,dest=PATH,mode=max``.

A text without ``type=`` is a reference in a registry. Nothing is imported here but what the
settings need: no grpc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TYPES: Final = ("registry", "local", "gha", "s3", "azblob")
_OF_SERVER: Final = (
    "token", "access_key_id", "secret_access_key", "session_token", "secret_access_key_id",
    "account_key", "secret_key", "access_key",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CacheText:
    """A type, and its attributes."""

    type: str
    attributes: Mapping[str, str] = field(repr=False)


def read_cache(text: str, *, kept: bool) -> CacheText:
    """What a text means; ``kept``: it is where a build leaves its cache.

    ValueError for what cannot be meant.
    """
    if any(letter.isspace() for letter in text):
        raise ValueError(f"{text!r} holds a blank: it is no cache")
    if not text.startswith("type="):
        if "," in text or not text:
            raise ValueError(f"{text!r} is no reference of an image, and has no type=")
        return CacheText("registry", {"ref": text})
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key or key in found:
            raise ValueError(f"{part!r} in a cache is no KEY=VALUE, or stands there twice")
        found[key] = value
    kind = found.pop("type")
    if kind == "inline":
        raise ValueError(
            "type=inline is in an image that BuildKit writes, and envgraph writes its images itself"
        )
    if kind not in TYPES:
        raise ValueError(f"{kind!r} is no type of cache: {', '.join(TYPES)}")
    if secrets := [key for key in found if key.lower() in _OF_SERVER]:
        raise ValueError(
            f"{', '.join(secrets)} of a cache belongs into the environment of the server"
        )
    needed = {"registry": "ref", "local": "dest" if kept else "src"}.get(kind)
    if needed and not found.get(needed):
        raise ValueError(f"a cache of type {kind} needs {needed}=")
    if found.get("mode", "min") not in ("min", "max"):
        raise ValueError(f"mode={found['mode']} of a cache: min or max")
    return CacheText(kind, found)
