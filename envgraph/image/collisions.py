"""Paths that more than one package claims: found from lists, never from a disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from envgraph.image.content import LayerContent


@dataclass(frozen=True, slots=True)
class SharedPath:
    """One path and the packages that claim it, in the order in which they were given.

    In an image the last one wins. With ``as_folder`` it is a file or a link of some
    and a folder of others, and then neither package is whole.
    """

    path: str
    packages: tuple[str, ...]
    as_folder: bool = False


def find_shared_paths(contents: Iterable[tuple[str, LayerContent]]) -> tuple[SharedPath, ...]:
    """All paths with two owners, sorted; ``contents`` are package names with their layers.

    The contents must carry their ``paths``.
    """
    listed = list(contents)
    first: dict[str, str] = {}
    owners: dict[str, list[str]] = {}
    for name, content in listed:
        for path in content.paths:
            owner = first.setdefault(path, name)
            if owner is not name:
                owners.setdefault(path, [owner]).append(name)
    shared = {path: SharedPath(path, tuple(names)) for path, names in owners.items()}
    for name, content in listed:
        for directory in content.directories:
            if directory in first:
                known = shared.get(directory)
                names = known.packages if known else (first[directory],)
                shared[directory] = SharedPath(directory, (*names, name), as_folder=True)
    return tuple(shared[path] for path in sorted(shared))
