"""``clone``: a new environment from an existing version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError("not KEY=VALUE")
    return key, value


NEW: Final = Operand("NEW", "the name of the new environment")
SIGNATURE: Final = Signature(
    operands=(REFERENCE, NEW),
    flags=(
        Flag(
            "--set",
            "image, version, description, tags.KEY, properties.KEY or environment_variables.KEY; "
            "an empty VALUE takes it away",
            "KEY=VALUE",
            many="repeat",
            check=_pair,
        ),
    ),
    notes=(
        "Writes environments/NEW.yml, and (unless the image was changed) the lockfile with the "
        "very same packages. Nothing is registered before `envgraph apply`, which records the "
        "parent in the history. A curated environment becomes one of your own this way.",
    ),
    examples=(
        ("envgraph clone train:3 train-gpu --set tags.team=vision", "and then edit its packages"),
        (
            "envgraph clone azureml://registries/shared/environments/base/versions/3 mine",
            "one of your own from a curated one",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to clone, under which name, with which changes."""

    reference: str
    name: str
    changes: tuple[tuple[str, str], ...]


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    changes = tuple(_pair(text) for text in values.texts("--set"))
    return Arguments(reference(values), reference(values, NEW), changes)


def run(arguments: Arguments, session: Session) -> int:
    """Write the files; InputError for a name that cannot be, NotFoundError for the version."""
    with session.open_workspace() as workspace:
        made = workspace.versions.clone(arguments.reference, arguments.name, arguments.changes)
        if session.common.json:
            session.answer(
                {
                    "name": made.name,
                    "parent": made.parent,
                    "file": str(made.file),
                    "lockfile": None if made.lockfile is None else str(made.lockfile),
                }
            )
            return 0
        show = session.console.out
        show("wrote ", str(made.file))
        if made.lockfile is not None:
            show("wrote ", str(made.lockfile))
        else:
            show("Its definition is another one: the next plan solves anew.")
        show("Next: change what should differ, then envgraph plan")
    return 0
