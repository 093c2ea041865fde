"""Hostile image documents: each edit takes a good manifest (or its text) and makes it bad.

Source: RELIABILITY 50 and 51 (CVE-2021-41190, CVE-2024-3727), and the grammar of JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Edit = Callable[[dict[str, Any]], Any]


def _with(**changes: Any) -> Edit:
    return lambda document: document | changes


def _layer(**changes: Any) -> Edit:
    def edit(document: dict[str, Any]) -> dict[str, Any]:
        first, *rest = document["layers"]
        return document | {"layers": [first | changes, *rest]}

    return edit


BAD_MANIFESTS: dict[str, Edit] = {
    "manifest and index": _with(manifests=[]),
    "other type inside": _with(mediaType="application/vnd.docker.distribution.manifest.v2+json"),
    "type is a number": _with(mediaType=3),
    "schema 1": _with(schemaVersion=1),
    "schema true": _with(schemaVersion=True),
    "no layers": lambda d: {k: v for k, v in d.items() if k != "layers"},
    "layers is a map": _with(layers={}),
    "layers of text": _with(layers=["x"]),
    "too many layers": lambda d: d | {"layers": d["layers"][:1] * 1001},
    "fewer layers than the config": lambda d: d | {"layers": d["layers"][:1]},
    "config is text": _with(config="x"),
    "an artifact": lambda d: d | {"config": d["config"] | {"mediaType": "application/x"}},
    "capital Layers": lambda d: d | {"Layers": []},
    "capital Digest": _layer(Digest="sha256:" + "0" * 64),
    "unknown layer type": _layer(mediaType="application/octet-stream"),
    "negative size": _layer(size=-1),
    "size is true": _layer(size=True),
    "size is a float": _layer(size=1.5),
    "size is too large": _layer(size=1 << 60),
    "size is another": _layer(size=7),
    "digest leads out": _layer(digest="sha256:../../../../etc/passwd"),
    "digest in capitals": _layer(digest="sha256:" + "A" * 64),
    "digest is short": _layer(digest="sha256:abc"),
    "digest is md5": _layer(digest="md5:" + "0" * 32),
    "digest is sha512": _layer(digest="sha512:" + "0" * 128),
    "digest is empty": _layer(digest=""),
    "digest is null": _layer(digest=None),
    "annotations of numbers": _layer(annotations={"a": 1}),
}


BAD_TEXTS: dict[str, Callable[[bytes], bytes]] = {
    "key twice": lambda data: b'{"x":1,"x":2,' + data[1:],
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "trailing bytes": lambda data: data + b"{}",
    "5 MiB": lambda data: data + b" " * (5 << 20),
    "not UTF-8": lambda data: data[:-1] + b',"x":"\xff"}',
    "NaN": lambda data: data[:-1] + b',"x":NaN}',
    "lone surrogate": lambda data: data[:-1] + b',"x":"\\ud800"}',
    "deep": lambda data: data[:-1] + b',"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a list": lambda data: b"[" + data + b"]",
    "nothing": lambda data: b"",
}
