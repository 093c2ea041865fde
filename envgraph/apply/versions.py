"""The versions of a workspace: listed, compared, and changed in what may change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from envgraph.apply.newfiles import NewFiles
from envgraph.errors import InputError, NotFoundError
from envgraph.history.find import find_state, parsed
from envgraph.history.fold import EnvironmentState, VersionState
from envgraph.history.listing import Listing, listing_in, listing_of, top_listing
from envgraph.history.read import (
    environment_names,
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
    from envgraph.apply.changes import Changes
    from envgraph.diff.pictures import PictureDiff, PictureWhy
    from envgraph.diff.versions import VersionDiff
    from envgraph.diff.why import Why
    from envgraph.history.sides import Sides
    from envgraph.history.timeline import Entry
    from envgraph.lock.registry_bases import RegistryBases
    from envgraph.registry.remotes import Remotes


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change was about. ``done``: False when it was so already, and nothing was recorded.

    ``version`` is None for the whole environment; ``before`` what a label meant.
    """

    name: str
    version: str | None
    done: bool
    before: str | None = None

    @property
    def title(self) -> str:
        """``train:3``, or ``train``."""
        return self.name if self.version is None else f"{self.name}:{self.version}"


class Versions(NewFiles):
    """What is registered in one workspace; bound by the workspace."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        find: Callable[[str], VersionRecord],
        alone: Callable[[str], AbstractContextManager[None]],
        now: Callable[[], datetime],
        bases: Callable[[], RegistryBases],
        remotes: Callable[[], Remotes],
        elsewhere: Callable[[str], Versions],
    ) -> None:
        """Bind; reads nothing.

        ``find`` finds a version by its reference, in registries too; ``alone`` excludes
        every other writer of the workspace; ``elsewhere`` opens the versions of the
        workspace in another folder.
        """
        self._bases = bases
        self._remotes = remotes
        self._elsewhere = elsewhere
        super().__init__(config, store, find)
        self._alone = alone
        self._now = now

    # -- looking ---------------------------------------------------------

    def listed(self, *, all: bool = False, archived: bool = False) -> list[Listing]:
        """The latest version of every environment by name; with ``all`` every version.

        ``archived``: what is archived too. Anonymous and deleted ones never. Reads one ref
        for each environment, unless ``all`` is asked for: that walks every chain.
        """
        found: list[Listing] = []
        for name, ref in sorted(environment_refs(self._store, self._config.id).items()):
            if all or "listing" not in ref.value:
                state = state_at(self._store, self._config.id, name, ref.value)
                found += self._every(state, archived=archived) if all else _top(self._store, state)
            elif ref.value["listing"] is not None:
                found.append(listing_in(name, ref.value["listing"]))
        return [item for item in found if archived or not item.archived]

    def records(self, *, all: bool = False, archived: bool = False) -> list[VersionRecord]:
        """The records of what :meth:`listed` lists."""
        if all:
            return [
                record
                for name in environment_names(self._store, self._config.id)
                if (state := self.state(name)) is not None
                for record, _ in self._every_record(state, archived=archived)
            ]
        return [
            record
            for item in self.listed(archived=archived)
            if (state := self.state(item.name)) is not None
            for record in [read_version(self._store, state.versions[item.version])]
        ]

    def _every(self, state: EnvironmentState, *, archived: bool) -> list[Listing]:
        return [
            listing_of(record, state.labels_of(v.version), archived=state.is_hidden(v))
            for record, v in self._every_record(state, archived=archived)
        ]

    def _every_record(
        self, state: EnvironmentState, *, archived: bool
    ) -> list[tuple[VersionRecord, VersionState]]:
        found = []
        for record in versions(self._store, self._config.id, state.name):
            version = state.versions[record.version]
            if version.anonymous or (state.is_hidden(version) and not archived):
                continue
            found.append((record, version))
        return found[::-1]

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

    def diff(self, one: str, two: str, *, platform: str | None = None) -> VersionDiff | PictureDiff:
        """What differs between two versions, lockfiles or images, in packages, base and all else.

        See :mod:`envgraph.history.sides` for what can be named. Where one of them is an
        image of which no lock is known, what images say of themselves is compared.
        NotFoundError for one that is not there, or where they have no platform in common.
        """
        from envgraph.diff.pictures import compare_pictures
        from envgraph.diff.versions import Side, compare_versions

        before, after = self.sides.pair(one, two, platform)
        if isinstance(before, Side) and isinstance(after, Side):
            return compare_versions(before, after)
        assert not isinstance(before, Side)
        assert not isinstance(after, Side)
        return compare_pictures(before, after)

    def why(
        self, one: str, two: str | None = None, *, platform: str | None = None
    ) -> Why | PictureWhy:
        """The smallest sets of inputs that make two versions differ, and what the second costs.

        Without ``two``: ``one`` beside what it was made from, or else the version before it.
        NotFoundError when there is none, or one of them is not there.
        """
        from envgraph.apply.why import explain_sides
        from envgraph.diff.pictures import explain_pictures
        from envgraph.diff.versions import Side

        sides = self.sides
        if two is not None:
            before, after = sides.pair(one, two, platform)
            if isinstance(before, Side) and isinstance(after, Side):
                return explain_sides(self._config, before, after)
            assert not isinstance(before, Side)
            assert not isinstance(after, Side)
            return explain_pictures(before, after)
        if not sides.is_reference(one):
            raise NotFoundError(
                f"what was before {one!r} is not known here",
                code="no-previous",
                hint="name two: envgraph why A B",
            )
        record = self._find(one)
        return explain_sides(self._config, *sides.of_records(self._before(record), record))

    def _before(self, record: VersionRecord) -> VersionRecord:
        name = record.environment
        for older in versions(self._store, self._config.id, name, deleted=True):
            if older.sequence < record.sequence and record.workspace == self._config.id:
                return older
        if record.parent and not record.parent.lower().startswith("azureml://"):
            return self._find(record.parent)
        raise NotFoundError(
            f"{name}:{record.version} is the first version: nothing was before it",
            code="no-previous",
            hint="name two: envgraph why A B",
        )

    # -- changing --------------------------------------------------------

    def archive(self, reference: str) -> Changed:
        """Hide a version, or (named without version and label) the whole environment."""
        return self._change(reference, "archive")

    def restore(self, reference: str) -> Changed:
        """Show again what was archived."""
        return self._change(reference, "restore")

    def label(self, reference: str, label: str, *, remove: bool = False) -> Changed:
        """Let a label mean a version; with ``remove``, take it away from there.

        InputError for ``latest`` and for what no label can be; NotFoundError when the label
        to remove does not mean that version.
        """
        with self._alone("label"):
            name, version = self._named(reference)
            changes = self._changes(name)
            before = changes.state.labels.get(label)
            if remove and before != version:
                raise NotFoundError(
                    f"the label {label!r} does not mean {name}:{version}",
                    code="unknown-label",
                    hint="" if before is None else f"it means {before}",
                )
            done = changes.label(None if remove else version, label)
            return Changed(name, version, done, before)

    def delete(self, reference: str, *, all: bool = False) -> Changed:
        """Delete a version, or ``all`` of an environment; definitions and locks are kept.

        InputError when an environment is named without a version and without ``all``;
        EnvgraphError ``label-in-use`` when a label means what is to go.
        """
        with self._alone("delete"):
            state, found = self._state(reference)
            whole = self._is_whole(reference)
            known = [v.version for v in state.versions.values() if not v.deleted]
            if all and not whole:
                raise InputError(
                    f"{reference!r} names one version: --all is for a name alone",
                    code="no-version",
                )
            if whole and not all:
                raise InputError(
                    f"which version of {state.name!r} is to be deleted?",
                    code="no-version",
                    detail=f"it has {', '.join(known[::-1][:10])}" if known else "",
                    hint="name one, or give --all to delete every version",
                )
            if whole or found is None:
                return Changed(state.name, None, self._changes(state.name).delete(known))
            done = self._changes(state.name).delete([found.version])
            return Changed(state.name, found.version, done)

    def describe(self, reference: str, description: str | None, tags: dict[str, str]) -> Changed:
        """Give a version another description and other tags: all that may change of it."""
        with self._alone("describe"):
            name, version = self._named(reference)
            done = self._changes(name).describe(version, description, tags)
            return Changed(name, version, done)

    def _change(self, reference: str, event: Literal["archive", "restore"]) -> Changed:
        with self._alone(event):
            state, found = self._state(reference)
            whole = self._is_whole(reference)
            version = None if whole or found is None else found.version
            changes = self._changes(state.name)
            done = changes.archive(version) if event == "archive" else changes.restore(version)
            return Changed(state.name, version, done)

    def _is_whole(self, reference: str) -> bool:
        """It names an environment and neither version nor label."""
        wanted = parsed(reference)
        return bool(wanted.name) and wanted.version is None and wanted.label is None

    def _named(self, reference: str) -> tuple[str, str]:
        """Name and version; NotFoundError when no version is meant."""
        from envgraph.history.find import find_version

        record = find_version(self._store, self._config.id, reference, self._config.name)
        return record.environment, record.version

    def _state(self, reference: str) -> tuple[EnvironmentState, VersionState | None]:
        return find_state(self._store, self._config.id, reference, self._config.name)

    def _changes(self, name: str) -> Changes:
        from envgraph.apply.changes import Changes

        return Changes(self._config, self._store, name, self._now())

    @property
    def sides(self) -> Sides:
        """What can be compared, as this workspace sees it."""
        from envgraph.history.sides import Sides

        return Sides(
            self._store,
            self._config.id,
            str(self._config.root),
            self._find,
            bases=self._bases,
            remotes=self._remotes,
            elsewhere=lambda folder: self._elsewhere(folder).sides,
        )


def _top(store: Store, state: EnvironmentState) -> list[Listing]:
    """What is listed of an environment whose ref does not say it."""
    top = state.latest or state.newest
    listing = None if top is None else top_listing(state, read_version(store, top))
    return [] if listing is None else [listing]
