"""The first layer of an environment, and the last: neither belongs to a package."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from envgraph.image.condameta import distribution
from envgraph.image.content import LayerContent
from envgraph.image.layerwriter import LayerWriter, Write, parents_of
from envgraph.image.options import LayerOptions
from envgraph.model.locked import LockedPackage

OPAQUE: str = ".wh..wh..opq"
"""An OCI whiteout: what the base has in this folder is hidden."""

_TIME = "1980-01-01 00:00:00"


def write_root_layer(options: LayerOptions, write: Write) -> LayerContent:
    """The prefix, empty, with an opaque whiteout: nothing of the base shows through."""
    writer = LayerWriter(options, write, ())
    writer.add_whiteout(OPAQUE)
    return writer.finish()


def write_meta_layer(
    packages: Sequence[LockedPackage],
    options: LayerOptions,
    write: Write,
    files: Mapping[str, bytes] | None = None,
) -> LayerContent:
    """What belongs to the environment as a whole.

    ``conda-meta/history`` (without it no conda takes the folder for an environment),
    ``conda-meta/envgraph.json`` (the packages' identities, so that an image alone
    can be audited) and ``files`` by path below the prefix; those that begin with
    ``#!`` are executable. It says what the lock identity says, and no more.
    """
    extra = dict(files or {})
    written = {
        "conda-meta/history": _history(packages),
        "conda-meta/envgraph.json": _identities(packages),
        **extra,
    }
    writer = LayerWriter(options, write, parents_of(written))
    for path in sorted(written):
        writer.add_file(path, written[path], executable=written[path].startswith(b"#!"))
    return writer.finish()


def _history(packages: Sequence[LockedPackage]) -> bytes:
    lines = [f"==> {_TIME} <==", "# cmd: envgraph apply"]
    lines += sorted(
        f"+{package.channel}/{package.subdir}::{distribution(package)}"
        for package in packages
        if package.manager == "conda"
    )
    return "\n".join([*lines, ""]).encode()


def _identities(packages: Sequence[LockedPackage]) -> bytes:
    document = {"format": 1, "packages": [_plain(package) for package in packages]}
    return json.dumps(document, indent=1, sort_keys=True).encode("ascii") + b"\n"


def _plain(package: LockedPackage) -> dict[str, str]:
    return {key: str(value) for key, value in package.identity().items()}
