"""``list``: the environments that are registered in this workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.text import moment, table

if TYPE_CHECKING:
    from envgraph.apply.versions import Listed

SIGNATURE: Final = Signature(
    flags=(
        Flag("--all", "every version, not only the newest of each"),
        Flag("--archived", "what is archived, too"),
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
    archived: bool
    registry: str | None


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(values.on("--all"), values.on("--archived"), values.text("--registry"))


def run(arguments: Arguments, session: Session) -> int:
    """One row for each version, or one JSON object for each record of one."""
    from envgraph.apply.versions import Listed

    with session.open_workspace() as workspace:
        if arguments.registry is not None:
            shared = workspace.traffic.listed(arguments.registry, all=arguments.all)
            found = [Listed(record) for record in shared]
        else:
            found = workspace.versions.listed(all=arguments.all, archived=arguments.archived)
        if session.common.json:
            session.answer({"environments": [_document(item) for item in found]})
        else:
            _show(_newest_of_each_version(found), session, arguments.registry)
    return 0


def _newest_of_each_version(found: Sequence[Listed]) -> list[Listed]:
    """One record for each version: a newer image of it replaces the older one."""
    return list({(item.record.environment, item.record.version): item for item in found}.values())


def _document(item: Listed) -> dict[str, object]:
    record = item.record
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
        "labels": list(item.labels),
        "archived": item.archived,
    }


def _show(found: Sequence[Listed], session: Session, registry: str | None) -> None:
    if not found and registry is not None:
        session.console.note(f"Nothing is shared in {registry!r}, as far as is known here.")
        return
    if not found:
        session.console.note("No environment is registered here. To make one: envgraph apply")
        return
    rows = [_row(item) for item in found]
    for line in table(rows, header=["NAME", "VERSION", "KIND", "IMAGE", "CREATED"]):
        session.console.out(*line)


def _row(item: Listed) -> list[str]:
    record = item.record
    kind = f"{record.kind} (archived)" if item.archived else record.kind
    cells = [record.environment, record.version, kind]
    return [*cells, record.image.hex[:12], moment(record.time)]
