"""``label``: let a label mean a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session

LABEL: Final = Operand("LABEL", "any name but `latest`, which moves by itself")
SIGNATURE: Final = Signature(
    operands=(REFERENCE, LABEL),
    flags=(Flag("--remove", "take the label away from that version"),),
    notes=(
        "NAME@LABEL names the version from then on, wherever an environment is named. A label "
        "that meant another version moves; the history keeps every move.",
    ),
    examples=(
        ("envgraph label train:3 prod", "train@prod is version 3 from now on"),
        ("envgraph label train@prod prod --remove", "there is no train@prod any more"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which label, on which version."""

    reference: str
    label: str
    remove: bool


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values), reference(values, LABEL), values.on("--remove"))


def run(arguments: Arguments, session: Session) -> int:
    """Move the label; NotFoundError when there is no such version."""
    from envgraph.cli.views.changed import show_change

    with session.open_workspace() as workspace:
        changed = workspace.versions.label(
            arguments.reference, arguments.label, remove=arguments.remove
        )
        done = f"no longer {arguments.label}" if arguments.remove else f"labelled {arguments.label}"
        if changed.before is not None and not arguments.remove and changed.done:
            done += f", which was {changed.before}"
        more = {"label": arguments.label, "from": changed.before,
                "to": None if arguments.remove else changed.version}  # fmt: skip
        show_change("label", done, changed, session, more)
    return 0
