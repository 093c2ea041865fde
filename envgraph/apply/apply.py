"""Apply: pins first, then archives, layers and images, then names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from envgraph.api.events import Event
from envgraph.apply.build import NodeBuilder
from envgraph.apply.executor import Executor, Outcome, node_failure, one_at_a_time
from envgraph.apply.pinning import ToPin, pin
from envgraph.apply.publish import BuiltImage, Publisher
from envgraph.apply.reports import BorrowReport, PushReport, Settlement
from envgraph.apply.toolchain import Toolchains
from envgraph.errors import Diagnostic, EnvgraphError, StalePlanError
from envgraph.history.read import newest
from envgraph.image.steps import BUILT_KINDS
from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.config import WorkspaceConfig
from envgraph.model.graph import BuildGraph
from envgraph.model.locked import LockedPackage
from envgraph.model.nodes import Node
from envgraph.model.records import VersionRecord
from envgraph.plan.plan import EnvironmentChange, Plan
from envgraph.plan.remarks import link_script_warnings
from envgraph.refresh.desired import Desired
from envgraph.refresh.observe import Observer
from envgraph_store import Digest, Store

if TYPE_CHECKING:
    from envgraph.apply.builders import Builders
    from envgraph.apply.exchange import Exchange
    from envgraph.apply.transfer import Transfer
    from envgraph.lock.registry_bases import RegistryBases


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What apply did. ``failures`` are errors with their node; the rest was kept.

    ``diagnostics`` are remarks on what was built.
    """

    environments: tuple[Mapping[str, Any], ...]
    built: int
    reused: int
    bytes_written: int
    seconds: float
    failures: tuple[EnvgraphError, ...]
    diagnostics: tuple[Diagnostic, ...]
    interrupted: bool
    pulled: int = 0
    """Images that came out of the registry."""

    pushed: int = 0
    """Versions that the registry has now and had not."""

    bytes_moved: int = 0
    """Between the store and the registry, both ways."""

    borrowed: tuple[Mapping[str, Any], ...] = ()
    """Versions of registries' catalogues that jobs use by their address, pulled now."""

    def with_borrowed(self, report: BorrowReport) -> ApplyResult:
        """The result with what was pulled for jobs, and what failed of that."""
        return replace(
            self,
            borrowed=tuple(report.pulled),
            failures=(*report.failures, *self.failures),
            pulled=self.pulled + len(report.pulled),
            bytes_moved=self.bytes_moved + report.bytes_moved,
        )

    def to_json(self) -> dict[str, Any]:
        """The result line of ``apply --json``."""
        return {
            "format_version": "1",
            "type": "result",
            "environments": [dict(item) for item in self.environments],
            "built": self.built,
            "reused": self.reused,
            "bytes_written": self.bytes_written,
            "pulled": self.pulled,
            "pushed": self.pushed,
            "bytes_moved": self.bytes_moved,
            "borrowed": [dict(item) for item in self.borrowed],
            "seconds": round(self.seconds, 3),
        }


class Applier:
    """Carries out one plan on one store, under the workspace's file lock."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        *,
        offline: bool,
        now: datetime,
        clock: Callable[[], float],
        parallelism: int,
        on_event: Callable[[Event], None],
        bases: Callable[[], RegistryBases] | None = None,
        exchange: Exchange | None = None,
        builders: Builders | None = None,
    ) -> None:
        """Bind the parts; ``clock`` counts seconds and never goes back.

        ``bases`` gives what finds what the store lacks of bases in registries;
        ``exchange`` is the workspace's registry, where it has one; ``builders`` makes
        docker steps and build contexts.
        """
        self._builders = builders
        self._lacking: EnvgraphError | None = None
        self._config = config
        self._store = store
        self._offline = offline
        self._now = now
        self._clock = clock
        self._parallelism = parallelism
        self._bases = bases
        self._on_event = one_at_a_time(on_event)
        self._exchange = exchange

    def settle_pins(self, plan: Plan) -> Settlement:
        """Pin what is new, here and in the registry.

        Where a lock was adopted the plan is no longer true: the lockfile holds another one.
        """
        if self._exchange is None:
            return Settlement()
        self._check_fresh(plan)
        pin(self._config, self._store, _to_pin(plan, edited=False))
        return self._exchange.settle_pins(plan, self._parallelism)

    def apply(
        self, plan: Plan, desired: Desired, remarks: Sequence[Diagnostic] = ()
    ) -> ApplyResult:
        """Do what the plan says, and make every result durable.

        The caller holds the workspace's file lock. StalePlanError when somebody
        registered a version since the plan was made.
        """
        began = self._clock()
        self._check_fresh(plan)
        records = pin(self._config, self._store, _to_pin(plan, edited=False))
        pulled = self._pull(plan, desired)
        outcome, builder = self._build(plan, desired, pulled)
        registered, failures = self._publish(plan, outcome, records, builder.observer)
        pushed = PushReport()
        if plan.pushed and not outcome.interrupted and self._exchange is not None:
            pushed = self._exchange.push(plan, self._parallelism, self._on_event)
            settled = self._exchange.settle_pins(plan, self._parallelism, last=True)
            remarks = tuple(dict.fromkeys([*remarks, *settled.remarks]))
        return ApplyResult(
            environments=tuple(registered),
            built=builder.layers_built,
            reused=sum(
                1 for step in plan.steps if step.action == "keep" and step.kind != "version"
            ),
            bytes_written=builder.bytes_written,
            seconds=self._clock() - began,
            failures=(*failures, *pushed.failures),
            diagnostics=(
                *remarks,
                *builder.remarks,
                *(() if self._builders is None else self._builders.remarks()),
                *link_script_warnings(plan.graph, builder.link_scripts),
            ),
            interrupted=outcome.interrupted or pushed.interrupted,
            pulled=len(plan.pulls) if pulled is not None and pulled.outcome.whole else 0,
            pushed=pushed.count,
            bytes_moved=pushed.bytes_moved + (0 if pulled is None else pulled.bytes_moved),
        )

    def _pull(self, plan: Plan, desired: Desired) -> Transfer | None:
        if not (plan.pulls or plan.step_pulls) or self._exchange is None:
            return None
        return self._exchange.pull(plan, desired, self._parallelism, self._on_event)

    def _check_fresh(self, plan: Plan) -> None:
        for change in plan.environments:
            now = newest(self._store, self._config.id, change.target.name)
            if now != change.previous:
                raise StalePlanError(
                    f"another apply registered a version of {change.target.name!r}"
                    " since this plan was made",
                    hint="run the command again",
                )

    # -- building --------------------------------------------------------

    def _build(
        self, plan: Plan, desired: Desired, pulled: Transfer | None
    ) -> tuple[Outcome, NodeBuilder]:
        graph = plan.graph
        wanted = {step.key for step in plan.steps if step.action in ("build", "pull")}
        wanted -= plan.pulls.keys() | plan.step_pulls.keys()
        nodes = [node for node in graph if node.key in wanted]
        with Toolchains(self._store, self._parallelism) as toolchains:
            builder = NodeBuilder(
                self._store,
                self._config,
                graph,
                {key: found for key, found in desired.subjects.items() if key in graph},
                toolchains,
                offline=self._offline,
                on_event=self._on_event,
                bases=self._bases,
                builders=self._builders,
            )
            with closing(builder):
                executor = Executor(
                    self._parallelism, builder.fetch, builder.settle, self._on_event
                )
                if pulled is not None and not pulled.outcome.whole:
                    return pulled.outcome, builder
                outcome = executor.run([self._archives(nodes, desired)])
                if not outcome.failed and not outcome.interrupted and nodes:
                    executor = Executor(
                        self._parallelism,
                        builder.build,
                        builder.settle,
                        self._on_event,
                        apart=lambda node: node.kind in BUILT_KINDS,
                        on_interrupt=builder.halt.set,
                    )
                    generations = graph.generations(wanted)
                    self._lacking = self._no_builder(graph, nodes)
                    if self._lacking is not None:
                        generations = _without_built(generations)
                    outcome = executor.run(generations)
        return outcome, builder

    def _no_builder(self, graph: BuildGraph, nodes: Sequence[Node]) -> EnvgraphError | None:
        """The one error for all environments that need a builder, where none is there."""
        steps = [node for node in nodes if node.kind in BUILT_KINDS]
        if not steps or self._builders is None:
            return None
        from envgraph.apply.builders import missing_builder

        names = (name for node in steps for name in graph.environments(node.key))
        return missing_builder(self._builders, names)

    def _archives(self, nodes: list[Node], desired: Desired) -> list[Node]:
        """One fetch for every archive that is needed and not there, the compiler's included."""
        packages: dict[Digest, tuple[LockedPackage, NodeKey]] = {}
        building = {node.key for node in nodes}
        for node in nodes:
            if node.package is not None:
                packages[node.package.sha256] = (node.package, node.key)
        for subject in desired.subjects.values():
            if subject.nodes.options.bytecode_key and building & set(subject.nodes.packages):
                for package in Toolchains.packages(subject.lock):
                    packages.setdefault(package.sha256, (package, subject.nodes.image))
        missing = self._store.packages.missing(packages)
        return [
            Node(
                node_key("archive", {"sha256": digest, "for": key}),
                "archive",
                package.name,
                (key,),
                package.size,
                package,
            )
            for digest, (package, key) in packages.items()
            if digest in missing
        ]

    # -- results ---------------------------------------------------------

    def _publish(
        self,
        plan: Plan,
        outcome: Outcome,
        records: Mapping[str, Mapping[str, Digest]],
        observer: Observer,
    ) -> tuple[list[Mapping[str, Any]], list[EnvgraphError]]:
        failures = [] if self._lacking is None else [self._lacking]
        failures += [
            node_failure(plan.graph[key] if key in plan.graph else outcome.nodes[key], error)
            for key, error in outcome.failed.items()
        ]
        fitting = {
            name: item
            for name, item in _to_pin(plan, edited=True).items()
            if observer.image(plan.graph.roots[name][0]) is not None
        }
        records = {**records, **pin(self._config, self._store, fitting)}
        ready: list[tuple[EnvironmentChange, BuiltImage]] = []
        kept: list[Mapping[str, Any]] = []
        for change in plan.environments:
            image = self._built(change, plan, observer)
            if image is None:
                continue
            if change.action == "no-op" and change.registered is not None:
                kept.append(_summary(change.registered))
            else:
                ready.append((change, image))
        publisher = Publisher(self._store, self._config.id, self._config.name, self._now)
        published = [_summary(record) for record in publisher.publish(ready, records)]
        by_name = {item["name"]: item for item in [*kept, *published]}
        order = [change.target.name for change in plan.environments]
        return [by_name[name] for name in order if name in by_name], failures

    def _built(
        self, change: EnvironmentChange, plan: Plan, observer: Observer
    ) -> BuiltImage | None:
        target = change.target
        final = observer.image(target.image)
        platforms = {
            platform: digest
            for platform, locked in target.platforms.items()
            if (digest := observer.image(locked.image)) is not None
        }
        if final is None or len(platforms) != len(target.platforms):
            return None
        members: dict[Digest, None] = {}
        for node in plan.graph.reachable([target.image]):
            if (layer := observer.layer(node.key)) is not None:
                members |= {layer.digest: None, layer.paths: None}
            if (built := observer.built(node.key)) is not None:
                # Also the configs between steps: a step that changes goes on from there.
                members |= dict.fromkeys(built.blobs)
        size = self._store.blobs.size(final)
        return BuiltImage(platforms, final, size, tuple(sorted(members)))


def _without_built(generations: Sequence[Sequence[Node]]) -> list[list[Node]]:
    """The nodes that no builder makes, and that stand on none which a builder makes."""
    left: set[NodeKey] = set()
    kept: list[list[Node]] = []
    for generation in generations:
        out = [n for n in generation if n.kind in BUILT_KINDS or not left.isdisjoint(n.needs)]
        left |= {node.key for node in out}
        kept.append([node for node in generation if node.key not in left])
    return kept


def _to_pin(plan: Plan, *, edited: bool) -> dict[str, ToPin]:
    """What to record: at once, or (locks that a hand edited) only after their image was built.

    A wrong edit fails at its archives; it must not have become the pin by then.
    """
    return {
        target.name: ToPin(
            target.spec,
            {platform: locked.lock for platform, locked in target.platforms.items()},
            target.pinned,
            target.first.lockfile_current,
            {
                d: data
                for locked in target.platforms.values()
                for d, data in locked.documents.items()
            },
        )
        for target in (change.target for change in plan.environments)
        if edited is any(locked.origin == "edited" for locked in target.platforms.values())
    }


def _summary(record: VersionRecord) -> dict[str, Any]:
    return {
        "name": record.environment,
        "version": record.version,
        "definition": str(record.definition),
        "lock": str(next(iter(record.locks.values())).identity),
        "image": str(next(iter(record.images.values()))),
        "image_name": record.image_name,
    }
