"""Records of what happened to an environment: appended, linked by hash, never changed.

A record is a JSON document (schema ``envgraph.history/1``) kept as a blob. It
names the blob of the record before it, so a changed, dropped or reordered record
breaks the chain at the record after it. The newest one is named by the ref
``environments/<workspace id>/<name>``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from envgraph.errors import IntegrityError
from envgraph_store.digest import Digest

HISTORY_SCHEMA: Final = "envgraph.history/1"


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
    behind joined layers too) with their lists of paths: naming them here keeps
    them, so that a new combination of known packages stays cheap.
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

    def to_bytes(self) -> bytes:
        """The record as stored."""
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
        return json.dumps(
            document, sort_keys=True, ensure_ascii=False, separators=(",", ":")
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> VersionRecord:
        """Read a record; IntegrityError when it is not one that this version knows."""
        try:
            document: dict[str, Any] = json.loads(data)
            if document["schema"] != HISTORY_SCHEMA or document["event"] != "version":
                raise IntegrityError(
                    f"a history record has the schema {document['schema']!r},"
                    f" not {HISTORY_SCHEMA!r}",
                    hint="it was written by another version of envgraph: use that one",
                )
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
                members=tuple(Digest(text) for text in document["members"]),
                changed=tuple(document["changed"]),
                parent=document["parent"],
                description=document["description"],
                tags=document["tags"],
                properties=document["properties"],
                tool=document["tool"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"a history record is not whole: {error!r}") from error
