"""From environment files to a plan, and what the plan stood on.

::

    files ─load_specs─▶ specs ─desire─▶ targets + graph ─observe─▶ inventory ─make_plan─▶ plan
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from envgraph.errors import Diagnostic, StalePlanError
from envgraph.model.config import WorkspaceConfig
from envgraph.plan.plan import Plan, make_plan
from envgraph.refresh.desired import Desired, FindsLocks, Loaded, desire, load_specs
from envgraph.refresh.observe import observe
from envgraph.registry.own import OwnRegistry
from envgraph.spec.filememo import kept_in
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.lock.find import LockFinder
    from envgraph.lock.follow import Mode, SavedLocks
    from envgraph.lock.registry_bases import RegistryBases
    from envgraph.plan.inventory import Inventory
    from envgraph.plan.planfile import SavedPlan
    from envgraph.refresh.borrowed import Borrowing
    from envgraph.refresh.rebase import Rebase
    from envgraph.refresh.remote import Mapper
    from envgraph.registry.remotes import Remotes
    from envgraph.spec.job_files import UsedReference


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan was asked about: these files, these names, these replacements.

    ``loaded``: environments that were made in code, in place of any file.
    """

    files: tuple[Path, ...] = ()
    targets: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    loaded: Loaded | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with the question that it answers, and the targets that it was made from."""

    plan: Plan
    question: Question
    desired: Desired
    inputs: tuple[str, ...]
    """Every file and folder that it was made from, absolute."""

    again: bool
    """The question can be asked once more, and may have another answer by then."""

    moving: bool = False
    """A registry was asked what a label means, and has to be asked each time."""


class Planner:
    """Makes plans for one workspace. Keeps nothing, and solves only what nobody has pinned."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        registry: OwnRegistry,
        bases: Callable[[], RegistryBases],
        *,
        offline: bool,
        now: datetime,
        mapper: Mapper,
        remarks: Sequence[Diagnostic] = (),
        remotes: Callable[[], Remotes],
        who_builds: Callable[[Plan], Sequence[Diagnostic]] = lambda plan: (),
    ) -> None:
        """Bind the parts; ``remarks`` are on envgraph.yaml and go into every plan.

        ``remotes`` are the registries that jobs may name; ``who_builds`` says what a plan's
        steps need of a builder, and whether it is there.
        """
        self._who_builds = who_builds
        self._remotes = remotes
        self._config = config
        self._store = store
        self._registry = registry
        self._bases = bases
        self._offline = offline
        self._now = now
        self._mapper = mapper
        self._remarks = tuple(remarks)

    def plan(
        self, question: Question, *, follow_base: bool = False, fresh: bool = False
    ) -> Planned:
        """What would be done.

        ``fresh``: the registry is asked for all that it should have, and every file is read.
        """
        with kept_in(self._store.root / "memo" / "files", fresh=fresh):
            loaded = question.loaded or load_specs(self._config, question.files, question.targets)
        finder = self._finder(None, "follow" if follow_base else self._config.base_images)
        return self._planned(loaded, finder, question, fresh=fresh, again=True)

    def plan_saved(self, saved: SavedPlan) -> Planned:
        """The saved plan made again with its locks; StalePlanError when it is another one."""
        from envgraph.lock.follow import SavedLocks

        if saved.workspace_id != self._config.id:
            raise StalePlanError(
                "the saved plan belongs to another workspace",
                hint="apply it in the folder where it was made",
            )
        saved.check_inputs()
        files = tuple(Path(name) for name in saved.files)
        question = Question(files, saved.targets, saved.replace)
        loaded = load_specs(self._config, question.files, question.targets)
        locks = SavedLocks(saved.locks, saved.moves, saved.documents)
        planned = self._planned(loaded, self._finder(locks, self._config.base_images), question)
        saved.check(planned.plan)
        return planned

    def plan_rebase(
        self,
        references: Sequence[str] = (),
        files: Sequence[Path] = (),
        *,
        on: str | None = None,
        base: str | None = None,
    ) -> tuple[Planned, Rebase]:
        """The plan that puts the same packages on another base.

        ``references`` or ``files`` name environments (all that can be rebased, without
        any); ``on`` keeps those that stand on a base; ``base`` is the new one, else what
        each environment's own reference means now. The rebase's edits of files are written
        by the caller, after apply.
        """
        from envgraph.refresh.impact import read_question
        from envgraph.refresh.rebase import Rebaser, newest_names, read_new_base

        root = self._config.root
        loaded = load_specs(self._config, files)
        names: frozenset[str] | None = None
        if references or files:
            names = newest_names(self._store, self._config.id, references)
            names |= {spec.name for spec in loaded.specs if files}
        new = None if base is None else read_new_base(base, root)
        old = None if on is None else read_question(on, root, self._config.platforms)
        rebaser = Rebaser(
            self._config, self._store, self._finder(), bases=self._bases(), now=self._now
        )
        rebase = rebaser.rebase(loaded, names, on=old, base=new)
        question = Question(tuple(files), targets=tuple(rebase.locks))
        return self._planned(rebase.loaded, rebase, question), rebase

    def _finder(self, saved: SavedLocks | None = None, moving: Mode = "freeze") -> LockFinder:
        from envgraph.lock.find import LockFinder

        return LockFinder(
            self._config,
            self._store,
            offline=self._offline,
            now=self._now,
            saved=saved,
            bases=self._bases,
            moving=moving,
            shared=self._registry.pins,
        )

    def _planned(
        self,
        loaded: Loaded,
        finder: FindsLocks,
        question: Question,
        *,
        fresh: bool = False,
        again: bool = False,
    ) -> Planned:
        desired = desire(self._config, loaded, finder)
        missing: list[Diagnostic] = []
        borrowing = None
        if loaded.references:
            missing, borrowing = self._references(loaded.references)
        inventory = observe(
            self._store,
            self._config.id,
            desired.graph,
            desired.targets,
            desired.subjects,
            everything=bool(question.replace),
        )
        inventory, remarks = self._look_at_registry(desired, inventory, fresh=fresh)
        plan = make_plan(
            desired.targets,
            desired.graph,
            inventory,
            replace=question.replace,
            diagnostics=(*self._remarks, *desired.diagnostics, *missing, *remarks),
        )
        plan = plan if borrowing is None else borrowing.add_to(plan)
        said = self._who_builds(plan)
        plan = replace(plan, diagnostics=(*plan.diagnostics, *said)) if said else plan
        own = self._config.file or str(Path(self._config.root) / "envgraph.yaml")
        inputs = tuple(dict.fromkeys([own, *desired.inputs]))
        moving = borrowing is not None and borrowing.moving
        return Planned(plan, question, desired, inputs, again, moving)

    def _references(
        self, references: Sequence[UsedReference]
    ) -> tuple[list[Diagnostic], Borrowing]:
        """What jobs only name: problems, and the steps for what registries have."""
        from envgraph.refresh.borrowed import borrow
        from envgraph.refresh.references import missing_references

        missing = missing_references(self._config, self._store, references)
        bad = {problem.source for problem in missing if problem.code == "unknown-registry"}
        known = [used for used in references if used.source not in bad]
        borrowing = borrow(self._store, self._config.id, known, self._remotes, self._mapper)
        return [*missing, *borrowing.problems], borrowing

    def _look_at_registry(
        self, desired: Desired, inventory: Inventory, *, fresh: bool
    ) -> tuple[Inventory, tuple[Diagnostic, ...]]:
        """The inventory with what the workspace's registry has, where there is one."""
        if self._registry.provider is None:
            return inventory, ()
        from envgraph.refresh.remote import look_at_registry

        return look_at_registry(
            self._registry.answering,
            self._registry.provider,
            self._store,
            desired.graph,
            desired.targets,
            inventory,
            now=self._now,
            offline=not self._registry.may_ask,
            fresh=fresh,
            mapper=self._mapper,
        )


def save(planned: Planned, path: Path, workspace_id: str) -> None:
    """Write a plan, with what it solved, to a file."""
    from envgraph.plan.planfile import save_plan

    question = planned.question
    save_plan(
        path,
        planned.plan,
        workspace_id=workspace_id,
        files=[str(name.absolute()) for name in question.files],
        targets=question.targets,
        replace=question.replace,
        inputs=[name for name in planned.inputs if name != str(path.absolute())],
    )


def stays_true(planned: Planned, config: WorkspaceConfig) -> bool:
    """Whether "nothing to do" holds as long as the inputs and the store are as they are.

    Not where a registry has to be asked each time, or was not asked at all.
    """
    plan, question = planned.plan, planned.question
    if plan.changes or not plan.applyable or question.targets or question.replace:
        return False
    if planned.moving:
        return False
    return plan.complete and (config.base_images == "freeze" or not _has_moving_bases(planned))


def _has_moving_bases(planned: Planned) -> bool:
    from envgraph.lock.follow import moving_tag

    return any(
        moving_tag(base) is not None
        for target in planned.desired.targets
        for locked in target.platforms.values()
        for base in (locked.lock.base, *locked.lock.images.values())
    )


def snapshot(
    planned: Planned,
    config: WorkspaceConfig,
    store: Store,
    *,
    taken_ns: int,
    human: str,
    answer: str,
    warnings: str = "",
) -> None:
    """Leave the quick path its answer, where it :func:`stays_true`."""
    if not stays_true(planned, config):
        return
    from envgraph.refresh.snapshot import glob_folders, write_snapshot
    from envgraph_store.layout import GENERATION_FILE
    from envgraph_store.naming import escape

    files = planned.question.files
    # What changes when this workspace is applied, or the store loses something.
    applied = store.root / "refs" / escape(f"applied/{config.id}")
    folders = () if files else glob_folders(config)
    write_snapshot(
        store.root,
        Path(config.root),
        files,
        watched=[*planned.inputs, *folders, str(store.root / GENERATION_FILE), str(applied)],
        taken_ns=taken_ns,
        human=human,
        answer=answer,
        warnings=warnings,
    )
