"""What ``list`` shows of an environment: kept in its ref, so that one look at each is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envgraph.errors import IntegrityError
from envgraph.history.fold import EnvironmentState
from envgraph.model.records import VersionRecord


@dataclass(frozen=True, slots=True)
class Listing:
    """One version as ``list`` shows it; digests as bare hex."""

    name: str
    version: str
    sequence: int
    kind: str
    definition: str
    lock: Mapping[str, str]
    image: str
    """Of the first platform."""

    final: str
    """The image, or the index over several platforms."""

    image_name: str
    platforms: tuple[str, ...]
    created: str
    description: str | None
    tags: Mapping[str, str]
    labels: tuple[str, ...] = ()
    archived: bool = False

    def to_json(self) -> dict[str, Any]:
        """The entry of ``list --json``."""
        return {
            "name": self.name,
            "version": self.version,
            "sequence": self.sequence,
            "kind": self.kind,
            "definition": f"sha256:{self.definition}",
            "lock": {platform: f"sha256:{text}" for platform, text in self.lock.items()},
            "image": f"sha256:{self.image}",
            "image_name": self.image_name,
            "platforms": list(self.platforms),
            "created": self.created,
            "description": self.description,
            "tags": dict(self.tags),
            "labels": list(self.labels),
            "archived": self.archived,
        }

    def to_ref(self) -> dict[str, Any]:
        """The part of a ref's value. Bare hex: a listing keeps nothing from collection."""
        return {
            "version": self.version,
            "sequence": self.sequence,
            "kind": self.kind,
            "definition": self.definition,
            "lock": dict(self.lock),
            "image": self.image,
            "final": self.final,
            "image_name": self.image_name,
            "platforms": list(self.platforms),
            "created": self.created,
            "description": self.description,
            "tags": dict(self.tags),
            "labels": list(self.labels),
            "archived": self.archived,
        }


def listing_of(
    record: VersionRecord, labels: tuple[str, ...] = (), *, archived: bool = False
) -> Listing:
    """A version as it is listed."""
    return Listing(
        record.environment,
        record.version,
        record.sequence,
        record.kind,
        record.definition.hex,
        {platform: lock.identity.hex for platform, lock in record.locks.items()},
        next(iter(record.images.values())).hex,
        record.image.hex,
        record.image_name,
        tuple(record.images),
        record.time,
        record.description,
        dict(record.tags),
        labels,
        archived,
    )


def listing_in(name: str, value: Mapping[str, Any]) -> Listing:
    """The listing in a ref's ``listing``; IntegrityError when it is not whole."""
    try:
        return Listing(
            name,
            platforms=tuple(value["platforms"]),
            labels=tuple(value["labels"]),
            **{key: value[key] for key in _PLAIN},
        )
    except (KeyError, TypeError) as error:
        raise IntegrityError(f"the listing of {name!r} is not whole: {error!r}") from error


_PLAIN = ("version", "sequence", "kind", "definition", "lock", "image", "final", "image_name",
          "created", "description", "tags", "archived")  # fmt: skip


def top_listing(state: EnvironmentState, record: VersionRecord | None) -> Listing | None:
    """What is listed of an environment: its latest version, else its newest; None for none.

    ``record`` is that version's, with the description and tags that it has now.
    """
    top = state.latest or state.newest
    if top is None or record is None:
        return None
    return listing_of(record, state.labels_of(top.version), archived=state.is_hidden(top))
