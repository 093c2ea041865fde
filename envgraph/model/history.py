"""Records of what happened to an environment: appended, linked by hash, never changed.

A record is a JSON document kept as a blob. It names the blob of the record before it,
so a changed, dropped or reordered record breaks the chain at the record after it. The
newest one is named by the ref ``environments/<workspace id>/<name>``. A version is a
:class:`~envgraph.model.records.VersionRecord`; everything else that happens is a
:class:`ChangeRecord`. What holds now is a fold over the chain
(:mod:`envgraph.history.fold`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from envgraph.errors import IntegrityError
from envgraph.model.records import CHAIN_SCHEMA, VersionRecord, encoded, unknown_record
from envgraph_store.digest import Digest

Event = Literal["label", "archive", "restore", "metadata", "delete"]
EVENTS: Final[tuple[Event, ...]] = ("label", "archive", "restore", "metadata", "delete")


@dataclass(frozen=True, slots=True)
class Change:
    """What happened, apart from versions; ``event`` says which fields count.

    ``label``: ``label`` moved from ``before`` to ``version`` (None: it was not there, or
    is taken away). ``archive``, ``restore``: of ``version``, or of the whole environment
    when that is None. ``metadata``: ``version`` has ``description`` and ``tags`` from now
    on. ``delete``: ``version`` is gone; its own record keeps definition and lock.
    """

    event: Event
    version: str | None = None
    label: str | None = None
    before: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """A :class:`Change` at its place in the chain."""

    workspace: str
    environment: str
    sequence: int
    previous: Digest | None
    time: str
    change: Change
    tool: str = ""

    def chain_bytes(self) -> bytes:
        """The record as stored."""
        change = self.change
        return encoded(
            {
                "schema": CHAIN_SCHEMA,
                "event": change.event,
                "workspace": self.workspace,
                "environment": self.environment,
                "sequence": self.sequence,
                "previous": None if self.previous is None else str(self.previous),
                "time": self.time,
                "version": change.version,
                "label": change.label,
                "before": change.before,
                "description": change.description,
                "tags": dict(change.tags),
                "tool": self.tool,
            }
        )


HistoryRecord = VersionRecord | ChangeRecord


def record_from_bytes(data: bytes) -> HistoryRecord:
    """Read any record of a chain; IntegrityError when it is not one that this version knows."""
    try:
        document: dict[str, Any] = json.loads(data)
        if document["event"] == "version":
            return VersionRecord.from_bytes(data)
        if document["schema"] != CHAIN_SCHEMA or document["event"] not in EVENTS:
            raise unknown_record(document)
        previous = document["previous"]
        return ChangeRecord(
            workspace=document["workspace"],
            environment=document["environment"],
            sequence=document["sequence"],
            previous=None if previous is None else Digest(previous),
            time=document["time"],
            change=Change(
                document["event"],
                document["version"],
                document["label"],
                document["before"],
                document["description"],
                dict(document["tags"]),
            ),
            tool=document["tool"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"a history record is not whole: {error!r}") from error
