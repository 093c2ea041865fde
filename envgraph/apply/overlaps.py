"""Two packages, one path: harmless when the bytes are equal, else decided and said.

In an image the later layer wins, and the layers' order is a function of the lock, so
the winner is the same everywhere. A path that is a file of one package and a folder
of the other leaves one of them broken: that is an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Final, cast

from envgraph.errors import BuildError, Diagnostic, SourceLocation
from envgraph.image.assemble import StoredLayer
from envgraph.image.collisions import SharedPath, find_shared_paths
from envgraph.image.compress import default_compression
from envgraph.image.options import LayerOptions
from envgraph_store import Digest

SHOWN: Final = 3
"""Paths named in one warning."""


@dataclass(frozen=True, slots=True)
class Member:
    """A package's layer; members are given in the order of the image's layers."""

    title: str
    layer: StoredLayer


def check_overlaps(
    members: Sequence[Member],
    read: Callable[[Digest], bytes],
    open_blob: Callable[[Digest], BinaryIO],
    options: LayerOptions,
    source: SourceLocation | None,
) -> list[Diagnostic]:
    """Warnings for paths whose owners bring different files; BuildError for the impossible."""
    by_title = {member.title: member for member in members}
    shared = find_shared_paths(
        (
            member.title,
            replace(member.layer.content, paths=tuple(json.loads(read(member.layer.paths)))),
        )
        for member in members
    )
    clashes = [item for item in shared if item.as_folder]
    if clashes:
        raise BuildError(_clash(item, source) for item in clashes)
    wanted: dict[str, set[str]] = {}
    for item in shared:
        for title in item.packages:
            wanted.setdefault(title, set()).add(item.path)
    found = {
        title: _digests(by_title[title].layer, paths, open_blob, options)
        for title, paths in wanted.items()
    }
    different: dict[tuple[str, ...], list[str]] = {}
    for item in shared:
        if len({found[title].get(item.path) for title in item.packages}) > 1:
            different.setdefault(item.packages, []).append(item.path)
    return [_decided(titles, paths, source) for titles, paths in different.items()]


def _digests(
    layer: StoredLayer,
    paths: set[str],
    open_blob: Callable[[Digest], BinaryIO],
    options: LayerOptions,
) -> dict[str, str]:
    """What the layer has at ``paths``: one word for each, equal for equal content."""
    import tarfile  # paths are seldom shared

    compression = default_compression(
        "zstd" if layer.content.media_type.endswith("zstd") else "gzip"
    )
    found: dict[str, str] = {}
    with open_blob(layer.digest) as file:
        content = _Reader(compression.open(file))
        with tarfile.open(fileobj=cast(BinaryIO, content), mode="r|") as archive:
            for entry in archive:
                path = entry.name.removeprefix(options.inner + "/")
                if path not in paths:
                    continue
                stream = archive.extractfile(entry) if entry.isreg() else None
                if stream is None:
                    found[path] = f"link {entry.linkname}"
                else:
                    found[path] = hashlib.sha256(stream.read()).hexdigest()
    return found


class _Reader:
    """What tarfile's streams ask for, over a decompressor that fills buffers."""

    def __init__(self, source: object) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        count: int = self._source.readinto(buffer)  # type: ignore[attr-defined]
        return bytes(buffer[:count])


def _clash(item: SharedPath, source: SourceLocation | None) -> Diagnostic:
    return Diagnostic(
        "path-collision",
        f"{item.path} belongs to two packages: {' and '.join(item.packages)}",
        "it is a file of one and a folder of the other",
        source,
        "leave one of the two out, or pin builds that do not collide",
    )


def _decided(
    titles: tuple[str, ...], paths: Sequence[str], source: SourceLocation | None
) -> Diagnostic:
    shown = ", ".join(paths[:SHOWN])
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return Diagnostic(
        "path-shared",
        f"{' and '.join(titles)} bring different files of the same name",
        f"{shown}{more}: in the image the file of {titles[-1]} is used",
        source,
        "if that is the wrong one, leave one package out or pin another build",
        "warning",
    )
