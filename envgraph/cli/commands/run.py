"""``run``: a command in an environment, on this machine; exit code and signals are its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.local import PREFIX_NOTE, RENEW
from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import UsageError

SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    flags=(
        Flag("--container", "in the image, base included; needs bubblewrap or runc"),
        RENEW,
    ),
    rest="CMD…",
    rest_help="the command and its arguments",
    notes=(
        "The packages are those of the version's lock, in a folder of this machine's cache, the "
        "prefix; the first run makes it.",
        PREFIX_NOTE,
        "With --container, this folder is /workspace in the image, whose unpacked copy --renew "
        "makes anew.",
    ),
    examples=(("envgraph run train -- python train.py --epochs 3", "the newest version of train"),),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which version, and the command."""

    reference: str
    command: tuple[str, ...]
    container: bool
    renew: bool = False


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError without a command."""
    name = reference(values)
    if not values.rest:
        raise UsageError(
            "run needs a command",
            hint=f"put it after `--`: envgraph run {name} -- python -V",
        )
    return Arguments(name, values.rest, values.on("--container"), values.on("--renew"))


def run(arguments: Arguments, session: Session) -> int:
    """Become the command; with ``--container``, its exit code."""
    if not arguments.container:
        _become(arguments, session)
    return _in_image(arguments, session)


def _become(arguments: Arguments, session: Session) -> NoReturn:
    from envgraph.cli.local import prepare_local
    from envgraph.run.environment import command_environment
    from envgraph.run.process import execute

    local = prepare_local(arguments.reference, session, renew=arguments.renew)
    environment = command_environment(local.prefix, local.variables)
    session.console.flush()
    execute(arguments.command, environment)


def _in_image(arguments: Arguments, session: Session) -> int:
    from envgraph.cli.local import fetch_base, image_here
    from envgraph.run.container import find_runtime, prepare_image, run_in_image
    from envgraph.run.prefixes import host_platform

    runtime = find_runtime()
    with session.open_workspace() as workspace:
        record = workspace.find(arguments.reference)
        digest = image_here(record)
        fetch_base(workspace, record, [host_platform()], session)
        image = prepare_image(
            workspace.store.blobs, digest, waiting=session.console.note, renew=arguments.renew
        )
    session.console.flush()
    return run_in_image(image, arguments.command, workspace=Path.cwd(), runtime=runtime)
