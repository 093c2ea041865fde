"""A catalogue follows the workspace that shares: its labels, and what it has archived.

A label travels when the version that it means is shared, and is the same one there. What
another workspace has said of an environment stays, unless this one says otherwise of a
version of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from envgraph.history.fold import LATEST, EnvironmentState, VersionState
from envgraph.history.read import read_version
from envgraph.interchange.catalogue import Catalogue, is_same
from envgraph.model.history import Change, ChangeRecord, HistoryRecord
from envgraph.model.records import VersionRecord
from envgraph.registry.moves import CatalogueState, state_of_moves
from envgraph_store import Digest, Store


class Follower:
    """Brings one environment's labels and archived versions into a catalogue."""

    def __init__(self, store: Store, workspace: str, catalogue: Catalogue) -> None:
        """Bind; asks nothing."""
        self._store = store
        self._workspace = workspace
        self._catalogue = catalogue

    def follow(
        self, state: EnvironmentState, shared: str, *, time: str, tool: str
    ) -> tuple[Change, ...]:
        """Record what differs, and let the labels' tags follow; what was recorded.

        ``shared`` is the version that was shared just now: it is the same one there.
        """
        name = state.name
        there = set(self._catalogue.versions(name))
        now = self._catalogue.state(name)
        mine: dict[str, bool] = {shared: True}
        changes = [
            *self._labels(state, now, there, mine),
            *self._hidden(state, now, there, mine),
        ]
        if not changes:
            return ()
        self._catalogue.record(name, changes, workspace=self._workspace, time=time, tool=tool)
        for change in changes:
            if change.event == "label" and change.version is not None:
                self._catalogue.let_mean(name, change.label or "", change.version)
        if any(change.event != "label" for change in changes):
            visible = [
                v for v in state.versions.values()
                if v.version in there and state.holds(v) and not v.anonymous
                and self._is_mine(state, v.version, mine)
            ]  # fmt: skip
            if visible:
                newest = max(visible, key=lambda v: v.sequence)
                self._catalogue.let_mean(name, LATEST, newest.version)
        return tuple(changes)

    def _labels(
        self, state: EnvironmentState, now: CatalogueState, there: set[str], mine: dict[str, bool]
    ) -> list[Change]:
        changes = []
        for label, version in sorted(state.labels.items()):
            before = now.labels.get(label, (None, ""))[0]
            if version in there and before != version and self._is_mine(state, version, mine):
                changes.append(Change("label", version, label, before))
        for label, (version, said_by) in sorted(now.labels.items()):
            if said_by == self._workspace and label not in state.labels:
                changes.append(Change("label", None, label, version))
        return changes

    def _hidden(
        self, state: EnvironmentState, now: CatalogueState, there: set[str], mine: dict[str, bool]
    ) -> list[Change]:
        changes = []
        for version in state.versions.values():
            if version.version not in there or version.deleted:
                continue
            hidden = state.is_hidden(version)
            if hidden == (version.version in now.archived):
                continue
            if self._is_mine(state, version.version, mine):
                changes.append(Change("archive" if hidden else "restore", version.version))
        return changes

    def _is_mine(self, state: EnvironmentState, version: str, mine: dict[str, bool]) -> bool:
        """The catalogue's version of that number is this workspace's."""
        if version not in mine:
            known = state.versions.get(version)
            artifact = self._catalogue.meant(state.name, version)
            theirs = self._catalogue.fetch(state.name, artifact).record
            mine[version] = (
                known is not None
                and not known.deleted
                and is_same(theirs, read_version(self._store, known))
            )
        return mine[version]


def catalogue_history(
    name: str, shared: Mapping[Digest, VersionRecord], moves: Sequence[ChangeRecord]
) -> tuple[EnvironmentState, list[tuple[Digest, HistoryRecord]]]:
    """A catalogue's history of an environment: its state, and all records, newest first.

    ``shared``: the versions by their artifacts.
    """
    found: list[tuple[Digest, HistoryRecord]] = [*shared.items()]
    found += [(Digest.of(move.chain_bytes()), move) for move in moves]
    found.sort(key=lambda item: item[1].time)
    now = state_of_moves(moves)
    versions = {}
    numbered: list[tuple[Digest, HistoryRecord]] = []
    for number, (digest, record) in enumerate(found, 1):
        numbered.append((digest, replace(record, sequence=number)))
        if isinstance(record, VersionRecord):
            versions[record.version] = VersionState(
                record.version, digest, number, record.time, record.definition, record.image,
                archived=record.version in now.archived,
            )  # fmt: skip
    state = EnvironmentState(name, None, len(found), versions, now.meaning())
    return state, numbered[::-1]


def moves_json(changes: tuple[Change, ...]) -> list[Mapping[str, str | None]]:
    """The moves as programs read them."""
    return [
        {"event": c.event, "label": c.label, "from": c.before, "to": c.version}
        if c.event == "label"
        else {"event": c.event, "version": c.version}
        for c in changes
    ]
