"""What every call shares: the settings, and a binding of the parts for one call.

Each call opens the store and registries anew and closes them again. So calls of several
threads share nothing that changes, and nothing stays open behind a notebook.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envgraph.api.events import Event
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph.sdk.values import EnvironmentList, EnvironmentVersion, version_of
from envgraph.workspace import Workspace as Binding

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    def version(self, record: VersionRecord) -> EnvironmentVersion:
        """The value of a record."""
        return version_of(record, self.read_lock)

    def versions(self, records: Iterable[VersionRecord]) -> EnvironmentList:
        """The values of records."""
        return EnvironmentList(self.version(record) for record in records)

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
