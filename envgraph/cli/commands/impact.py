"""``impact``: which environments stand on a base image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import UsageError

BASE: Final = Operand(
    "BASE", "a reference, oci:PATH, or the digest of an image or of one of its layers"
)
SIGNATURE: Final = Signature(
    operands=(BASE,),
    flags=(Flag("--all", "every version, not only the newest of each"),),
    notes=(
        "Says by which tie: the same image, the same reference that meant another image when it "
        "was locked, or another image that shares layers. A tag means what the newest lock of it "
        "says. Environments that the workspace's registry shares are looked at, too.",
    ),
    examples=(
        ("envgraph impact python:3.12", "whom a patch of that image concerns"),
        ("envgraph rebase --all --on python:3.12", "and to move them onto it"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which base, and which versions."""

    base: str
    all: bool


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError for bytes that no reference can hold."""
    word = values.word(BASE.name) or ""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{word!r} is no reference: it is not text in UTF-8") from None
    return Arguments(word, values.on("--all"))


def run(arguments: Arguments, session: Session) -> int:
    """List them; 0 also when there are none."""
    with session.open_workspace() as workspace:
        found, remarks = workspace.impact(arguments.base, all=arguments.all)
        session.report(remarks)
        if session.common.json:
            session.answer(
                {
                    "base": arguments.base,
                    "environments": [item.to_json() for item in found],
                    "jobs": [],
                    "deployments": [],
                }
            )
        else:
            from envgraph.cli.views.impact import show_impact

            show_impact(arguments.base, found, session)
    return 0
