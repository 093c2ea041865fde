"""``diff``: what differs between two versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envgraph.cli.commands.show import reference
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.sides import OTHER_STORE, SIDES, other_store

FIRST: Final = Operand("A", "the older: a REF, a lockfile, an image, PATH#REF")
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
        OTHER_STORE,
    ),
    notes=(
        SIDES,
        "Packages that the file names come first, then those that came along (nested); `major` "
        "marks a change of the first number of a version, which may break things.",
        "An image that is one of ours is compared as the version that it is. Of any other only "
        "what it says of itself is compared; what it does not say is listed.",
    ),
    examples=(
        ("envgraph diff train:1 train", "from version 1 to the latest"),
        ("envgraph diff old.conda-lock.yml train --format markdown", "to paste into a review"),
        ("envgraph diff train:3 127.0.0.1:5000/ml/train:3", "an image in a registry"),
        ("envgraph diff ../old-project#train train", "beside another workspace's"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to compare, on which platform, in which form."""

    before: str
    after: str
    format: str
    platform: str | None
    other_store: Path | None


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(
        reference(values, FIRST),
        reference(values, SECOND),
        values.text("--format") or "text",
        values.text("--platform"),
        other_store(values),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Print the differences; 0 whether there are any or not."""
    with session.open_workspace() as workspace:
        workspace.other_store = arguments.other_store
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
