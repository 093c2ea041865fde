"""What a workspace does: plan, apply, lock, import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from envgraph.errors import Diagnostic, EnvgraphError, StalePlanError
from envgraph.workspace.parts import DEFAULT_PARALLELISM, in_parallel
from envgraph.workspace.reading import Reading

if TYPE_CHECKING:
    from envgraph.api.events import Event
    from envgraph.apply.apply import ApplyResult
    from envgraph.apply.exchange import Exchange
    from envgraph.apply.importing import Importer
    from envgraph.apply.locking import LockReport
    from envgraph.apply.reports import BorrowReport
    from envgraph.plan.plan import Plan
    from envgraph.plan.planfile import SavedPlan
    from envgraph.refresh.desired import Loaded
    from envgraph.refresh.planner import Planned, Planner
    from envgraph.refresh.rebase import Rebase


class Workspace(Reading):
    """One workspace folder and one store. Use :meth:`open`; it is a context manager."""

    _planned: Planned | None = None

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
            mapper=in_parallel,
            remarks=self.diagnostics,
            remotes=lambda: self.remotes,
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
        from envgraph.plan.steps import built_platforms

        steps = plan.needs_builder
        names = [name for step in steps for name in step.environments]
        platforms = built_platforms(plan.graph, steps)
        return (builder_remark(self.builders, names, len(steps), platforms),)

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
        borrowed = self._borrow(plan, parallelism, on_event)
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
            result = applier.apply(planned.plan, planned.desired, settled.remarks)
        return result.with_borrowed(borrowed) if plan.borrowed else result

    def _borrow(
        self, plan: Plan, parallelism: int, on_event: Callable[[Event], None]
    ) -> BorrowReport:
        """Pull what jobs use of registries' catalogues; what fails stops nothing else."""
        from envgraph.apply.reports import BorrowReport

        report = BorrowReport()
        for item in plan.borrowed:
            try:
                found = self.traffic.fetch(item, parallelism, on_event)
            except EnvgraphError as error:
                report.failures.append(error)
                continue
            report.bytes_moved += found.bytes_moved
            report.pulled.append(
                {
                    "registry": item.registry,
                    "name": item.name,
                    "version": item.version,
                    "image": str(found.record.image),
                    "image_name": found.record.image_name,
                }
            )
        return report

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
        update_context: bool = False,
        check: bool = False,
    ) -> LockReport:
        """Write (or with ``check`` only compare) the lockfiles of the environments.

        ``update`` moves these packages, ``update_base`` the bases, ``update_context`` build
        contexts at an address; all else stays.
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
                update_context=update_context,
                check=check,
                offline=self.offline,
                now=self._now(),
                bases=lambda: self.bases,
                shared=self._registry.pins,
            )
