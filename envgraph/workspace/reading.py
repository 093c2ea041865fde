"""What can be asked of a workspace: what is there, and what moved since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from envgraph.errors import (
    Diagnostic,
    NotFoundError,
)
from envgraph.workspace.parts import DEFAULT_PARALLELISM, Parts, translated_locks

if TYPE_CHECKING:
    from envgraph.api.events import Event
    from envgraph.apply.traffic import Traffic
    from envgraph.apply.versions import Versions
    from envgraph.diff.impact import Impact
    from envgraph.model.drift import DriftPolicy
    from envgraph.model.graph import BuildGraph
    from envgraph.model.locked import LockedEnvironment
    from envgraph.model.records import VersionRecord
    from envgraph.refresh.drift import DriftReport
    from envgraph.refresh.garbage import RegistryGarbage, UnneededImage
    from envgraph.refresh.pushmemo import PushMemo
    from envgraph.refresh.stepgarbage import UnneededSteps
    from envgraph_store import Digest


class Reading(Parts):
    """Questions; none of them changes a version, a pin or a file."""

    @cached_property
    def versions(self) -> Versions:
        """What is registered: list, history, labels, archive, delete; compare versions."""
        from envgraph.apply.versions import Versions

        return Versions(
            self.config,
            self.store,
            find=self.find,
            alone=self._alone,
            now=self._now,
            bases=lambda: self.bases,
            remotes=lambda: self.remotes,
            elsewhere=lambda folder: self.elsewhere(folder).versions,
        )

    def elsewhere(self, folder: str) -> Self:
        """The workspace in another folder, to be read: with its own settings and registries.

        Its versions are looked for in ``other_store``, else in this one's store. It is
        closed with this one. NotFoundError where there is no store.
        """
        path = Path(folder).resolve()
        if path not in self._others:
            store = self.other_store or self.store_path
            if not store.is_dir():
                raise NotFoundError(f"there is no store {store}", code="no-store")
            self._others[path] = type(self).open(
                path,
                store=store,
                offline=self.offline,
                lock_timeout=self._lock_timeout,
                plugins=self._plugins,
            )
        return self._others[path]

    @cached_property
    def traffic(self) -> Traffic:
        """Push, pull, share and list: versions to and from registries."""
        from envgraph.apply.traffic import Traffic

        return Traffic(
            self.config,
            self.store,
            remotes=lambda: self.remotes,
            bases=lambda: self.bases,
            find=self.find,
            alone=self._alone,
            now=self._now,
            lock_timeout=self._lock_timeout,
        )

    def list_environments(
        self, *, all: bool = False, archived: bool = False
    ) -> list[VersionRecord]:
        """The latest version of every environment; with ``all`` every version."""
        return self.versions.records(all=all, archived=archived)

    def find(self, reference: str) -> VersionRecord:
        """Find what any form of a reference names (:mod:`envgraph.history.find`).

        ``azureml://registries/…`` is pulled when the store does not have it.
        NotFoundError says what is there instead.
        """
        from envgraph.history.find import find_version

        if reference.lower().startswith("azureml://"):
            return self.traffic.find(reference)
        return find_version(self.store, self.config.id, reference, self.config.name)

    def lock_of(self, record: VersionRecord, platform: str | None = None) -> LockedEnvironment:
        """The lock of a version on a platform (its first one by default)."""
        from envgraph.lock.pins import Pins

        chosen = platform or next(iter(record.locks))
        if chosen not in record.locks:
            raise NotFoundError(
                f"{record.environment}:{record.version} has no lock for {chosen}",
                hint=f"it is locked for {', '.join(record.locks)}",
            )
        return Pins(self.store, self.config.id).read(record.locks[chosen].record)

    def locks_of(
        self, records: Sequence[VersionRecord]
    ) -> list[tuple[VersionRecord, LockedEnvironment]]:
        """Each version with its lock, once for every platform."""
        return [
            (record, self.lock_of(record, platform))
            for record in records
            for platform in record.locks
        ]

    def describe(self, record: VersionRecord, reference: str = "") -> dict[str, Any]:
        """Everything about one version: the object of ``show --json``.

        Where ``reference`` names it in a registry, with that catalogue's labels as they were
        last seen.
        """
        from envgraph.history.describe import describe

        lock = self.lock_of(record)
        document = describe(self.store, self.config, record, lock)
        if (registry := _registry_of(reference)) is not None:
            labels, archived = self.traffic.standing(registry, record)
            document |= {"registry": registry, "labels": list(labels), "archived": archived}
        return document

    def graph(self, references: Sequence[str] = ()) -> BuildGraph:
        """The build graph of registered versions; of all current ones when none is named."""
        from envgraph.history.describe import graph_of

        records = [self.find(ref) for ref in references] or self.list_environments()
        return graph_of(self.config, self.locks_of(records))

    def ensure_base(
        self,
        record: VersionRecord,
        platforms: Sequence[str] | None = None,
        *,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> tuple[Digest, ...]:
        """Make the base layers of a version's images be in the store; those that were fetched.

        An image on a base in a registry lies in the store without the base's layers until
        somebody needs them: from the base's registry, or from the workspace's own, which
        holds them with the image. ``platforms``: of these images only.
        """
        from envgraph.apply.executor import ParallelMap, one_at_a_time
        from envgraph.image.bases import ensure_base
        from envgraph.lock.registry_bases import KeptLayers

        self._ask_anew()
        wanted = record.locks if platforms is None else platforms
        bases = [self.lock_of(record, platform).base for platform in wanted]
        with translated_locks(), self.store.lease("fetching a base", timeout=self._lock_timeout):
            return ensure_base(
                self.store,
                bases,
                self.bases,
                others=[KeptLayers(lambda: self.remotes.workspace(), record.image_name)],
                mapper=ParallelMap(parallelism),
                on_event=one_at_a_time(on_event),
            )

    def drift(
        self,
        references: Sequence[str] = (),
        policy: DriftPolicy | None = None,
        files: Sequence[Path] = (),
    ) -> DriftReport:
        """What moved since the versions were locked; the newest of all when none is named.

        ``files`` name the environments that they define. Asks channels and registries,
        and keeps nothing.
        """
        from envgraph.lock.resolve import default_cache
        from envgraph.model.drift import DriftPolicy
        from envgraph.refresh.desired import load_specs
        from envgraph.refresh.drift import ask_drift, subjects_of, what_means_now

        self._ask_anew()
        specs = load_specs(self.config, files).specs
        named = [*references, *(spec.name for spec in specs if files)]
        records = [self.find(ref) for ref in named] or self.list_environments()
        return ask_drift(
            self.config,
            self.store,
            subjects_of(self.locks_of(records), specs),
            policy or DriftPolicy(),
            base_now=what_means_now(self.bases),
            now=self._now(),
            offline=self.offline,
            cache=default_cache(),
        )

    def impact(
        self, base: str, *, all: bool = False
    ) -> tuple[tuple[Impact, ...], tuple[Diagnostic, ...]]:
        """Every newest version (with ``all`` every version) that stands on a base image.

        ``base``: a reference, ``oci:PATH``, or a digest of an image or layer. What the
        workspace's registry shares is looked at, too; a remark says where it could not be.
        """
        from envgraph.diff.impact import find_impact
        from envgraph.refresh.desired import load_specs
        from envgraph.refresh.impact import read_question, shared_standing, standing_of

        newest = self.list_environments()
        every = self.list_environments(all=True) if all else newest
        records = list({(r.environment, r.version): r for r in every}.values())
        asked = read_question(base, self.config.root, self.config.platforms)
        specs = load_specs(self.config, ()).specs
        own = standing_of(self.locks_of(records), specs, newest)
        shared, remarks = shared_standing(self.remotes.workspace, all=all)
        return find_impact(asked, (*own, *shared)), remarks

    def registry_garbage(self, *, grace_days: float) -> RegistryGarbage:
        """Images in the workspace's registry that nothing here needs; changes nothing."""
        from datetime import timedelta

        from envgraph.apply.executor import ParallelMap
        from envgraph.refresh.garbage import find_garbage

        return find_garbage(
            self.remotes.named("registry"),
            self.store,
            self.config.id,
            now=self._now(),
            grace=timedelta(days=grace_days),
            mapper=ParallelMap(DEFAULT_PARALLELISM),
        )

    def delete_from_registry(self, found: UnneededImage | UnneededSteps) -> None:
        """Delete one image, or one result of steps, that :meth:`registry_garbage` found."""
        from envgraph.refresh.garbage import delete_image, delete_steps
        from envgraph.refresh.stepgarbage import UnneededSteps

        remote = self.remotes.named("registry")
        if isinstance(found, UnneededSteps):
            delete_steps(remote, found)
        else:
            delete_image(remote, found, self._push_memo())

    def _push_memo(self) -> PushMemo | None:
        from envgraph.refresh.pushmemo import PushMemo

        if self.config.registry is None:
            return None
        return PushMemo(self.store, self.config.registry, self._now())


def _registry_of(reference: str) -> str | None:
    """The registry that a reference names; None for this workspace's own."""
    if not reference.lower().startswith("azureml://"):
        return None
    from envgraph.history.find import parsed

    return parsed(reference).registry or None
