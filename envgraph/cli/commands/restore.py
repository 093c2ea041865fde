"""``restore``: show again what was archived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import reference
from envgraph.cli.options import Operand, Signature, Values
from envgraph.cli.session import Session

REFERENCE: Final = Operand(
    "REF", "NAME for a whole environment, NAME:VERSION or NAME@LABEL for one"
)
SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    notes=(
        "An image that was collected meanwhile is made again by `apply` of its file, from the"
        " same lock; or `pull` fetches it from the registry that has it.",
    ),
    examples=(("envgraph restore train:1", "version 1 is back"),),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to restore."""

    reference: str


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values, REFERENCE))


def run(arguments: Arguments, session: Session) -> int:
    """Record it; NotFoundError when there is no such version."""
    from envgraph.cli.views.changed import show_change

    with session.open_workspace() as workspace:
        changed = workspace.versions.restore(arguments.reference)
        show_change("restore", "restored", changed, session)
    return 0
