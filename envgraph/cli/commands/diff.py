"""``diff``: what differs between two versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import reference
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session

FIRST: Final = Operand("A", "the older: a REF, azureml://registries/…, or the path of a lockfile")
SECOND: Final = Operand("B", "the newer, in the same forms")
SIGNATURE: Final = Signature(
    operands=(FIRST, SECOND),
    flags=(
        Flag(
            "--format",
            "text for the terminal, markdown for a pull request",
            "FORMAT",
            choices=("text", "markdown"),
            default="text",
        ),
        Flag("--platform", "the platform to compare; default: the first of both", "PLATFORM"),
    ),
    notes=(
        "Packages that the file names come first, then those that came along (nested); `major` "
        "marks a change of the first number of a version, which may break things.",
    ),
    examples=(
        ("envgraph diff train:1 train", "from version 1 to the latest"),
        ("envgraph diff old.conda-lock.yml train --format markdown", "to paste into a review"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to compare, on which platform, in which form."""

    before: str
    after: str
    format: str
    platform: str | None


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(
        reference(values, FIRST),
        reference(values, SECOND),
        values.text("--format") or "text",
        values.text("--platform"),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Print the differences; 0 whether there are any or not."""
    with session.open_workspace() as workspace:
        found = workspace.versions.diff(
            arguments.before, arguments.after, platform=arguments.platform
        )
        if session.common.json:
            session.answer(found.to_json())
        elif arguments.format == "markdown":
            from envgraph.cli.views.diff import as_markdown

            session.console.raw(as_markdown(found))
        else:
            from envgraph.cli.views.diff import show_diff

            show_diff(found, session)
    return 0
