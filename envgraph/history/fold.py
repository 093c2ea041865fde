"""What holds now, as a fold over the records of a history. Pure.

The rules, and the only place that has them:

- ``latest`` is the newest version that is neither archived nor deleted nor anonymous.
- A version lives again when it is registered again with the same number (a new image of
  the same version); archived stays archived. A deleted number is never used again.
- What a version keeps (images, layers) is kept while it, and the whole environment, is
  neither archived nor deleted.
- Deleting or archiving a version moves no label: a label that means a deleted version
  means nothing until it is moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Final

from envgraph.errors import IntegrityError
from envgraph.model.history import Change, HistoryRecord
from envgraph.model.records import VersionRecord
from envgraph_store.digest import Digest

STATE_SCHEMA: Final = "envgraph.state/1"
LATEST: Final = "latest"


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version as it is now. ``record``: the newest record of it; ``sequence``: its own."""

    version: str
    record: Digest
    sequence: int
    time: str
    definition: Digest
    image: Digest
    holdings: Digest | None = None
    archived: bool = False
    deleted: bool = False
    anonymous: bool = False
    edited: bool = False
    """``description`` and ``tags`` differ from those of the record."""

    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """One environment as it is now: its versions in the order of their first records."""

    name: str
    head: Digest | None = None
    sequence: int = 0
    versions: Mapping[str, VersionState] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    archived: bool = False

    @property
    def latest(self) -> VersionState | None:
        """The newest version that is neither archived nor deleted nor anonymous."""
        return _newest(v for v in self.versions.values() if not v.archived)

    @property
    def newest(self) -> VersionState | None:
        """The newest version that is neither deleted nor anonymous: what is listed."""
        return _newest(self.versions.values())

    @property
    def compared(self) -> VersionState | None:
        """What a plan compares with: the newest; where all are anonymous, one of those."""
        return _newest(self.versions.values(), anonymous=self.is_anonymous)

    @property
    def is_anonymous(self) -> bool:
        """It exists for jobs and deployments alone."""
        return bool(self.versions) and all(v.anonymous for v in self.versions.values())

    def is_hidden(self, version: VersionState) -> bool:
        """Archived, by itself or with the whole environment."""
        return self.archived or version.archived

    def holds(self, version: VersionState) -> bool:
        """Its images and layers are kept."""
        return not version.deleted and not self.is_hidden(version)

    def labels_of(self, version: str) -> tuple[str, ...]:
        """The labels that mean this version, ``latest`` first."""
        newest = self.latest
        own = (LATEST,) if newest is not None and newest.version == version else ()
        return own + tuple(sorted(la for la, meant in self.labels.items() if meant == version))

    def to_json(self) -> dict[str, Any]:
        """The state as kept beside the head, so that nobody has to walk a chain to list it."""
        return {
            "schema": STATE_SCHEMA,
            "name": self.name,
            "sequence": self.sequence,
            "archived": self.archived,
            "labels": dict(sorted(self.labels.items())),
            "versions": [_version_json(self, version) for version in self.versions.values()],
        }


def _newest(versions: Iterable[VersionState], *, anonymous: bool = False) -> VersionState | None:
    found = [v for v in versions if not v.deleted and (anonymous or not v.anonymous)]
    return max(found, key=lambda v: v.sequence, default=None)


def _version_json(state: EnvironmentState, version: VersionState) -> dict[str, Any]:
    """Bare hex names without keeping; ``holds`` keeps, and is there only while it should."""
    document: dict[str, Any] = {
        "version": version.version,
        "record": version.record.hex,
        "sequence": version.sequence,
        "time": version.time,
        "definition": version.definition.hex,
        "image": version.image.hex,
        "holdings": None if version.holdings is None else version.holdings.hex,
        "holds": None,
        "archived": version.archived,
        "deleted": version.deleted,
        "anonymous": version.anonymous,
        "edited": [version.description, dict(version.tags)] if version.edited else None,
    }
    if version.holdings is not None and state.holds(version):
        document["holds"] = str(version.holdings)
    return document


def state_from_json(document: Mapping[str, Any], head: Digest) -> EnvironmentState:
    """Read a kept state; IntegrityError when it is not one that this version knows."""
    try:
        if document["schema"] != STATE_SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}")
        versions = {}
        for item in document["versions"]:
            edited = item["edited"]
            held = item["holdings"]
            versions[item["version"]] = VersionState(
                item["version"],
                Digest.from_hex(item["record"]),
                item["sequence"],
                item["time"],
                Digest.from_hex(item["definition"]),
                Digest.from_hex(item["image"]),
                None if held is None else Digest.from_hex(held),
                item["archived"],
                item["deleted"],
                item["anonymous"],
                edited is not None,
                None if edited is None else edited[0],
                {} if edited is None else edited[1],
            )
        return EnvironmentState(
            document["name"],
            head,
            document["sequence"],
            versions,
            document["labels"],
            document["archived"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"the state of an environment is not whole: {error!r}") from error


def advance(state: EnvironmentState, record: HistoryRecord, digest: Digest) -> EnvironmentState:
    """The state after one more record, whose blob is ``digest``."""
    state = replace(state, head=digest, sequence=record.sequence)
    if isinstance(record, VersionRecord):
        known = state.versions.get(record.version)
        version = VersionState(
            record.version,
            digest,
            record.sequence,
            record.time,
            record.definition,
            record.image,
            record.holdings,
            archived=known is not None and known.archived,
            anonymous=record.anonymous,
        )
        return replace(state, versions={**state.versions, record.version: version})
    return _changed(state, record.change)


def _changed(state: EnvironmentState, change: Change) -> EnvironmentState:
    if change.event == "label":
        labels = {k: v for k, v in state.labels.items() if k != change.label}
        if change.version is not None:
            labels[change.label or ""] = change.version
        return replace(state, labels=labels)
    if change.version is None:
        return replace(state, archived=change.event == "archive")
    known = state.versions.get(change.version)
    if known is None:
        raise IntegrityError(
            f"the history of {state.name!r} speaks of version {change.version!r},"
            " which it has not registered",
            code="history-broken",
        )
    if change.event == "metadata":
        known = replace(known, edited=True, description=change.description, tags=change.tags)
    elif change.event == "delete":
        known = replace(known, deleted=True)
    else:
        known = replace(known, archived=change.event == "archive")
    return replace(state, versions={**state.versions, known.version: known})


def fold(name: str, records: Iterable[tuple[Digest, HistoryRecord]]) -> EnvironmentState:
    """The state after all records, the oldest first."""
    return reduce(
        lambda state, item: advance(state, item[1], item[0]), records, EnvironmentState(name)
    )
