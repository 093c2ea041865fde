"""``history``: what happened to an environment, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import reference
from envgraph.cli.options import Operand, Signature, Values
from envgraph.cli.session import Session

NAME: Final = Operand("NAME", "the name of an environment, or any REF of it")
SIGNATURE: Final = Signature(
    operands=(NAME,),
    notes=(
        "Every version with what changed and what it was made from, and every move of a label. "
        "Nothing is ever taken out of a history, and `store verify` finds records that were "
        "changed, dropped or reordered.",
        "azureml://registries/R/environments/NAME shows what was shared there under that name, and "
        "every move of a label in that catalogue.",
    ),
    examples=(("envgraph history train", "who made version 3 out of what, and when"),),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which environment."""

    name: str


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values, NAME))


def run(arguments: Arguments, session: Session) -> int:
    """Print the history; NotFoundError when there is no such environment."""
    with session.open_workspace() as workspace:
        if arguments.name.lower().startswith("azureml://registries/"):
            state, entries = workspace.traffic.history(arguments.name)
        else:
            state, entries = workspace.versions.history(arguments.name)
        if session.common.json:
            session.answer(
                {
                    "name": state.name,
                    "archived": state.archived,
                    "labels": dict(sorted(state.labels.items())),
                    "records": [entry.to_json() for entry in entries],
                }
            )
        else:
            from envgraph.cli.views.history import show_history

            show_history(state, entries, session)
    return 0
