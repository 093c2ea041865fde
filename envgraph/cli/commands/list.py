"""``list``: the environments that are registered in this workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.text import moment, table

if TYPE_CHECKING:
    from envgraph.model.records import VersionRecord

SIGNATURE: Final = Signature(
    flags=(
        Flag("--all", "every version, not only the newest of each"),
        Flag("--registry", "what a registry shares; offline: what was seen of it", "NAME"),
    ),
    examples=(
        ("envgraph list --all", "with the versions before the newest"),
        ("envgraph list --registry shared", "what others have shared there"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which versions to list."""

    all: bool
    registry: str | None


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(values.on("--all"), values.text("--registry"))


def run(arguments: Arguments, session: Session) -> int:
    """One row for each version, or one JSON object for each record of one."""
    with session.open_workspace() as workspace:
        if arguments.registry is not None:
            records = workspace.traffic.listed(arguments.registry, all=arguments.all)
        else:
            records = workspace.list_environments(all=arguments.all)
        if session.common.json:
            session.answer({"environments": [_document(record) for record in records]})
        else:
            _show(_newest_of_each_version(records), session, arguments.registry)
    return 0


def _newest_of_each_version(records: Sequence[VersionRecord]) -> list[VersionRecord]:
    """One record for each version: a newer image of it replaces the older one."""
    return list({(r.environment, r.version): r for r in records}.values())


def _document(record: VersionRecord) -> dict[str, object]:
    return {
        "name": record.environment,
        "version": record.version,
        "sequence": record.sequence,
        "kind": record.kind,
        "definition": str(record.definition),
        "lock": {platform: str(lock.identity) for platform, lock in record.locks.items()},
        "image": str(next(iter(record.images.values()))),
        "image_name": record.image_name,
        "platforms": list(record.images),
        "created": record.time,
        "description": record.description,
        "tags": dict(record.tags),
    }


def _show(records: Sequence[VersionRecord], session: Session, registry: str | None) -> None:
    if not records and registry is not None:
        session.console.note(f"Nothing is shared in {registry!r}, as far as is known here.")
        return
    if not records:
        session.console.note("No environment is registered here. To make one: envgraph apply")
        return
    rows = [[r.environment, r.version, r.kind, r.image.hex[:12], moment(r.time)] for r in records]
    for line in table(rows, header=["NAME", "VERSION", "KIND", "IMAGE", "CREATED"]):
        session.console.out(*line)
