"""What builds take and give: the settings that all have, what is done, what a worker keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict

from envgraph.api import Cancel, Event, Platform, SecretReader
from envgraph_buildkit.caches import CacheExport, CacheImport
from envgraph_buildkit.exporters import Exporter
from envgraph_buildkit.provenance import Provenance


class Settings(TypedDict, total=False):
    """What every build takes, by keyword."""

    exporters: Sequence[Exporter]
    """Where the result goes; none builds only. Several need BuildKit 0.13."""

    cache_imports: Sequence[CacheImport]
    cache_exports: Sequence[CacheExport]
    secrets: Mapping[str, bytes | SecretReader]
    """By id. A reader is called when a step asks."""

    ssh: Mapping[str, str]
    """Agents' sockets by id: ``{"default": os.environ["SSH_AUTH_SOCK"]}``."""

    platform: Platform
    """The worker's own without it."""

    allow: Sequence[str]
    """Entitlements: ``network.host``, ``security.insecure``. A graph's own are added."""

    epoch: int
    """Seconds since 1970: no file of a new layer is later, where the worker can do that."""

    provenance: Literal["min", "max"]
    """Attach an attestation to images, which makes each an index, and return the statement."""

    on_event: Callable[[Event], None]
    """Called in another thread, for each change of a step."""

    cancel: Cancel
    timeout: float


@dataclass(frozen=True, slots=True)
class Solved:
    """A build that is done."""

    ref: str
    """Its id in the worker's history."""

    response: Mapping[str, str]
    """What exporters and caches say."""

    ran: int
    """Steps that ran."""

    cached: int
    """Steps that did not have to."""

    provenance: tuple[Provenance, ...] = field(default=(), repr=False)

    @property
    def digest(self) -> str:
        """Of the image, or of its index; empty where none was exported."""
        return self.response.get("containerimage.digest", "")


@dataclass(frozen=True, slots=True)
class Usage:
    """Something that a worker keeps; sizes in bytes."""

    id: str
    kind: str
    """``regular``, ``source.local``, ``exec.cachemount``, ``frontend``, ``internal``, …"""

    description: str
    size: int
    in_use: bool
    shared: bool
    mutable: bool
    uses: int
    created: datetime | None
    last_used: datetime | None


def usage_of(record: Any) -> Usage:
    """A record of BuildKit's as a value."""
    return Usage(
        record.ID, record.RecordType, record.Description, record.Size, record.InUse, record.Shared,
        record.Mutable, record.UsageCount, _time(record, "CreatedAt"), _time(record, "LastUsedAt"),
    )  # fmt: skip


def _time(record: Any, name: str) -> datetime | None:
    if not record.HasField(name):
        return None
    stamp = getattr(record, name)
    return datetime.fromtimestamp(stamp.seconds + stamp.nanos / 1e9, UTC)
