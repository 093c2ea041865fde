"""A workspace: the parts bound together. Nothing here decides; it hands values on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from envgraph.errors import (
    Diagnostic,
    InputError,
    LockedError,
    NotFoundError,
    StalePlanError,
)
from envgraph.folders import default_store
from envgraph.model.config import WorkspaceConfig

if TYPE_CHECKING:
    from envgraph.api.events import Event
    from envgraph.apply.apply import ApplyResult
    from envgraph.apply.builders import Builders
    from envgraph.apply.exchange import Exchange
    from envgraph.apply.importing import Importer
    from envgraph.apply.locking import LockReport
    from envgraph.apply.traffic import Traffic
    from envgraph.apply.versions import Versions
    from envgraph.diff.impact import Impact
    from envgraph.lock.registry_bases import RegistryBases
    from envgraph.model.drift import DriftPolicy
    from envgraph.model.graph import BuildGraph
    from envgraph.model.locked import LockedEnvironment
    from envgraph.model.records import VersionRecord
    from envgraph.plan.plan import Plan
    from envgraph.plan.planfile import SavedPlan
    from envgraph.plugins import Plugins
    from envgraph.refresh.desired import Loaded
    from envgraph.refresh.drift import DriftReport
    from envgraph.refresh.garbage import RegistryGarbage, UnneededImage
    from envgraph.refresh.planner import Planned, Planner
    from envgraph.refresh.pushmemo import PushMemo
    from envgraph.refresh.rebase import Rebase
    from envgraph.registry.own import OwnRegistry
    from envgraph.registry.remotes import Remotes
    from envgraph_store import Digest, Store

DEFAULT_PARALLELISM: Final = 4

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Workspace:
    """One workspace folder and one store. Use :meth:`open`; it is a context manager."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store_path: Path,
        *,
        diagnostics: Sequence[Diagnostic] = (),
        offline: bool = False,
        lock_timeout: float = 60.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        plugins: Plugins | None = None,
    ) -> None:
        """Bind the parts; the store and registries are opened when they are first needed."""
        self.config = config
        self.diagnostics = tuple(diagnostics)
        self.store_path = store_path
        self.offline = offline
        self._lock_timeout = lock_timeout
        self._now = now
        self._clock = clock
        self._plugins = plugins
        self._planned: Planned | None = None
        self._taken_ns = 0

    @classmethod
    def open(
        cls,
        folder: Path | str = ".",
        *,
        store: Path | str | None = None,
        offline: bool = False,
        lock_timeout: float = 60.0,
        plugins: Plugins | None = None,
    ) -> Self:
        """The workspace in ``folder``: its ``envgraph.yaml``, or the defaults without one.

        InputError with every problem of the file.
        """
        from envgraph.spec import load_workspace

        taken = time.time_ns()
        config, diagnostics = load_workspace(Path(folder))
        errors = [d for d in diagnostics if d.severity == "error"]
        if errors or config is None:
            raise InputError(diagnostics)
        path = Path(store if store is not None else default_store(os.environ))
        workspace = cls(
            config,
            path.absolute(),
            diagnostics=diagnostics,
            offline=offline,
            lock_timeout=lock_timeout,
            plugins=plugins,
        )
        workspace._taken_ns = taken
        return workspace

    @cached_property
    def store(self) -> Store:
        """The content-addressed store, created when there is none."""
        from envgraph_store import Store

        return Store.open(self.store_path, lock_timeout=self._lock_timeout)

    @cached_property
    def remotes(self) -> Remotes:
        """The registries that the workspace can reach; none is opened yet."""
        from envgraph.registry.remotes import Remotes

        return Remotes(self.config, offline=self.offline, plugins=self._plugins)

    @cached_property
    def bases(self) -> RegistryBases:
        """Base images in registries; what was asked is remembered until the next task."""
        from envgraph.lock.registry_bases import RegistryBases

        return RegistryBases(lambda: self.remotes)

    @cached_property
    def builders(self) -> Builders:
        """The builder for docker steps and build contexts; looked for when one is needed."""
        from envgraph.apply.builders import Builders

        return Builders(self.config, lambda: self.remotes.plugins, offline=self.offline)

    @cached_property
    def _registry(self) -> OwnRegistry:
        from envgraph.registry.own import OwnRegistry

        return OwnRegistry(self.config, lambda: self.remotes)

    def _ask_anew(self) -> None:
        """What registries answered to an earlier task is not taken for this one."""
        if "bases" in self.__dict__:
            self.bases.forget()
        if "builders" in self.__dict__:
            self.builders.close()

    def close(self) -> None:
        """Close the store and the registries, if they were opened."""
        if "builders" in self.__dict__:
            self.builders.close()
        for name in ("bases", "builders", "traffic", "versions", "importer", "_registry"):
            self.__dict__.pop(name, None)
        if "remotes" in self.__dict__:
            self.remotes.close()
            del self.__dict__["remotes"]
        if "store" in self.__dict__:
            self.store.close()
            del self.__dict__["store"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- plan and apply --------------------------------------------------

    def plan(
        self,
        files: Sequence[Path] = (),
        *,
        targets: Sequence[str] = (),
        replace: Sequence[str] = (),
        saved: SavedPlan | None = None,
        follow_base: bool = False,
        fresh: bool = False,
        loaded: Loaded | None = None,
    ) -> Plan:
        """What would be done. Solves where no pin is found; keeps nothing.

        ``follow_base``: bases whose tags have moved are taken now, whatever
        ``base_images`` says. ``fresh``: the registry is asked even for what it is
        remembered to have. ``loaded``: these environments, and no file.

        With ``saved`` the question is the saved plan's, and StalePlanError says that
        its inputs, or the store, are not what they were.
        """
        from envgraph.refresh.planner import Question

        question = Question(tuple(files), tuple(targets), tuple(replace), loaded)
        planner = self._planner()
        if saved is not None:
            self._planned = planner.plan_saved(saved)
        else:
            self._planned = planner.plan(question, follow_base=follow_base, fresh=fresh)
        return self._planned.plan

    def plan_rebase(
        self,
        references: Sequence[str] = (),
        files: Sequence[Path] = (),
        *,
        on: str | None = None,
        base: str | None = None,
    ) -> tuple[Plan, Rebase]:
        """The plan that puts the same packages on another base, for :meth:`apply`.

        See :meth:`envgraph.refresh.planner.Planner.plan_rebase`.
        """
        self._planned, rebase = self._planner().plan_rebase(references, files, on=on, base=base)
        return self._planned.plan, rebase

    def _planner(self) -> Planner:
        from envgraph.refresh.planner import Planner

        self._ask_anew()
        return Planner(
            self.config,
            self.store,
            self._registry,
            lambda: self.bases,
            offline=self.offline,
            now=self._now(),
            mapper=_in_parallel,
            remarks=self.diagnostics,
            who_builds=self._who_builds,
        )

    @property
    def planned(self) -> Planned | None:
        """The plan that was made last with what it stood on, for :meth:`take` elsewhere."""
        return self._planned

    def take(self, planned: Planned) -> Plan:
        """Take a plan that another object of this workspace and store made, to apply it."""
        self._planned = planned
        return planned.plan

    def _who_builds(self, plan: Plan) -> tuple[Diagnostic, ...]:
        if not plan.needs_builder:
            return ()
        from envgraph.apply.builders import builder_remark

        names = [name for step in plan.needs_builder for name in step.environments]
        return (builder_remark(self.builders, names, len(plan.needs_builder)),)

    def save_plan(self, plan: Plan, path: Path) -> None:
        """Write the plan that was made last, with what it solved, to a file."""
        from envgraph.refresh.planner import save

        save(self._last(plan), path, self.config.id)

    def _last(self, plan: Plan) -> Planned:
        """The plan that was made last, with what it stood on; StalePlanError for another."""
        if self._planned is None or self._planned.plan.steps is not plan.steps:
            raise StalePlanError("this plan was not made here, or not last", hint="plan again")
        return self._planned

    def remember_nothing_to_do(
        self, plan: Plan, *, human: str, answer: str, warnings: str = ""
    ) -> None:
        """Leave a snapshot for the quick path: this plan found nothing to do.

        ``human`` and ``answer`` are what ``plan`` printed without and with ``--json``;
        ``warnings`` went to stderr.
        """
        from envgraph.refresh.planner import snapshot

        snapshot(
            self._last(plan),
            self.config,
            self.store,
            taken_ns=self._taken_ns,
            human=human,
            answer=answer,
            warnings=warnings,
        )

    def apply(
        self,
        plan: Plan,
        *,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> ApplyResult:
        """Do what the plan says; it must be the one that this object made last.

        Where another machine has pinned the same definition meanwhile, its lock is taken
        over and the plan made once more, before anything is built.
        """
        from envgraph.apply.apply import Applier

        planned = self._last(plan)
        applier = Applier(
            self.config,
            self.store,
            offline=self.offline,
            now=self._now(),
            clock=self._clock,
            parallelism=parallelism,
            on_event=on_event,
            bases=lambda: self.bases,
            exchange=self._exchange(),
            builders=self.builders,
        )
        with self._alone("apply"):
            settled = applier.settle_pins(plan)
            if settled.adopted:
                # Once is enough: those locks are in the lockfiles now.
                if not planned.again:
                    raise StalePlanError(
                        "the plan is stale: another machine has pinned the same definition",
                        hint="plan again: it takes the lock that holds",
                    )
                planned = self._planned = self._planner().plan(planned.question)
            return applier.apply(planned.plan, planned.desired, settled.remarks)

    def _exchange(self) -> Exchange | None:
        if self._registry.provider is None:
            return None
        from envgraph.apply.exchange import Exchange

        return Exchange(
            self.config,
            self.store,
            self._registry.open,
            self._registry.provider,
            now=self._now(),
            pins=self._registry.pins,
            base_layers=self.bases,
            remotes=lambda: self.remotes,
        )

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

    @cached_property
    def importer(self) -> Importer:
        """Locks of other tools become environments of this workspace."""
        from envgraph.apply.importing import Importer

        return Importer(
            self.config,
            self.store,
            offline=self.offline,
            now=self._now(),
            alone=self._alone,
            bases=lambda: self.bases,
        )

    def lock(
        self,
        files: Sequence[Path] = (),
        *,
        update: Sequence[str] = (),
        update_base: bool = False,
        check: bool = False,
    ) -> LockReport:
        """Write (or with ``check`` only compare) the lockfiles of the environments.

        ``update`` moves these packages, ``update_base`` the bases; all else stays.
        """
        from envgraph.apply.locking import lock_environments
        from envgraph.refresh.desired import load_specs

        self._ask_anew()
        loaded = load_specs(self.config, files)
        with self._alone("lock") if not check else nullcontext():
            return lock_environments(
                self.config,
                self.store,
                loaded,
                update=frozenset(update),
                update_base=update_base,
                check=check,
                offline=self.offline,
                now=self._now(),
                bases=lambda: self.bases,
                shared=self._registry.pins,
            )

    @contextmanager
    def _alone(self, verb: str) -> Iterator[None]:
        """Exclude every other apply and lock of this workspace; LockedError after the wait."""
        purpose = f"{verb} of workspace {self.config.name!r}"
        lock = f"workspace-{self.config.id}"
        with (
            translated_locks(),
            self.store.file_lock(lock, purpose=purpose, timeout=self._lock_timeout),
            self.store.lease(purpose, timeout=self._lock_timeout),
        ):
            yield

    # -- what is there ---------------------------------------------------

    @cached_property
    def versions(self) -> Versions:
        """What is registered: list, history, labels, archive, delete; compare versions."""
        from envgraph.apply.versions import Versions

        return Versions(self.config, self.store, find=self.find, alone=self._alone, now=self._now)

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

    def describe(self, record: VersionRecord) -> dict[str, Any]:
        """Everything about one version: the object of ``show --json``."""
        from envgraph.history.describe import describe

        lock = self.lock_of(record)
        return describe(self.store, self.config, record, lock)

    def locks_of(
        self, records: Sequence[VersionRecord]
    ) -> list[tuple[VersionRecord, LockedEnvironment]]:
        """Each version with its lock, once for every platform."""
        return [
            (record, self.lock_of(record, platform))
            for record in records
            for platform in record.locks
        ]

    # -- what moved since ------------------------------------------------

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

    # -- the registry ----------------------------------------------------

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

    def delete_from_registry(self, image: UnneededImage) -> None:
        """Delete one image that :meth:`registry_garbage` found."""
        from envgraph.refresh.garbage import delete_image

        delete_image(self.remotes.named("registry"), image, self._push_memo())

    def _push_memo(self) -> PushMemo | None:
        from envgraph.refresh.pushmemo import PushMemo

        if self.config.registry is None:
            return None
        return PushMemo(self.store, self.config.registry, self._now())

    def graph(self, references: Sequence[str] = ()) -> BuildGraph:
        """The build graph of registered versions; of all current ones when none is named."""
        from envgraph.history.describe import graph_of

        records = [self.find(ref) for ref in references] or self.list_environments()
        return graph_of(self.config, self.locks_of(records))


def _in_parallel(function: Callable[[_In], _Out], items: Iterable[_In], /) -> Iterable[_Out]:
    """A ``map`` over threads, imported when something is asked at all."""
    from envgraph.apply.executor import ParallelMap

    return ParallelMap(DEFAULT_PARALLELISM)(function, items)


@contextmanager
def translated_locks() -> Iterator[None]:
    """Turn the store's "somebody holds it" into exit code 11."""
    from envgraph_store.errors import StoreLocked

    try:
        yield
    except StoreLocked as error:
        raise LockedError(error.summary, code="locked", hint=error.hint) from error
