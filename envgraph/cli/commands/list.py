"""``list``: the environments that are registered in this workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.text import moment, table

if TYPE_CHECKING:
    from envgraph.history.listing import Listing

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
    with session.open_workspace() as workspace:
        if arguments.registry is not None:
            found = workspace.traffic.listings(
                arguments.registry, all=arguments.all, archived=arguments.archived
            )
        else:
            found = workspace.versions.listed(all=arguments.all, archived=arguments.archived)
        if session.common.json:
            session.answer({"environments": [item.to_json() for item in found]})
        else:
            _show(_newest_of_each_version(found), session, arguments.registry)
    return 0


def _newest_of_each_version(found: Sequence[Listing]) -> list[Listing]:
    """One record for each version: a newer image of it replaces the older one."""
    return list({(item.name, item.version): item for item in found}.values())


def _show(found: Sequence[Listing], session: Session, registry: str | None) -> None:
    if not found and registry is not None:
        session.console.note(f"Nothing is shared in {registry!r}, as far as is known here.")
        return
    if not found:
        session.console.note("No environment is registered here. To make one: envgraph apply")
        return
    rows = [_row(item, labels=registry is not None) for item in found]
    for line in table(rows, header=["NAME", "VERSION", "KIND", "IMAGE", "CREATED"]):
        session.console.out(*line)


def _row(item: Listing, *, labels: bool) -> list[str]:
    """``labels``: those that a catalogue has, but ``latest``, stand beside the version."""
    said = [f"@{label}" for label in item.labels if label != "latest"] if labels else []
    kind = f"{item.kind} (archived)" if item.archived else item.kind
    version = " ".join([item.version, *said])
    return [item.name, version, kind, item.final[:12], moment(item.created)]
