"""Paths that two packages own: found from their lists, before an image is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Overlap:
    """A path below the prefix, and the packages that bring a file for it."""

    path: str
    owners: tuple[str, ...]


def shared_paths(listings: Mapping[str, bytes]) -> tuple[Overlap, ...]:
    """Every path with more than one owner, sorted.

    ``listings`` maps a package's title to its :meth:`LayerContent.listing`.
    """
    owner: dict[str, str] = {}
    shared: dict[str, list[str]] = {}
    for title, listing in listings.items():
        for path in json.loads(listing):
            first = owner.setdefault(path, title)
            if first != title:
                shared.setdefault(path, [first]).append(title)
    return tuple(Overlap(path, tuple(owners)) for path, owners in sorted(shared.items()))
