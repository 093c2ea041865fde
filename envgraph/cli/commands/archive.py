"""``archive``: hide a version, or a whole environment."""

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
        "Hidden from `list`, and never `latest`; found when it is named. Its definition and "
        "locks are kept. Its images and layers are kept for two weeks, then `store gc` takes "
        "those that nothing else needs: `apply` of its file makes them again from the lock.",
    ),
    examples=(
        ("envgraph archive train:1", "version 1 is done with"),
        ("envgraph archive train", "the whole environment, with versions to come"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to archive."""

    reference: str


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values, REFERENCE))


def run(arguments: Arguments, session: Session) -> int:
    """Record it; NotFoundError when there is no such version."""
    from envgraph.cli.views.changed import show_change

    with session.open_workspace() as workspace:
        changed = workspace.versions.archive(arguments.reference)
        show_change("archive", "archived", changed, session)
    return 0
