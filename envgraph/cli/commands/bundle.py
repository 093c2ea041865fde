"""``bundle create`` and ``bundle import``: versions as one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.text import size
from envgraph.cli.views.transfer import PARALLELISM, at_once, show_pulled
from envgraph.errors import UsageError

if TYPE_CHECKING:
    from envgraph.workspace import Workspace

TASKS: Final = ("create", "import")
SIGNATURE: Final = Signature(
    operands=(
        Operand("TASK", "what to do", choices=TASKS),
        Operand("WHAT", "create: versions, as REF; import: one file", "many"),
    ),
    flags=(
        Flag("--output", "create: the file to write", "FILE", ("-o",)),
        Flag("--with-base", "create: the layers of bases in registries too"),
        Flag("--packages", "create: the package archives too, to build from"),
        PARALLELISM,
    ),
    notes=(
        "The file is an OCI image layout in a tar: images, records and locks, each blob once. It "
        "is written whole or not at all, and equal versions give equal files. import verifies "
        "everything as a pull does, opens no connection, and registers the versions in this "
        "workspace.",
    ),
    examples=(
        ("envgraph bundle create train score:2 -o two.tar", "two environments in one file"),
        ("envgraph bundle import two.tar --offline", "on a machine without a network"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The task, what it is about, and what goes into the file."""

    task: str
    words: tuple[str, ...]
    output: Path | None
    with_base: bool
    packages: bool
    parallelism: int


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError for flags of the other task, or nothing to do."""
    task, words = values.word("TASK") or "", values.words("WHAT")
    output = values.text("--output")
    if task == "import":
        for flag in ("--output", "--with-base", "--packages"):
            if values.on(flag):
                raise UsageError(f"{flag} is a flag of `bundle create`")
        if len(words) != 1:
            raise UsageError("envgraph bundle import needs one file")
    elif not words:
        raise UsageError("envgraph bundle create needs one REF or more")
    elif output is None:
        raise UsageError("envgraph bundle create needs --output FILE")
    return Arguments(
        task,
        words,
        None if output is None else Path(output),
        values.on("--with-base"),
        values.on("--packages"),
        at_once(values),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Write or read the file."""
    with session.open_workspace() as workspace:
        if arguments.task == "create":
            return _create(arguments, session, workspace)
        from envgraph.cli.views.progress import transfer_view

        with transfer_view(session) as view:
            pulled = workspace.traffic.unbundle(
                session.path(arguments.words[0]),
                parallelism=arguments.parallelism,
                on_event=view.event,
            )
    show_pulled(pulled, session)
    return 0


def _create(arguments: Arguments, session: Session, workspace: Workspace) -> int:
    assert arguments.output is not None
    with session.console.status("Writing the bundle"):
        records, written = workspace.traffic.bundle(
            arguments.words,
            arguments.output,
            with_base=arguments.with_base,
            packages=arguments.packages,
            parallelism=arguments.parallelism,
        )
    names = [f"{record.environment}:{record.version}" for record in records]
    if session.common.json:
        session.answer({"file": str(arguments.output), "bytes": written, "environments": names})
    else:
        what = ", ".join(names)
        session.console.out(f"{arguments.output}  {size(written)}  {what}")
    return 0
