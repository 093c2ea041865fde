"""``list``: the environments that are registered in this workspace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.console import width_of
from envgraph.cli.views.text import moment, table

if TYPE_CHECKING:
    from envgraph.history.listing import Listing

LATEST: Final = "latest"
_SHORT: Final = 12
"""Columns that a name may always take."""

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
    header = ["NAME", "VERSION", "KIND", "IMAGE", "CREATED"]
    rows = [_row(item) for item in found]
    if any(_labels(item) for item in found):
        header.append("LABELS")
        rows = [[*row, _labels(item)] for row, item in zip(rows, found, strict=True)]
    console = session.console
    room = console.width if console.is_terminal("out") else 0
    apart = _names_apart([header, *rows], room)
    lines = table([["", *row[1:]] if row[0] in apart else row for row in rows], header=header)
    console.out(*lines[0])
    for row, line in zip(rows, lines[1:], strict=True):
        if row[0] in apart:
            console.out(row[0])
        console.out(*line)


def _names_apart(rows: Sequence[Sequence[str]], room: int) -> set[str]:
    """Names that get a line of their own, so that the table fits a terminal of ``room`` columns.

    Nothing is cut: names are there to be copied. 0 columns (a pipe): one line for each row.
    """
    columns = list(zip(*rows, strict=True))
    rest = sum(2 + max(map(width_of, column)) for column in columns[1:])
    if not room or max(map(width_of, columns[0])) + rest <= room:
        return set()
    return {name for name in columns[0][1:] if width_of(name) > max(room - rest, _SHORT)}


def _row(item: Listing) -> list[str]:
    return [item.name, item.version, item.kind, item.final[:12], moment(item.created)]


def _labels(item: Listing) -> str:
    """What was labelled by hand (``latest`` goes without saying), and that it is archived."""
    labels = ", ".join(label for label in item.labels if label != LATEST)
    return f"{labels} (archived)".strip() if item.archived else labels
