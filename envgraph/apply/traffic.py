"""Versions on their way: pushed to registries, pulled and shared, and what is listed there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.api.events import Event
from envgraph.apply.exchange import Exchange
from envgraph.apply.executor import ParallelMap
from envgraph.apply.reports import PushReport
from envgraph.errors import InputError, NotFoundError, OfflineError
from envgraph.history.find import parsed
from envgraph.history.read import environment_names
from envgraph.history.shelf import CURATED, Shelf
from envgraph.model.config import WorkspaceConfig
from envgraph.model.records import VersionRecord
from envgraph.registry.remotes import WORKSPACE, Remote, Remotes
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.apply.library import Library, Pulled
    from envgraph.history.fold import EnvironmentState
    from envgraph.history.listing import Listing
    from envgraph.history.timeline import Entry
    from envgraph.image.bases import LayerSource
    from envgraph.plan.steps import Borrowed

DEFAULT_PARALLELISM: Final = 4


class Traffic:
    """What moves between one workspace's store and registries; bound by the workspace."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        remotes: Callable[[], Remotes],
        bases: Callable[[], LayerSource],
        find: Callable[[str], VersionRecord],
        alone: Callable[[str], AbstractContextManager[None]],
        now: Callable[[], datetime],
        lock_timeout: float,
    ) -> None:
        """Bind; asks nothing.

        ``find`` finds a version by its reference; ``alone`` excludes every other apply of
        the workspace.
        """
        self._config = config
        self._store = store
        self._remotes = remotes
        self._bases = bases
        self._find = find
        self._alone = alone
        self._now = now
        self._lock_timeout = lock_timeout

    def push(
        self,
        reference: str,
        *,
        to: str | None = None,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> tuple[VersionRecord, PushReport]:
        """Bring a version into a registry: the workspace's own, or a named one.

        NotFoundError where there is no such version or registry.
        """
        record = self._find(reference)
        exchange = self._exchange_with(self._remote(to))
        with self._lease(f"push of {reference}"):
            return record, exchange.push_records([record], parallelism, on_event)

    def pull(
        self,
        reference: str,
        *,
        source: str | None = None,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> Pulled:
        """Bring a version into the store: out of a registry's catalogue, or one of ours again.

        ``azureml://registries/…``, or a name with ``source``, is looked up in that
        registry's catalogue; else a version of this workspace has its image fetched from
        the workspace's registry, and a name that is unknown here is looked up in that
        registry's catalogue. NotFoundError where there is none.
        """
        wanted = parsed(reference)
        registry = wanted.registry or source
        if registry is None and (
            wanted.definition is not None
            or self._config.registry is None
            or wanted.name in environment_names(self._store, self._config.id)
        ):
            record = self._find(reference)
            with self._alone("pull"):
                library = self._library(self._remote(None), parallelism, on_event)
                return library.restore(record)
        with self._alone("pull"):
            library = self._library(self._remote(registry), parallelism, on_event)
            asked = [(wanted.name, wanted.version, wanted.label)]
            [pulled] = library.pull(asked, register=True)
            return pulled

    def share(
        self,
        reference: str,
        *,
        to: str,
        claim: bool = False,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> tuple[VersionRecord, PushReport]:
        """Push a version and name it in a registry's catalogue, for other workspaces.

        The catalogue takes over this workspace's labels, and what it has archived, of
        versions that are shared: ``moves`` of the report. A version that was shared before
        sends nothing else.

        ``claim``: the registry belongs to this workspace from now on, and nobody else
        shares there. NotOwnerError where it belongs to another one; EnvgraphError
        ``version-taken`` where that version is shared already and is another one.
        """
        from envgraph.interchange.parcel import pack

        record = self._find(reference)
        remote = self._remote(to)
        with self._lease(f"share of {reference}"):
            library = self._library(remote, parallelism, on_event)
            library.check_share(record, claim=claim)
            report = self._exchange_with(remote).push_records([record], parallelism, on_event)
            if report.count and not report.failures:
                report.moves = library.publish(pack(self._store, self._config, record))
            return record, report

    def bundle(
        self,
        references: Sequence[str],
        path: Path,
        *,
        with_base: bool = False,
        packages: bool = False,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> tuple[list[VersionRecord], int]:
        """Write versions into one file; the versions, and the bytes of what is in it.

        ``with_base``: the layers of bases in registries too (they are fetched if the store
        lacks them); ``packages``: the package archives too.
        """
        from envgraph.image.bases import ensure_base
        from envgraph.interchange.bundle import BundleWriter
        from envgraph.interchange.parcel import pack

        records = [self._find(reference) for reference in references]
        for record in records:
            if record.kind == CURATED:
                raise InputError(
                    f"{record.environment!r} is curated: it stays in its registry",
                    code="curated",
                    hint="copy that registry (`type: dirs` is a folder), or bundle your own",
                )
        with self._lease("bundle"):
            parcels = [pack(self._store, self._config, record) for record in records]
            if with_base:
                bases = [lock.base for p in parcels for lock in p.contents.locks.values()]
                ensure_base(
                    self._store,
                    bases,
                    self._bases(),
                    mapper=ParallelMap(parallelism),
                    on_event=on_event,
                )
            writer = BundleWriter(self._store, with_base=with_base, packages=packages)
            for parcel in parcels:
                writer.add(parcel)
            return records, writer.write(path)

    def unbundle(
        self,
        path: Path,
        *,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> list[Pulled]:
        """Make the versions in a bundle this workspace's own, verified as every pull is."""
        from envgraph.apply.library import Library
        from envgraph.interchange.bundle import Bundle
        from envgraph.lock.pins import Pins

        bundle = Bundle(path)
        with self._alone("bundle import"):
            library = Library(
                self._config,
                self._store,
                bundle.remote,
                now=self._now(),
                parallelism=parallelism,
                on_event=on_event,
                is_bundle=True,
            )
            wanted = [(name, version, None) for name, version in bundle.versions()]
            pulled = library.pull(wanted, register=True)
            pins = Pins(self._store, self._config.id)
            locks = [
                pins.read(reference.record)
                for item in pulled
                for reference in item.record.locks.values()
            ]
            with self._store.transaction() as batch:
                bundle.copy_archives(
                    self._store, (p for lock in locks for p in lock.packages), batch
                )
                batch.commit()
            return pulled

    def listed(
        self, name: str, *, all: bool = False, archived: bool = False
    ) -> list[VersionRecord]:
        """The environments that a registry shares; with --offline those that were seen before.

        With ``all`` every version, else the latest of each; ``archived`` ones too.
        """
        try:
            remote = self._remote(name)
        except OfflineError:
            shelf = Shelf(self._store, self._config.id)
            return shelf.listed(name, all=all, archived=archived)
        with self._lease(f"list of {name}"):
            library = self._library(remote, DEFAULT_PARALLELISM)
            return library.listed(all=all, archived=archived)

    def listings(self, name: str, *, all: bool = False, archived: bool = False) -> list[Listing]:
        """The same as ``list`` shows it, with the catalogue's labels."""
        from envgraph.history.listing import listing_of

        found = self.listed(name, all=all, archived=archived)
        shelf = Shelf(self._store, self._config.id)
        listings = []
        for record in found:
            known = shelf.get(name, record.environment)
            hidden = record.version in known.archived
            labels = known.labels_of(record.version)
            listings.append(listing_of(record, labels, archived=hidden))
        return listings

    def standing(self, registry: str, record: VersionRecord) -> tuple[tuple[str, ...], bool]:
        """The catalogue's labels of a version, and whether it is archived there, as last seen."""
        known = Shelf(self._store, self._config.id).get(registry, record.environment)
        return known.labels_of(record.version), record.version in known.archived

    def history(self, reference: str) -> tuple[EnvironmentState, list[Entry]]:
        """What was shared under a name of a catalogue, and every move of a label, newest first."""
        from envgraph.history.timeline import timeline

        wanted = parsed(reference)
        remote = self._remote(wanted.registry)
        state, records = self._library(remote, DEFAULT_PARALLELISM).history(wanted.name)
        return state, timeline(state, records)

    def find(self, reference: str) -> VersionRecord:
        """A version of a registry's catalogue: from the store, else pulled."""
        wanted = parsed(reference)
        shelf = Shelf(self._store, self._config.id)
        try:
            remote = self._remote(wanted.registry)
        except OfflineError as error:
            found = shelf.find(wanted.registry, wanted.name, wanted.version, wanted.label)
            if found is None:
                raise OfflineError(
                    f"{wanted} is not in the store, and --offline asks no registry",
                    hint=f"run `envgraph pull {wanted}` once without --offline",
                ) from error
            return found
        if wanted.version is not None:
            known = shelf.find(wanted.registry, wanted.name, wanted.version, None)
            if known is not None:
                return known
        with self._alone("pull"):
            asked = [(wanted.name, wanted.version, wanted.label)]
            [pulled] = self._library(remote, DEFAULT_PARALLELISM).pull(asked, register=False)
            return pulled.record

    def fetch(
        self,
        borrowed: Borrowed,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> Pulled:
        """Bring a version that a job uses by its address into the store, as a plan says it."""
        remote = self._remote(borrowed.registry)
        with self._alone("pull"):
            asked = [(borrowed.name, borrowed.version, borrowed.label)]
            library = self._library(remote, parallelism, on_event)
            [pulled] = library.pull(asked, register=False)
            return pulled

    def _remote(self, name: str | None) -> Remote:
        """A named registry, or the workspace's own; NotFoundError, OfflineError."""
        if name is None and self._config.registry is None:
            raise NotFoundError(
                "this workspace has no registry",
                code="no-registry",
                hint="write `registry:` into envgraph.yaml, or name one of `registries:`",
            )
        return self._remotes().named(WORKSPACE if name is None else name)

    def _exchange_with(self, remote: Remote) -> Exchange:
        provider = self._config.registries.get(remote.name) or self._config.registry
        assert provider is not None
        return Exchange(
            self._config,
            self._store,
            lambda: remote,
            provider,
            now=self._now(),
            base_layers=self._bases(),
            remotes=self._remotes,
        )

    def _library(
        self,
        remote: Remote,
        parallelism: int,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> Library:
        from envgraph.apply.library import Library

        return Library(
            self._config,
            self._store,
            remote,
            now=self._now(),
            parallelism=parallelism,
            on_event=on_event,
        )

    def _lease(self, purpose: str) -> AbstractContextManager[None]:
        return self._store.lease(purpose, timeout=self._lock_timeout)
