"""``delete``: take a version away; a tombstone keeps definition and locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import reference
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session

REFERENCE: Final = Operand("REF", "NAME:VERSION or NAME@LABEL; NAME alone with --all")
SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    flags=(Flag("--all", "every version of the environment"),),
    notes=(
        "The version is not found any more, its number is not counted again, and only the very "
        "same one can be registered under it. The history keeps that it was, with its definition "
        "and its locks; its images and layers go as those of an archived version do.",
    ),
    examples=(("envgraph delete train:2", "version 2 was a mistake"),),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to delete."""

    reference: str
    all: bool


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values, REFERENCE), values.on("--all"))


def run(arguments: Arguments, session: Session) -> int:
    """Record it; NotFoundError when there is no such version."""
    from envgraph.cli.views.changed import show_change

    with session.open_workspace() as workspace:
        changed = workspace.versions.delete(arguments.reference, all=arguments.all)
        show_change("delete", "deleted", changed, session)
    return 0
