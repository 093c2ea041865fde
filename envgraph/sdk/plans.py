"""Plans and what came of them, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envgraph.errors import (
    Diagnostic,
    EnvgraphError,
    FetchError,
    InputError,
    NotFoundError,
    OfflineError,
    ResolveError,
)
from envgraph.sdk import html

if TYPE_CHECKING:
    from envgraph.diff.packages import PackageChange
    from envgraph.plan.plan import EnvironmentChange
    from envgraph.refresh.planner import Planned
    from envgraph.sdk.values import EnvironmentList


@dataclass(frozen=True)
class PlannedEnvironment:
    """What happens to one environment: ``action`` is ``no-op``, ``create`` or ``update``.

    ``image`` is None as long as a layer of it is not known. ``packages`` are those that
    differ from the newest version.
    """

    name: str
    version: str
    action: str
    kind: str
    changed: tuple[str, ...]
    definition: str = field(repr=False)
    lock: str = field(repr=False)
    image: str | None = field(repr=False)
    image_name: str = field(repr=False)
    packages: tuple[PackageChange, ...] = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """What apply would do; give it to :meth:`Workspace.apply` of the same workspace.

    ``summary`` counts steps by action, and ``layers_written``. ``diagnostics`` are errors
    of environments that cannot be planned, and remarks.
    """

    environments: tuple[PlannedEnvironment, ...]
    summary: Mapping[str, int]
    diagnostics: tuple[Diagnostic, ...] = field(repr=False)
    _planned: Planned = field(repr=False, compare=False)
    _made_for: tuple[str, str] = field(repr=False)
    """The workspace's id and the store's folder."""

    @property
    def changes(self) -> bool:
        """Apply would do something."""
        return self._planned.plan.changes

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """What keeps environments out of the plan; empty when all are in it."""
        return tuple(d for d in self.diagnostics if d.severity == "error")

    def to_json(self, *, all_steps: bool = False) -> dict[str, Any]:
        """The object of ``envgraph plan --json``."""
        return self._planned.plan.to_json(all_steps=all_steps)

    def _repr_html_(self) -> str:
        rows = [
            (e.name, e.version, e.action, ", ".join(e.changed), packages_text(e.packages))
            for e in self.environments
        ]
        rows += [("", "", d.severity, d.code, d.summary) for d in self.diagnostics]
        counts = ", ".join(f"{n} to {a}" for a, n in self.summary.items() if n and a in _DOING)
        note = f"{counts or 'Nothing to do'}."
        return html.table(rows, ("name", "version", "action", "changed", "packages"), "Plan", note)


_DOING = ("resolve", "pull", "build", "push", "tag")


@dataclass(frozen=True)
class ApplyResult:
    """What apply did. ``built`` counts layers whose bytes were newly written.

    ``environments`` are the versions of every environment that is there now.
    ``failures`` are errors (only with ``check=False``), ``diagnostics`` remarks.
    """

    environments: EnvironmentList
    built: int
    reused: int
    bytes_written: int
    pulled: int
    pushed: int
    bytes_moved: int
    seconds: float = field(compare=False)
    failures: tuple[EnvgraphError, ...] = field(repr=False)
    diagnostics: tuple[Diagnostic, ...] = field(repr=False)

    def _repr_html_(self) -> str:
        rows = [(e.name, e.version, html.short(e.image)) for e in self.environments]
        rows += [(d.code, "failed", d.summary) for f in self.failures for d in f.diagnostics]
        note = f"{self.built} built, {self.reused} kept, {self.bytes_written} bytes written."
        return html.table(rows, ("name", "version", "image"), "Applied", note)


def packages_text(changes: Sequence[PackageChange]) -> str:
    """``2 added, 1 changed``; empty where nothing differs."""
    counts = {kind: sum(c.kind == kind for c in changes) for kind in _KINDS}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


_KINDS = ("added", "removed", "changed")


def planned_environment(change: EnvironmentChange) -> PlannedEnvironment:
    """One environment of a plan."""
    target = change.target
    image = change.images[next(iter(target.platforms))]
    return PlannedEnvironment(
        name=target.name,
        version=change.version,
        action=change.action,
        kind=target.spec.kind,
        changed=change.changed,
        definition=str(target.definition),
        lock=str(target.first.identity),
        image=None if image is None else str(image),
        image_name=target.image_name,
        packages=change.packages,
    )


def error_of(diagnostics: Sequence[Diagnostic]) -> EnvgraphError:
    """The exception for a plan's errors; the first one's code decides its class."""
    by_code = {c.default_code: c for c in (FetchError, NotFoundError, OfflineError, ResolveError)}
    return by_code.get(diagnostics[0].code, InputError)(diagnostics)


def failure_of(failures: Sequence[EnvgraphError]) -> EnvgraphError:
    """One exception for all that failed; one failure is itself."""
    if len(failures) == 1:
        return failures[0]
    whole = type(failures[0])([d for failure in failures for d in failure.diagnostics])
    whole.exit_code = max(failure.exit_code for failure in failures)
    return whole
