"""What came of moving things to a registry; it imports nothing of how they are moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envgraph.errors import Diagnostic, EnvgraphError
from envgraph.model.history import Change


@dataclass(slots=True)
class PushReport:
    """What was pushed; failures by version, the rest is there."""

    count: int = 0
    failures: list[EnvgraphError] = field(default_factory=list)
    bytes_moved: int = 0
    interrupted: bool = False
    moves: tuple[Change, ...] = ()
    """Labels and archived versions that the catalogue took over."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of the offers. ``adopted``: locks of others hold now, so plan again."""

    adopted: bool = False
    remarks: tuple[Diagnostic, ...] = ()


@dataclass(slots=True)
class BorrowReport:
    """What came out of registries' catalogues because jobs use it; failures by version."""

    pulled: list[Mapping[str, Any]] = field(default_factory=list)
    failures: list[EnvgraphError] = field(default_factory=list)
    bytes_moved: int = 0
