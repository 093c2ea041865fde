"""What a solver is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from envgraph.conda.channels import ChannelSource
from envgraph.conda.specs import ParsedSpec
from envgraph.model.locked import LockedPackage


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """Everything that an answer may depend on.

    ``virtual_packages`` maps a name to ``version`` or ``version=build`` and is the
    whole set. ``pinned`` must not change, ``preferred`` are kept where possible.
    ``exclude_newer`` must carry a time zone; packages indexed later do not exist.
    """

    specs: tuple[ParsedSpec, ...]
    channels: tuple[ChannelSource, ...]
    platform: str
    virtual_packages: Mapping[str, str]
    pinned: tuple[LockedPackage, ...] = ()
    preferred: tuple[LockedPackage, ...] = ()
    exclude_newer: datetime | None = None
