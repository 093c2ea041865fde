"""The versions of a workspace: listed, compared, and changed in what may change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from envgraph.history.find import find_state, parsed
from envgraph.history.fold import EnvironmentState, VersionState
from envgraph.history.read import (
    environment_refs,
    history,
    read_version,
    state_at,
    state_of,
    versions,
)
from envgraph.model.config import WorkspaceConfig
from envgraph.model.records import VersionRecord
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.diff.versions import VersionDiff
    from envgraph.history.sides import Sides
    from envgraph.history.timeline import Entry


@dataclass(frozen=True, slots=True)
class Listed:
    """One version as ``list`` shows it."""

    record: VersionRecord
    labels: tuple[str, ...] = ()
    archived: bool = False


class Versions:
    """What is registered in one workspace; bound by the workspace."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        find: Callable[[str], VersionRecord],
        alone: Callable[[str], AbstractContextManager[None]],
        now: Callable[[], datetime],
    ) -> None:
        """Bind; reads nothing.

        ``find`` finds a version by its reference, in registries too; ``alone`` excludes
        every other writer of the workspace.
        """
        self._config = config
        self._store = store
        self._find = find
        self._alone = alone
        self._now = now

    # -- looking ---------------------------------------------------------

    def listed(self, *, all: bool = False, archived: bool = False) -> list[Listed]:
        """The latest version of every environment by name; with ``all`` every version.

        ``archived``: what is archived too. Anonymous and deleted ones never. Walks no chain
        unless ``all`` is asked for.
        """
        found: list[Listed] = []
        for name, ref in sorted(environment_refs(self._store, self._config.id).items()):
            state = state_at(self._store, self._config.id, name, ref.value)
            if state.is_anonymous or (state.archived and not archived):
                continue
            if all:
                found += self._every(state, archived=archived)
                continue
            top = state.latest or (state.newest if archived else None)
            if top is not None:
                found.append(self._listed(state, top, read_version(self._store, top)))
        return found

    def _every(self, state: EnvironmentState, *, archived: bool) -> list[Listed]:
        found = []
        for record in versions(self._store, self._config.id, state.name):
            version = state.versions[record.version]
            if version.anonymous or (version.archived and not archived):
                continue
            found.append(self._listed(state, version, record))
        return found[::-1]

    def _listed(
        self, state: EnvironmentState, version: VersionState, record: VersionRecord
    ) -> Listed:
        return Listed(record, state.labels_of(version.version), state.is_hidden(version))

    def state(self, name: str) -> EnvironmentState | None:
        """What holds now of an environment, by its name."""
        return state_of(self._store, self._config.id, name)

    def history(self, reference: str) -> tuple[EnvironmentState, list[Entry]]:
        """Everything that happened to the environment that a reference names, newest first.

        NotFoundError when there is none; IntegrityError where its chain is broken.
        """
        from envgraph.history.timeline import timeline

        wanted = parsed(reference)
        state = None if not wanted.name or wanted.registry else self.state(wanted.name)
        if state is None or wanted.workspace:
            state, _ = find_state(self._store, self._config.id, reference, self._config.name)
        records = history(self._store, self._config.id, state.name)
        return state, timeline(state, records)

    # -- comparing -------------------------------------------------------

    def diff(self, one: str, two: str, *, platform: str | None = None) -> VersionDiff:
        """What differs between two versions or lockfiles, in packages, base and all else.

        NotFoundError for one that is not there, or where they have no platform in common.
        """
        from envgraph.diff.versions import compare_versions

        return compare_versions(*self._sides().pair(one, two, platform))

    def _sides(self) -> Sides:
        from envgraph.history.sides import Sides

        return Sides(self._store, self._config.id, str(self._config.root), self._find)
