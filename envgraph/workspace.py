"""A workspace: the parts bound together. Nothing here decides; it hands values on.

::

    files ─load_specs─▶ specs ─desire─▶ targets + graph ─observe─▶ inventory ─make_plan─▶ plan
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from envgraph.errors import (
    Diagnostic,
    InputError,
    LockedError,
    NotFoundError,
    OfflineError,
    StalePlanError,
)
from envgraph.folders import default_store
from envgraph.model.config import WorkspaceConfig

if TYPE_CHECKING:
    from envgraph.api.events import Event
    from envgraph.apply.apply import ApplyResult
    from envgraph.apply.builders import Builders
    from envgraph.apply.exchange import Exchange
    from envgraph.apply.locking import LockReport
    from envgraph.apply.traffic import Traffic
    from envgraph.diff.impact import Impact
    from envgraph.lock.find import LockFinder
    from envgraph.lock.follow import Mode, SavedLocks
    from envgraph.lock.registry_bases import RegistryBases
    from envgraph.model.drift import DriftPolicy
    from envgraph.model.graph import BuildGraph
    from envgraph.model.locked import LockedEnvironment
    from envgraph.model.records import VersionRecord
    from envgraph.plan.inventory import Inventory
    from envgraph.plan.plan import Plan
    from envgraph.plan.planfile import SavedPlan
    from envgraph.plugins import Plugins
    from envgraph.refresh.desired import Desired, FindsLocks, Loaded
    from envgraph.refresh.drift import DriftReport
    from envgraph.refresh.garbage import RegistryGarbage, UnneededImage
    from envgraph.refresh.pushmemo import PushMemo
    from envgraph.refresh.rebase import Rebase
    from envgraph.registry.pins import RegistryPins
    from envgraph.registry.remotes import Remote, Remotes
    from envgraph_store import Digest, Store

DEFAULT_PARALLELISM: Final = 4


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan was asked about: these files, these names, these replacements."""

    files: tuple[Path, ...] = ()
    targets: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()


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
        self._desired: Desired | None = None
        self._question = Question()
        self._again: Callable[[], Plan] | None = None
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
        for name in ("bases", "builders", "pins", "traffic", "_may_ask"):
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
    ) -> Plan:
        """What would be done. Solves where no pin is found; keeps nothing.

        ``follow_base``: bases whose tags have moved are taken now, whatever
        ``base_images`` says. ``fresh``: the registry is asked even for what it is
        remembered to have.

        With ``saved`` the question is the saved plan's, and StalePlanError says that
        its inputs, or the store, are not what they were.
        """
        from envgraph.lock.follow import SavedLocks
        from envgraph.refresh.desired import load_specs

        question = Question(tuple(files), tuple(targets), tuple(replace))
        locks: SavedLocks | None = None
        if saved is not None:
            self._check_saved(saved)
            paths = tuple(Path(name) for name in saved.files)
            question = Question(paths, saved.targets, saved.replace)
            locks = SavedLocks(saved.locks, saved.moves, saved.documents)
        loaded = load_specs(self.config, question.files, question.targets)
        finder = self._lock_finder(locks, "follow" if follow_base else self.config.base_images)
        plan = self._planned(loaded, finder, question, fresh=fresh)
        if saved is not None:
            saved.check(plan)
        else:
            self._again = lambda: self.plan(files, targets=targets, replace=replace)
        return plan

    def _lock_finder(self, saved: SavedLocks | None = None, moving: Mode = "freeze") -> LockFinder:
        from envgraph.lock.find import LockFinder

        self._ask_anew()
        return LockFinder(
            self.config,
            self.store,
            offline=self.offline,
            now=self._now(),
            saved=saved,
            bases=lambda: self.bases,
            moving=moving,
            shared=self.pins,
        )

    def _planned(
        self, loaded: Loaded, finder: FindsLocks, question: Question, *, fresh: bool = False
    ) -> Plan:
        """The plan over what was loaded, with the locks that ``finder`` gives."""
        from envgraph.plan.plan import make_plan
        from envgraph.refresh.desired import desire
        from envgraph.refresh.observe import observe

        desired = desire(self.config, loaded, finder)
        inventory = observe(
            self.store,
            self.config.id,
            desired.graph,
            desired.targets,
            desired.subjects,
            everything=bool(question.replace),
        )
        inventory, remarks = self._look_at_registry(desired, inventory, fresh=fresh)
        self._desired, self._question, self._again = desired, question, None
        plan = make_plan(
            desired.targets,
            desired.graph,
            inventory,
            replace=question.replace,
            diagnostics=(*self.diagnostics, *desired.diagnostics, *remarks),
        )
        return plan if not plan.needs_builder else self._with_builder(plan)

    def _with_builder(self, plan: Plan) -> Plan:
        """The plan with a remark on who will run its steps."""
        from envgraph.apply.builders import builder_remark

        names = [name for step in plan.needs_builder for name in step.environments]
        remark = builder_remark(self.builders, names, len(plan.needs_builder))
        return replace(plan, diagnostics=(*plan.diagnostics, remark))

    def plan_rebase(
        self,
        references: Sequence[str] = (),
        files: Sequence[Path] = (),
        *,
        on: str | None = None,
        base: str | None = None,
    ) -> tuple[Plan, Rebase]:
        """The plan that puts the same packages on another base, for :meth:`apply`.

        ``references`` or ``files`` name environments (all that can be rebased, without
        any); ``on`` keeps those that stand on a base; ``base`` is the new one, else what each
        environment's own reference means now. Solves nothing, writes nothing:
        the rebase's edits are written by the caller, after apply.
        """
        from envgraph.refresh.desired import load_specs
        from envgraph.refresh.impact import read_question
        from envgraph.refresh.rebase import Rebaser, newest_names, read_new_base

        self._ask_anew()
        root = self.config.root
        loaded = load_specs(self.config, files)
        names: frozenset[str] | None = None
        if references or files:
            names = newest_names(self.store, self.config.id, references)
            names |= {spec.name for spec in loaded.specs if files}
        new = None if base is None else read_new_base(base, root)
        old = None if on is None else read_question(on, root, self.config.platforms)
        rebaser = Rebaser(
            self.config, self.store, self._lock_finder(), bases=self.bases, now=self._now()
        )
        rebase = rebaser.rebase(loaded, names, on=old, base=new)
        question = Question(tuple(files), targets=tuple(rebase.locks))
        return self._planned(rebase.loaded, rebase, question), rebase

    def _look_at_registry(
        self, desired: Desired, inventory: Inventory, *, fresh: bool
    ) -> tuple[Inventory, tuple[Diagnostic, ...]]:
        """The inventory with what the workspace's registry has, where there is one."""
        if self.config.registry is None:
            return inventory, ()
        from envgraph.apply.executor import ParallelMap
        from envgraph.refresh.remote import look_at_registry

        def remote() -> Remote:
            if self.pins is not None and self.pins.silent is not None:
                raise self.pins.silent  # it gave no answer a moment ago
            return self._registry()

        return look_at_registry(
            remote,
            self.config.registry,
            self.store,
            desired.graph,
            desired.targets,
            inventory,
            now=self._now(),
            offline=not self._may_ask,
            fresh=fresh,
            mapper=ParallelMap(DEFAULT_PARALLELISM),
        )

    @cached_property
    def _may_ask(self) -> bool:
        """The workspace has a registry, and --offline does not forbid it."""
        try:
            return self.remotes.workspace() is not None
        except OfflineError:
            return False

    @cached_property
    def pins(self) -> RegistryPins | None:
        """The pins of the workspace's registry; None where none may be asked."""
        if self.config.registry is None or not self._may_ask:
            return None
        from envgraph.registry.pins import RegistryPins

        return RegistryPins(self._registry)

    def _registry(self) -> Remote:
        """The workspace's own registry; there is one."""
        remote = self.remotes.workspace()
        assert remote is not None
        return remote

    def _exchange(self) -> Exchange | None:
        if self.config.registry is None:
            return None
        from envgraph.apply.exchange import Exchange

        return Exchange(
            self.config,
            self.store,
            self._registry,
            self.config.registry,
            now=self._now(),
            pins=self.pins,
            base_layers=self.bases,
        )

    def _check_saved(self, saved: SavedPlan) -> None:
        if saved.workspace_id != self.config.id:
            raise StalePlanError(
                "the saved plan belongs to another workspace",
                hint="apply it in the folder where it was made",
            )
        saved.check_inputs()

    def save_plan(self, plan: Plan, path: Path) -> None:
        """Write the plan that was made last, with what it solved, to a file."""
        from envgraph.plan.planfile import save_plan

        question = self._question
        save_plan(
            path,
            plan,
            workspace_id=self.config.id,
            files=[str(name.absolute()) for name in question.files],
            targets=question.targets,
            replace=question.replace,
            inputs=[name for name in self.inputs if name != str(path.absolute())],
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every file and folder that the last plan was made from, absolute."""
        own = [self.config.file or str(Path(self.config.root) / "envgraph.yaml")]
        found = () if self._desired is None else self._desired.inputs
        return tuple(dict.fromkeys([*own, *found]))

    def remember_nothing_to_do(
        self, plan: Plan, *, human: str, answer: str, warnings: str = ""
    ) -> None:
        """Leave a snapshot for the quick path: this plan found nothing to do.

        ``human`` and ``answer`` are what ``plan`` printed without and with ``--json``;
        ``warnings`` went to stderr.
        """
        from envgraph.refresh.snapshot import glob_folders, write_snapshot

        question = self._question
        if plan.changes or not plan.applyable or question.targets or question.replace:
            return
        if self.config.base_images != "freeze" and self._has_moving_bases():
            return  # the registry has to be asked each time
        if not plan.complete:
            return  # with a registry that was not asked, nobody knows that there is nothing to do
        folders = () if question.files else glob_folders(self.config)
        write_snapshot(
            self.store_path,
            Path(self.config.root),
            question.files,
            watched=[*self.inputs, *folders, *self._store_watch()],
            taken_ns=self._taken_ns,
            human=human,
            answer=answer,
            warnings=warnings,
        )

    def _has_moving_bases(self) -> bool:
        from envgraph.lock.follow import moving_tag

        targets = () if self._desired is None else self._desired.targets
        return any(
            moving_tag(base) is not None
            for target in targets
            for locked in target.platforms.values()
            for base in (locked.lock.base, *locked.lock.images.values())
        )

    def _store_watch(self) -> list[str]:
        """What changes when this workspace is applied, or the store loses something."""
        from envgraph_store.layout import GENERATION_FILE
        from envgraph_store.naming import escape

        applied = self.store.root / "refs" / escape(f"applied/{self.config.id}")
        return [str(self.store.root / GENERATION_FILE), str(applied)]

    def apply(
        self,
        plan: Plan,
        *,
        parallelism: int = DEFAULT_PARALLELISM,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> ApplyResult:
        """Do what the plan says; it must be the one that this object made last."""
        from envgraph.apply.apply import Applier

        if self._desired is None:
            raise StalePlanError("this plan was not made here", hint="plan again")
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
                plan = self._planned_again()
            return applier.apply(plan, self._desired, settled.remarks)

    def _planned_again(self) -> Plan:
        """The plan with the locks that hold, after another machine's was taken over.

        Once is enough: those locks are in the lockfiles now.
        """
        if self._again is None:
            raise StalePlanError(
                "the plan is stale: another machine has pinned the same definition",
                hint="plan again: it takes the lock that holds",
            )
        return self._again()

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
                shared=self.pins,
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

    def list_environments(
        self, *, all: bool = False, archived: bool = False
    ) -> list[VersionRecord]:
        """The latest version of every environment; with ``all`` every version."""
        from envgraph.history.read import environment_names, latest, versions

        found: list[VersionRecord] = []
        for name in environment_names(self.store, self.config.id):
            if all:
                found += reversed(list(versions(self.store, self.config.id, name)))
            elif (record := latest(self.store, self.config.id, name)) is not None:
                found.append(record)
        return found

    def find(self, reference: str) -> VersionRecord:
        """Find what NAME, NAME:VERSION, NAME@latest or a definition digest names.

        ``azureml://registries/…`` is pulled when the store does not have it.
        NotFoundError says what is there instead.
        """
        from envgraph.history.find import find_version

        if reference.lower().startswith("azureml://"):
            return self.traffic.find(reference)
        return find_version(self.store, self.config.id, reference)

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


@contextmanager
def translated_locks() -> Iterator[None]:
    """Turn the store's "somebody holds it" into exit code 11."""
    from envgraph_store.errors import StoreLocked

    try:
        yield
    except StoreLocked as error:
        raise LockedError(error.summary, code="locked", hint=error.hint) from error
