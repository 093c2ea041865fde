"""``show``: everything about one version of an environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.options import Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import UsageError

REFERENCE: Final = Operand(
    "REF", "NAME, NAME:VERSION, NAME@LABEL, a digest or its beginning, or azureml:…"
)
SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    notes=("With -v, every package and every layer is listed.",),
    examples=(("envgraph show train:3", "version 3 of the environment train"),),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which version."""

    reference: str


def reference(values: Values, operand: Operand = REFERENCE) -> str:
    """The REF that was given; UsageError for bytes that no name can hold."""
    word = values.word(operand.name) or ""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{word!r} is no name: it is not text in UTF-8") from None
    return word


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values))


def run(arguments: Arguments, session: Session) -> int:
    """Describe the version; NotFoundError when there is none."""
    with session.open_workspace() as workspace:
        record = workspace.find(arguments.reference)
        document = workspace.describe(record, arguments.reference)
        if session.common.json:
            session.answer(document)
        else:
            from envgraph.cli.views.version import show_version

            show_version(document, session)
    return 0
