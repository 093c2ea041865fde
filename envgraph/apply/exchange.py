"""The workspace's registry as apply uses it: what a plan pulls, and what it pushes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from envgraph.api.events import Event
from envgraph.api.registry import RegistryError
from envgraph.apply.executor import Outcome, ParallelMap, node_failure
from envgraph.apply.reports import PushReport, Settlement
from envgraph.apply.transfer import Transfer, Transfers
from envgraph.errors import EnvgraphError
from envgraph.history.read import newest, versions
from envgraph.interchange.push import Pusher
from envgraph.model.canonical import NodeKey
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.model.locked import LockedBase
from envgraph.model.records import VersionRecord
from envgraph.refresh.pushmemo import PushMemo
from envgraph.registry.names import STEPS_REPOSITORY, key_tag
from envgraph_store import Digest, Store

if TYPE_CHECKING:
    from envgraph.image.bases import LayerSource
    from envgraph.interchange.parcel import Parcel
    from envgraph.interchange.wanted import Wanted, WantedSteps
    from envgraph.plan.plan import EnvironmentChange, Plan
    from envgraph.refresh.desired import Desired
    from envgraph.registry.pins import RegistryPins
    from envgraph.registry.remotes import Remote, Remotes


class Exchange:
    """Moves what one plan moves between a store and the workspace's registry."""

    def __init__(
        self,
        config: WorkspaceConfig,
        store: Store,
        remote: Callable[[], Remote],
        provider: Provider,
        *,
        now: datetime,
        pins: RegistryPins | None = None,
        base_layers: LayerSource | None = None,
        remotes: Callable[[], Remotes] | None = None,
    ) -> None:
        """Bind; the registry is opened when something moves."""
        self._config = config
        self._store = store
        self._remote = remote
        self._memo = PushMemo(store, provider, now)
        self._base_layers = base_layers
        self._remotes = remotes
        self._pins = pins

    def settle_pins(self, plan: Plan, parallelism: int, *, last: bool = False) -> Settlement:
        """Agree on the locks of a plan; see :class:`envgraph.apply.sharing.PinSharing`."""
        if self._pins is None or self._pins.silent is not None:
            return Settlement()
        from envgraph.apply.sharing import PinSharing

        return PinSharing(self._config, self._store, self._pins).settle(
            plan, ParallelMap(parallelism), last=last
        )

    def pull(
        self, plan: Plan, desired: Desired, parallelism: int, on_event: Callable[[Event], None]
    ) -> Transfer:
        """Bring the plan's images, and what it needs of steps, into the store."""
        from envgraph.interchange.pull import Puller
        from envgraph.interchange.wanted import Platform, Wanted

        wanted: list[Wanted] = []
        for change in plan.environments:
            target = change.target
            digest = plan.pulls.get(target.image)
            if digest is None or any(item.key == target.image for item in wanted):
                continue
            platforms = {}
            for platform, locked in target.platforms.items():
                subject = desired.subjects[locked.image]
                platforms[platform] = Platform(subject.lock, subject.runtime, subject.nodes)
            wanted.append(
                Wanted(
                    target.image,
                    target.image_name,
                    digest,
                    platforms,
                    title=f"{target.name}:{change.version}",
                )
            )
        transfers = Transfers(self._store, parallelism, on_event)
        steps = self._steps(plan, desired)
        transfer = transfers.pull(Puller(self._store, self._remote()), wanted, steps)
        for item in transfer.unusable:
            # What is there is of no use: the next plan builds it, and its push repairs it.
            repository = item.repository if isinstance(item, Wanted) else STEPS_REPOSITORY
            self._memo.suspect(repository, item.digest)
            if isinstance(item, Wanted):
                self._suspect_steps(item, transfer.lost)
        return transfer

    def _suspect_steps(self, item: Wanted, lost: Collection[NodeKey]) -> None:
        """A layer of a step that is damaged with an image is not tried alone."""
        built = [key for platform in item.platforms.values() for key in platform.nodes.built]
        if set(built).isdisjoint(lost):
            return
        repository = self._remote().repository(STEPS_REPOSITORY)
        with suppress(RegistryError):
            for key in built:
                if (found := repository.resolve(key_tag(key))) is not None:
                    self._memo.suspect(STEPS_REPOSITORY, found.digest)

    def _steps(self, plan: Plan, desired: Desired) -> list[WantedSteps]:
        from envgraph.interchange.wanted import WantedSteps

        subjects = [item for key, item in desired.subjects.items() if key in plan.graph]
        found = []
        for key, digest in plan.step_pulls.items():
            subject = next(item for item in subjects if key in item.nodes.built)
            title = plan.graph[key].name
            found.append(WantedSteps(key, digest, subject.lock, subject.nodes, title))
        return found

    def push(self, plan: Plan, parallelism: int, on_event: Callable[[Event], None]) -> PushReport:
        """Bring the plan's versions into the registry, as far as they are whole here."""
        from envgraph.refresh.observe import Observer

        observer = Observer(self._store)
        ready = [
            (change, record)
            for change in plan.pushed
            if observer.image(change.target.image) is not None
            and (record := self._record(change)) is not None
        ]
        return self.push_records([record for _, record in ready], parallelism, on_event)

    def push_records(
        self,
        records: list[VersionRecord],
        parallelism: int,
        on_event: Callable[[Event], None],
    ) -> PushReport:
        """Bring versions into the registry; each failure names its version."""
        report = PushReport()
        if not records:
            return report
        try:
            pusher = Pusher(
                self._store,
                self._remote(),
                base_layers=self._base_layers,
                mount_base=self._mount_base,
            )
        except RegistryError as error:
            report.failures.append(error)
            return report
        transfer = Transfers(self._store, parallelism, on_event).push(
            pusher, records, self._pack, thorough=self._memo.suspects
        )
        for shipment in transfer.shipments:
            if shipment.whole:
                report.count += 1
                self._memo.clear(shipment.repository)
                if shipment.steps:
                    self._memo.clear(STEPS_REPOSITORY)
                self._memo.remember(shipment.repository, shipment.tag, shipment.record.image)
        report.failures += _failures(transfer.outcome)
        report.bytes_moved = transfer.bytes_moved
        report.interrupted = transfer.outcome.interrupted
        return report

    def _mount_base(self, base: LockedBase, repository: str, digest: Digest) -> bool:
        if self._remotes is None or not base.in_registry:
            return False
        from envgraph.model.reference import parse_registry_reference

        reference = parse_registry_reference(base.reference)
        return self._remotes().mount_base(self._remote(), reference, repository, digest)

    def _pack(self, record: VersionRecord) -> Parcel:
        from envgraph.interchange.parcel import pack

        return pack(self._store, self._config, record)

    def _record(self, change: EnvironmentChange) -> VersionRecord | None:
        """The version as it is registered now, after apply has registered it."""
        found = newest(self._store, self._config.id, change.target.name)
        if found is None or found.version == change.version:
            return found
        for record in versions(self._store, self._config.id, change.target.name):
            if record.version == change.version:
                return record
        return None


def _failures(outcome: Outcome) -> list[EnvgraphError]:
    return [node_failure(outcome.nodes[key], error) for key, error in outcome.failed.items()]
