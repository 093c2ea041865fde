"""What drift is asked about, and what could not be asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from envgraph.errors import Diagnostic, EnvgraphError
from envgraph.model.locked import LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph.model.spec import EnvironmentSpec


@dataclass(frozen=True, slots=True)
class Subject:
    """One version on one platform, with its environment file where one is at hand."""

    record: VersionRecord
    lock: LockedEnvironment
    spec: EnvironmentSpec | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be asked, whom it concerns, and why."""

    what: str
    environments: tuple[str, ...]
    reason: Diagnostic

    def to_json(self) -> dict[str, Any]:
        """The entry of ``skipped`` in ``drift --json``."""
        return {
            "what": self.what,
            "environments": list(self.environments),
            "code": self.reason.code,
            "reason": self.reason.summary,
        }


@dataclass(slots=True)
class Asking:
    """What was found out so far, and what could not be: each thing once, with all it concerns."""

    users: dict[str, dict[str, None]] = field(default_factory=dict)
    reasons: dict[str, Diagnostic] = field(default_factory=dict)

    def skip(self, what: str, environments: Iterable[str], error: EnvgraphError) -> None:
        """Note that something could not be asked; the first reason stays."""
        self.reasons.setdefault(what, error.diagnostics[0])
        self.users.setdefault(what, {}).update(dict.fromkeys(environments))

    def skipped(self) -> tuple[Skipped, ...]:
        """All of it, each thing once."""
        return tuple(
            Skipped(what, tuple(self.users[what]), reason) for what, reason in self.reasons.items()
        )
