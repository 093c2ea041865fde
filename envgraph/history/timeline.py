"""What happened to an environment, entry by entry, for ``history``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from envgraph.history.fold import EnvironmentState
from envgraph.model.history import Change, HistoryRecord
from envgraph.model.records import VersionRecord
from envgraph_store.digest import Digest


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, and what holds now of the version that it speaks of."""

    digest: Digest
    record: HistoryRecord
    before: str | None = None
    """Of a version: the one that it was registered after."""

    labels: tuple[str, ...] = ()
    state: str = ""
    """``archived`` or ``deleted`` now, of a version."""

    @property
    def event(self) -> str:
        """``version``, ``label``, ``archive``, ``restore``, ``metadata`` or ``delete``."""
        return "version" if isinstance(self.record, VersionRecord) else self.record.change.event

    @property
    def version(self) -> str | None:
        """The version that it is about; None for the whole environment."""
        if isinstance(self.record, VersionRecord):
            return self.record.version
        return self.record.change.version

    @property
    def parent(self) -> str | None:
        """Of a version: what it was made from, else the version before it."""
        if not isinstance(self.record, VersionRecord):
            return None
        return self.record.parent or (
            None if self.before is None else f"{self.record.environment}:{self.before}"
        )

    def what(self) -> str:
        """What happened, in a few words."""
        if isinstance(self.record, VersionRecord):
            return self._registered(self.record)
        return change_words(self.record.change)

    def _registered(self, record: VersionRecord) -> str:
        if record.changed == ("image",):
            text = "image assembled anew"
        elif record.changed:
            text = f"{', '.join(record.changed)} changed"
        elif self.before is None:
            text = "first version"
        else:
            text = "registered"
        if record.parent:
            text += f", from {record.parent}"
        notes = [*(f"@{label}" for label in self.labels), *([self.state] if self.state else [])]
        return f"{text} ({', '.join(notes)})" if notes else text

    def to_json(self) -> dict[str, Any]:
        """The entry as programs read it."""
        record = self.record
        found: dict[str, Any] = {
            "sequence": record.sequence,
            "time": record.time,
            "event": self.event,
            "version": self.version,
            "record": str(self.digest),
            "previous": None if record.previous is None else str(record.previous),
            "tool": record.tool,
        }
        if isinstance(record, VersionRecord):
            return found | {
                "kind": record.kind,
                "parent": self.parent,
                "changed": list(record.changed),
                "definition": str(record.definition),
                "runtime": str(record.runtime),
                "lock": {p: str(lock.identity) for p, lock in record.locks.items()},
                "image": str(record.image),
                "labels": list(self.labels),
                "archived": self.state == "archived",
                "deleted": self.state == "deleted",
                "anonymous": record.anonymous,
            }
        change = record.change
        if change.event == "label":
            return found | {"label": change.label, "from": change.before, "to": change.version}
        if change.event == "metadata":
            return found | {"description": change.description, "tags": dict(change.tags)}
        return found


def change_words(change: Change) -> str:
    """A change in a few words."""
    if change.event == "label":
        if change.version is None:
            return f"label {change.label}: taken from {change.before}"
        if change.before is None:
            return f"label {change.label}: set to {change.version}"
        return f"label {change.label}: {change.before} -> {change.version}"
    words = {"archive": "archived", "restore": "restored", "delete": "deleted",
             "metadata": "description or tags changed"}  # fmt: skip
    whole = " (the whole environment)" if change.version is None else ""
    return words[change.event] + whole


def timeline(
    state: EnvironmentState, records: Iterable[tuple[Digest, HistoryRecord]]
) -> list[Entry]:
    """Every record with what holds now, newest first as they come."""
    newest_first = list(records)
    entries: list[Entry] = []
    before: str | None = None
    for digest, record in reversed(newest_first):
        if not isinstance(record, VersionRecord):
            entries.append(Entry(digest, record))
            continue
        known = state.versions[record.version]
        now = ""
        labels: tuple[str, ...] = ()
        if known.record == digest:
            now = "deleted" if known.deleted else "archived" if state.is_hidden(known) else ""
            labels = () if known.deleted else state.labels_of(record.version)
        entries.append(Entry(digest, record, before, labels, now))
        before = record.version
    return entries[::-1]
