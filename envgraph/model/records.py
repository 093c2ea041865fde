"""The record of a version, in its two forms.

A record is a JSON document kept as a blob. In a history (:mod:`envgraph.model.history`
has the other kinds of records) it has the schema ``envgraph.history/2``: what would keep
an image from being collected is written as bare hex there, since a history is kept for
ever and an image need not be. What travels, or lies in a catalogue, has
``envgraph.history/1``, which names everything as ``sha256:<hex>`` and so keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from envgraph.errors import IntegrityError
from envgraph_store.digest import Digest

HISTORY_SCHEMA: Final = "envgraph.history/1"
"""Of a version that is complete by itself; histories of early stores hold such ones too."""

CHAIN_SCHEMA: Final = "envgraph.history/2"
"""Of every record of a history. 2: kinds of records beside versions; images as bare hex."""

PARENT_PROPERTY: Final = "envgraph.parent"
"""The property of an environment file that says what it was cloned from."""

HOLDINGS_SCHEMA: Final = "envgraph.holdings/1"
_KEY_WORD: Final = "envkey1:"


@dataclass(frozen=True, slots=True)
class LockReference:
    """A platform's lock: what it is, and the blob that holds all of it."""

    identity: Digest
    record: Digest


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version of an environment = definition, locks and runtime; and its images.

    ``changed`` says which of ``definition``, ``lock``, ``runtime`` and ``image``
    differ from the version before. ``members`` are the layers of all packages (those
    behind joined layers too) with their lists of paths: naming them keeps
    them, so that a new combination of known packages stays cheap. A record that was read
    from a history has none: they are in the document that ``holdings`` names, which lives
    as long as the version is neither archived nor deleted. ``anonymous``: made for a job
    or deployment, with the definition's hash as its version, and not listed.
    """

    workspace: str
    environment: str
    sequence: int
    previous: Digest | None
    time: str
    version: str
    kind: str
    definition: Digest
    runtime: Digest
    locks: Mapping[str, LockReference]
    images: Mapping[str, Digest]
    image: Digest
    image_name: str
    image_keys: Mapping[str, str] = field(default_factory=dict)
    members: tuple[Digest, ...] = ()
    changed: tuple[str, ...] = ()
    parent: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    tool: str = ""
    anonymous: bool = False
    holdings: Digest | None = None

    def holdings_bytes(self) -> bytes:
        """The document that keeps the version's images and layers, while something names it."""
        held = {self.image, *self.images.values(), *self.members}
        return encoded({"schema": HOLDINGS_SCHEMA, "holds": sorted(str(item) for item in held),
                         "keys": sorted(self.image_keys.values())})  # fmt: skip

    def chain_bytes(self) -> bytes:
        """The record as a history holds it: it keeps definition and locks, and no image."""
        holdings = self.holdings or Digest.of(self.holdings_bytes())
        document = self._document() | {
            "schema": CHAIN_SCHEMA,
            "images": {platform: digest.hex for platform, digest in self.images.items()},
            "image": self.image.hex,
            "image_keys": {p: key.removeprefix(_KEY_WORD) for p, key in self.image_keys.items()},
            "holdings": holdings.hex,
        }
        del document["members"]
        return encoded(document)

    def to_bytes(self) -> bytes:
        """The record as it travels: it keeps all that it names."""
        return encoded(self._document())

    def _document(self) -> dict[str, Any]:
        document = {
            "schema": HISTORY_SCHEMA,
            "event": "version",
            "workspace": self.workspace,
            "environment": self.environment,
            "sequence": self.sequence,
            "previous": None if self.previous is None else str(self.previous),
            "time": self.time,
            "version": self.version,
            "kind": self.kind,
            "definition": str(self.definition),
            "runtime": str(self.runtime),
            "locks": {
                platform: {"identity": str(lock.identity), "record": str(lock.record)}
                for platform, lock in self.locks.items()
            },
            "images": {platform: str(digest) for platform, digest in self.images.items()},
            "image": str(self.image),
            "image_name": self.image_name,
            "image_keys": dict(self.image_keys),
            "members": [str(digest) for digest in self.members],
            "changed": list(self.changed),
            "parent": self.parent,
            "description": self.description,
            "tags": dict(self.tags),
            "properties": dict(self.properties),
            "tool": self.tool,
        }
        return document | ({"anonymous": True} if self.anonymous else {})

    @classmethod
    def from_bytes(cls, data: bytes) -> VersionRecord:
        """Read a record; IntegrityError when it is not one that this version knows."""
        try:
            document: dict[str, Any] = json.loads(data)
            chained = document["schema"] == CHAIN_SCHEMA
            if document["schema"] not in SCHEMAS or document["event"] != "version":
                raise unknown_record(document)
            if chained:
                document["image"] = f"sha256:{document['image']}"
                document["images"] = {p: f"sha256:{t}" for p, t in document["images"].items()}
                keys = document["image_keys"].items()
                document["image_keys"] = {p: _KEY_WORD + text for p, text in keys}
            previous = document["previous"]
            return cls(
                workspace=document["workspace"],
                environment=document["environment"],
                sequence=document["sequence"],
                previous=None if previous is None else Digest(previous),
                time=document["time"],
                version=document["version"],
                kind=document["kind"],
                definition=Digest(document["definition"]),
                runtime=Digest(document["runtime"]),
                locks={
                    platform: LockReference(Digest(lock["identity"]), Digest(lock["record"]))
                    for platform, lock in document["locks"].items()
                },
                images={p: Digest(text) for p, text in document["images"].items()},
                image=Digest(document["image"]),
                image_name=document["image_name"],
                image_keys=document["image_keys"],
                members=tuple(Digest(text) for text in document.get("members", ())),
                changed=tuple(document["changed"]),
                parent=document["parent"],
                description=document["description"],
                tags=document["tags"],
                properties=document["properties"],
                tool=document["tool"],
                anonymous=document.get("anonymous", False) is True,
                holdings=Digest.from_hex(document["holdings"]) if chained else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"a history record is not whole: {error!r}") from error


SCHEMAS: Final = (HISTORY_SCHEMA, CHAIN_SCHEMA)


def unknown_record(document: Mapping[str, Any]) -> IntegrityError:
    """The error for a record of a kind that this version does not know."""
    return IntegrityError(
        f"a history record has the schema {document['schema']!r} and the kind"
        f" {document['event']!r}, which this version does not know",
        hint="it was written by another version of envgraph: use that one",
    )


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as it is stored: one line of JSON, keys sorted."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def members_of(data: bytes) -> tuple[Digest, ...]:
    """What the holdings document of a version keeps; IntegrityError when it is none."""
    try:
        document: dict[str, Any] = json.loads(data)
        if document["schema"] != HOLDINGS_SCHEMA:
            raise unknown_record({"event": "holdings", **document})
        return tuple(Digest(text) for text in document["holds"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"a document of holdings is not whole: {error!r}") from error
