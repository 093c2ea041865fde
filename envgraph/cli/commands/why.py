"""``why``: which input made another hash, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envgraph.cli.commands.show import reference
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.sides import OTHER_STORE, SIDES, other_store

FIRST: Final = Operand("A", "a REF, a lockfile, an image, PATH#REF")
SECOND: Final = Operand("B", "the other; without it, A and the version before it", "optional")
SIGNATURE: Final = Signature(
    operands=(FIRST, SECOND),
    flags=(
        Flag("--platform", "the platform to compare; default: the first of both", "PLATFORM"),
        OTHER_STORE,
    ),
    notes=(
        "Computes the keys again with one input swapped at a time, and names the smallest set that "
        "explains the difference: for the definition, the lock, the runtime and the image. What "
        "differs and explains nothing (the order of lines, for the lock) is said, too. The cost is "
        "what B's image has in layers that A's lacks.",
        SIDES,
    ),
    examples=(
        ("envgraph why train", "why the latest version is another one than that before"),
        ("envgraph why train:1 train:3", "why these two are two images"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to compare."""

    before: str
    after: str | None
    platform: str | None
    other_store: Path | None


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    after = None if values.word(SECOND.name) is None else reference(values, SECOND)
    first = reference(values, FIRST)
    return Arguments(first, after, values.text("--platform"), other_store(values))


def run(arguments: Arguments, session: Session) -> int:
    """Explain it; NotFoundError for what is not there, or a first version alone."""
    with session.open_workspace() as workspace:
        workspace.other_store = arguments.other_store
        found = workspace.versions.why(
            arguments.before, arguments.after, platform=arguments.platform
        )
        if session.common.json:
            session.answer(found.to_json())
        else:
            from envgraph.cli.views.why import show_why

            show_why(found, session)
    return 0
