"""What happens while something runs: broadcast to views and plugins, never answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EventKind = Literal["start", "progress", "done", "failed", "skipped", "message"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a node. ``bytes_*`` are 0 where nothing is counted."""

    kind: EventKind
    key: str = ""
    node_kind: str = ""
    name: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    text: str = ""
