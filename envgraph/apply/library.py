"""Environments from and for the catalogues of registries: pull, share, list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from envgraph.api.events import Event
from envgraph.apply.cataloguing import Follower, catalogue_history
from envgraph.apply.executor import ParallelMap, node_failure
from envgraph.apply.publish import Naming, optional_layers, utc
from envgraph.apply.transfer import Transfers
from envgraph.errors import EnvgraphError, InputError
from envgraph.history.append import TOOL, Appender
from envgraph.history.fold import EnvironmentState
from envgraph.history.read import read_record, state_of, versions
from envgraph.history.shelf import Shelf
from envgraph.interchange.catalogue import LATEST, Catalogue, Shared, is_same
from envgraph.interchange.parcel import Parcel, pack
from envgraph.interchange.pull import Puller
from envgraph.interchange.wanted import Platform, Wanted
from envgraph.model.canonical import NodeKey
from envgraph.model.config import WorkspaceConfig
from envgraph.model.history import Change, HistoryRecord
from envgraph.model.names import reserved_prefix
from envgraph.model.records import VersionRecord
from envgraph.refresh.observe import Observer
from envgraph.registry.artifacts import EnvironmentRecord
from envgraph.registry.moves import CatalogueState, state_of_moves
from envgraph.registry.remotes import Remote
from envgraph_store import Digest, Store, Transaction


@dataclass(frozen=True, slots=True)
class Pulled:
    """A version that is in the store now. ``registered``: it is one of the workspace's own."""

    record: VersionRecord
    registry: str
    bytes_moved: int = 0
    registered: bool = False


class Library:
    """The catalogue of one registry, and what one workspace's store has of it.

    The caller holds a lease of the store.
    """

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        remote: Remote,
        *,
        now: datetime,
        parallelism: int,
        on_event: Callable[[Event], None] = lambda event: None,
        is_bundle: bool = False,
    ) -> None:
        """Bind; asks nothing.

        ``is_bundle``: the registry is a file, whose versions can only become this
        workspace's own, and bring the layers of their bases along.
        """
        self._is_bundle = is_bundle
        self._config = config
        self._store = store
        self._remote = remote
        self._catalogue = Catalogue(remote)
        self._shelf = Shelf(store, config.id)
        self._now = now
        self._map = ParallelMap(parallelism)
        self._transfers = Transfers(store, parallelism, on_event)

    # -- listing ---------------------------------------------------------

    def listed(self, *, all: bool = False, archived: bool = False) -> list[VersionRecord]:
        """The latest version of every environment; with ``all`` every version. Remembered.

        What is archived in the catalogue is left out, unless ``archived`` asks for it.
        """
        owner = self._catalogue.owner()
        found = dict(
            zip(
                names := self._catalogue.names(),
                self._map(lambda name: self._look(name, all=all), names),
                strict=True,
            )
        )
        with self._store.transaction() as batch:
            self._shelf.put_owner(
                batch, self._remote.name, None if owner is None else (owner.id, owner.name)
            )
            self._shelf.put(
                batch,
                self._remote.name,
                {name: records for name, (records, _, _) in found.items()},
                {name: {LATEST: version} for name, (_, version, _) in found.items() if version},
                {name: moved for name, (_, _, moved) in found.items() if moved is not None},
            )
            batch.commit()
        shown = [record for records, _, _ in found.values() for record, _ in records]
        if not archived:
            hidden = {name: self._shelf.get(self._remote.name, name).archived for name in names}
            shown = [r for r in shown if r.version not in hidden[r.environment]]
        return [self._shelf.shown(self._remote.name, record) for record in shown]

    def _moved(self, name: str) -> tuple[Digest | None, CatalogueState] | None:
        """What the catalogue's moves come to; None where they are those that are known."""
        artifact = self._catalogue.moves_digest(name)
        if artifact is None or artifact == self._shelf.get(self._remote.name, name).moves:
            return None
        return artifact, state_of_moves(self._catalogue.read_moves(name, artifact))

    def _look(
        self, name: str, *, all: bool
    ) -> tuple[
        list[tuple[VersionRecord, Digest]], str, tuple[Digest | None, CatalogueState] | None
    ]:
        """The versions to list, the newest first, which one is the latest, and what moved."""
        newest = self._seen(name, self._catalogue.meant(name))
        listed = [newest]
        if all:
            others = [
                self._seen(name, self._catalogue.meant(name, version))
                for version in self._catalogue.versions(name)
                if version != newest[0].version
            ]
            listed += sorted(others, key=lambda item: item[0].time, reverse=True)
        return listed, newest[0].version, self._moved(name)

    def _seen(self, name: str, artifact: Digest) -> tuple[VersionRecord, Digest]:
        known = self._shelf.get(self._remote.name, name)
        for record, seen in known.versions.values():
            if seen == artifact and self._store.blobs.has(record):
                return read_record(self._store, record), artifact
        return self._catalogue.fetch(name, artifact).record, artifact

    # -- pulling ---------------------------------------------------------

    def pull(
        self,
        wanted: Iterable[tuple[str, str | None, str | None]],
        *,
        register: bool,
    ) -> list[Pulled]:
        """Bring versions ``(name, version, label)`` into the store, each of them whole.

        ``register``: they become versions of the workspace, but for curated ones and
        reserved names. NotFoundError, RegistryError, IntegrityError as the registry has
        it; EnvgraphError ``version-taken`` when the workspace has another such version.
        """
        owner = self._catalogue.owner()
        found: list[tuple[Shared, str | None]] = []
        for name, version, label in wanted:
            artifact = self._catalogue.meant(name, version, label)
            shared = self._catalogue.fetch(name, artifact)
            if version is not None and shared.record.version != version:
                raise EnvgraphError(
                    f"{self._remote.title}: {name}:{version} is version {shared.record.version}",
                    code="registry-record",
                )
            found.append((shared, label or (None if version is not None else LATEST)))
        foreign = owner is not None and owner.id != self._config.id
        mine = [
            shared
            for shared, _ in found
            if register and not foreign and not self._is_reserved(shared.record)
        ]
        for shared in mine:
            check_version(self._store, self._config.id, shared.record)
        if self._is_bundle and len(mine) < len(found):
            raise _not_ours([shared.record for shared, _ in found if shared not in mine])
        moved = self._fetch([self._catalogue.parcel(shared) for shared, _ in found])
        registered = self._keep(found, mine, None if owner is None else (owner.id, owner.name))
        pulled = []
        for shared, _ in found:
            own = registered.get(shared.artifact)
            record = own or self._shelf.shown(self._remote.name, shared.record)
            pulled.append(Pulled(record, self._remote.name, moved, own is not None))
            moved = 0
        return pulled

    def restore(self, record: VersionRecord) -> Pulled:
        """Bring the image of a version of the workspace back, from where it was pushed.

        What its steps became is the registry's to say: here it may be another by now.
        """
        parcel = pack(self._store, self._config, record)
        parcel = replace(parcel, contents=replace(parcel.contents, steps={}))
        moved = self._fetch([parcel])
        return Pulled(record, self._remote.name, moved, True)

    def _is_reserved(self, record: VersionRecord) -> bool:
        return reserved_prefix(record.environment, self._config.reserved_prefixes) is not None

    def _fetch(self, parcels: Sequence[Parcel]) -> int:
        puller = Puller(self._store, self._remote, whole_bases=self._is_bundle)
        wanted: dict[NodeKey, Wanted] = {}
        observer = Observer(self._store)
        for parcel in parcels:
            if not self._is_bundle and observer.image(parcel.key) == parcel.record.image:
                continue
            item = wanted_of(parcel)
            puller.know(item, parcel.contents)
            wanted.setdefault(item.key, item)
        transfer = self._transfers.pull(puller, list(wanted.values()))
        outcome = transfer.outcome
        for key, error in outcome.failed.items():
            raise node_failure(outcome.nodes[key], error) from error
        if not outcome.whole:
            raise KeyboardInterrupt
        return transfer.bytes_moved

    def _keep(
        self,
        found: Sequence[tuple[Shared, str | None]],
        mine: Sequence[Shared],
        owner: tuple[str, str] | None,
    ) -> Mapping[Digest, VersionRecord]:
        """Documents, what is known of the catalogue, and the versions; one durable batch."""
        by_name: dict[str, list[tuple[VersionRecord, Digest]]] = {}
        labels: dict[str, dict[str, str]] = {}
        registered: dict[Digest, VersionRecord] = {}
        names = {} if self._is_bundle else {shared.record.environment for shared, _ in found}
        states = {name: moved for name in names if (moved := self._moved(name)) is not None}
        newest = {name: self._catalogue.latest(name) for name in names}
        with self._store.transaction() as batch:
            for shared, label in found:
                record = shared.record
                for data in shared.contents.documents:
                    batch.add_bytes(data)
                by_name.setdefault(record.environment, []).append((record, shared.artifact))
                if label is not None:
                    labels.setdefault(record.environment, {})[label] = record.version
                if shared.artifact == newest.get(record.environment):
                    labels.setdefault(record.environment, {})[LATEST] = record.version
            if not self._is_bundle:
                self._shelf.put_owner(batch, self._remote.name, owner)
                self._shelf.put(batch, self._remote.name, by_name, labels, states)
            source = "" if self._is_bundle else self._remote.name
            register = _Register(self._store, self._config, source, self._now)
            for shared in mine:
                registered[shared.artifact] = register.add(batch, shared.contents)
            register.finish(batch)
            batch.commit()
        if registered:
            self._store.rewrite_index()
        return registered

    # -- sharing ---------------------------------------------------------

    def check_share(self, record: VersionRecord, *, claim: bool) -> None:
        """Claim the registry if asked to, and refuse what may not be shared there."""
        if record.kind == "curated":
            raise InputError(
                f"{record.environment!r} is curated: it belongs to another registry",
                code="curated",
                hint="make an environment of your own from it, under another name",
            )
        if claim:
            self._catalogue.claim(self._config.id, self._config.name)
        self._catalogue.check_share(record, self._config.id, self._config.reserved_prefixes)

    def publish(self, parcel: Parcel) -> tuple[Change, ...]:
        """Name a version in the catalogue; its image is in the registry.

        The catalogue takes over the labels and the archived versions of this workspace;
        what it took over is returned.
        """
        record = parcel.record
        state = state_of(self._store, self._config.id, record.environment)
        known = None if state is None else state.versions.get(record.version)
        hidden = state is not None and known is not None and state.is_hidden(known)
        self._catalogue.publish(parcel, latest=not hidden)
        if state is None or known is None:
            return ()
        follower = Follower(self._store, self._config.id, self._catalogue)
        return follower.follow(state, record.version, time=utc(self._now), tool=TOOL)

    def history(self, name: str) -> tuple[EnvironmentState, list[tuple[Digest, HistoryRecord]]]:
        """What was shared under a name and every move, newest first; and what holds now.

        NotFoundError where the registry shares nothing of that name.
        """
        artifacts = {v: self._catalogue.meant(name, v) for v in self._catalogue.versions(name)}
        if not artifacts:
            self._catalogue.meant(name)  # which says so
        records = {a: self._catalogue.fetch(name, a).record for a in artifacts.values()}
        return catalogue_history(name, records, self._catalogue.moves(name))


def _not_ours(records: Sequence[VersionRecord]) -> EnvgraphError:
    names = ", ".join(repr(record.environment) for record in records[:5])
    return EnvgraphError(
        f"{names}: a name with a reserved prefix does not become this workspace's own",
        code="reserved-prefix",
        hint="such environments are used from a registry, by azureml://registries/…",
    )


class _Register:
    """Appends pulled versions to the workspace's histories, within one batch."""

    def __init__(self, store: Store, config: WorkspaceConfig, registry: str, now: datetime) -> None:
        self._store = store
        self._config = config
        self._registry = registry
        self._now = now
        self._naming = Naming(store, config.id, config.name)
        self._appenders: dict[str, Appender] = {}
        self._newest: dict[str, VersionRecord] = {}
        self._optional: dict[str, frozenset[Digest]] = {}

    def add(self, batch: Transaction, contents: EnvironmentRecord) -> VersionRecord:
        """The version as the workspace has it: the one that is there, or a new record."""
        shared = contents.record
        known = find_version(self._store, self._config.id, shared)
        if known is not None:
            return known
        name = shared.environment
        address = f"azureml://registries/{self._registry}/environments/{name}"
        record = replace(
            shared,
            workspace=self._config.id,
            time=utc(self._now),
            changed=(),
            parent=f"{address}/versions/{shared.version}" if self._registry else shared.parent,
        )
        if name not in self._appenders:
            self._appenders[name] = Appender(self._store, self._config.id, name)
        record = self._newest[name] = self._appenders[name].add_version(batch, record)
        self._optional[name] = optional_layers(contents.locks.values())
        return record

    def finish(self, batch: Transaction) -> None:
        """Let every history end in its newest record, and name its image."""
        for name, record in self._newest.items():
            self._appenders[name].finish(batch)
            size = self._store.blobs.size(record.image)
            self._naming.name(batch, record, size, self._optional[name])


def wanted_of(parcel: Parcel) -> Wanted:
    """The image of a version, as a puller takes it."""
    record, contents = parcel.record, parcel.contents
    platforms = {
        platform: Platform(lock, contents.runtime_document, parcel.nodes[platform])
        for platform, lock in contents.locks.items()
    }
    return Wanted(
        parcel.key, record.image_name, record.image, platforms, record.images, parcel.title
    )


def find_version(store: Store, workspace: str, wanted: VersionRecord) -> VersionRecord | None:
    """The workspace's own version of that name and number, if it is the same one."""
    for record in versions(store, workspace, wanted.environment):
        if record.version == wanted.version:
            return record if is_same(record, wanted) else None
    return None


def check_version(store: Store, workspace: str, wanted: VersionRecord) -> None:
    """EnvgraphError when the workspace has another version of that name and number."""
    for record in versions(store, workspace, wanted.environment, deleted=True):
        if record.version == wanted.version and not is_same(record, wanted):
            raise EnvgraphError(
                f"{wanted.environment}:{wanted.version} is here already, and it is another one",
                code="version-taken",
                detail="a version never changes once it is registered",
                hint="use the registry's by its address: azureml://registries/…",
            )


__all__ = ["Library", "Pulled", "check_version", "find_version", "wanted_of"]
