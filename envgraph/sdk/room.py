"""What every call shares: the settings, and a binding of the parts for one call.

Each call opens the store and registries anew and closes them again. So calls of several
threads share nothing that changes, and nothing stays open behind a notebook.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from envgraph.api.events import Event
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph.sdk.values import EnvironmentList, EnvironmentVersion, version_of, version_of_record
from envgraph.workspace import Workspace as Binding

if TYPE_CHECKING:
    from envgraph.apply.apply import ApplyResult
    from envgraph.errors import Diagnostic
    from envgraph.plan.plan import Plan

Progress = Callable[[Event], object]
"""Called for each thing that happens, one at a time, from any thread."""


@dataclass(frozen=True)
class Room:
    """One workspace folder and one store."""

    config: WorkspaceConfig
    store: Path
    offline: bool
    lock_timeout: float
    diagnostics: tuple[Diagnostic, ...] = ()

    @contextmanager
    def bound(self) -> Iterator[Binding]:
        """The parts for one call."""
        with Binding(
            self.config,
            self.store,
            diagnostics=self.diagnostics,
            offline=self.offline,
            lock_timeout=self.lock_timeout,
        ) as binding:
            yield binding

    def version(
        self, binding: Binding, record: VersionRecord, registry: str | None = None
    ) -> EnvironmentVersion:
        """The value of a record, with its labels now where it is one of the workspace's.

        Of a ``registry``: with that catalogue's labels, as they were last seen.
        """
        if registry is not None:
            labels, archived = binding.traffic.standing(registry, record)
            return version_of_record(record, labels, archived, self.read_lock)
        own = record.workspace == self.config.id
        state = binding.versions.state(record.environment) if own else None
        known = None if state is None else state.versions.get(record.version)
        if state is None or known is None:
            return version_of_record(record, (), False, self.read_lock)
        labels = state.labels_of(record.version)
        return version_of_record(record, labels, state.is_hidden(known), self.read_lock)

    def latest(self, binding: Binding, *, archived: bool) -> EnvironmentList:
        """The latest version of every environment; reads one ref for each."""
        return EnvironmentList(
            version_of(item, partial(self.read_record, item.name, item.version), self.read_lock)
            for item in binding.versions.listed(archived=archived)
        )

    def every(self, binding: Binding, name: str, *, archived: bool) -> EnvironmentList:
        """All versions of one environment, the newest first; NotFoundError without one."""
        from envgraph.history.read import read_version

        state = binding.versions.state(name)
        if state is None:
            binding.find(name)
            return EnvironmentList()
        return EnvironmentList(
            version_of_record(
                read_version(binding.store, version),
                state.labels_of(version.version),
                state.is_hidden(version),
                self.read_lock,
            )
            for version in reversed(tuple(state.versions.values()))
            if not version.deleted and not version.anonymous
            if archived or not state.is_hidden(version)
        )

    def read_record(self, name: str, version: str) -> VersionRecord:
        """A version's record, from the store; NotFoundError where it was deleted since."""
        with self.bound() as binding:
            return binding.find(f"{name}:{version}")

    def read_lock(self, record: VersionRecord, platform: str | None) -> LockedEnvironment:
        """A version's lock, from the store."""
        with self.bound() as binding:
            return binding.lock_of(record, platform)

    def carry_out(
        self, binding: Binding, plan: Plan, progress: Progress | None, parallelism: int | None
    ) -> ApplyResult:
        """Apply a plan that ``binding`` made or took; KeyboardInterrupt after a Ctrl-C."""

        def tell(event: Event) -> None:
            if progress is not None:
                progress(event)

        for remark in plan.diagnostics:
            if remark.severity != "error":
                tell(Event("message", text=remark.summary))
        result = binding.apply(
            plan,
            parallelism=parallelism or os.cpu_count() or 1,
            on_event=tell,
        )
        if result.interrupted:
            raise KeyboardInterrupt
        for remark in result.diagnostics:
            tell(Event("message", text=remark.summary))
        return result
