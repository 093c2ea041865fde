"""``shell``: the user's own shell in an environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.local import PREFIX_NOTE, RENEW
from envgraph.cli.options import Signature, Values
from envgraph.cli.session import Session

SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    flags=(RENEW,),
    notes=(
        "Starts $SHELL with the environment's packages first on PATH. `exit` leaves it.",
        PREFIX_NOTE,
    ),
    examples=(("envgraph shell train", "a shell with the newest version of train"),),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which version."""

    reference: str
    renew: bool = False


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values), values.on("--renew"))


def run(arguments: Arguments, session: Session) -> int:
    """Become the shell."""
    from envgraph.cli.local import prepare_local
    from envgraph.run.environment import command_environment
    from envgraph.run.process import execute
    from envgraph.run.shells import shell_command, users_shell

    local = prepare_local(arguments.reference, session, renew=arguments.renew)
    environment = command_environment(local.prefix, local.variables)
    shell = shell_command(
        users_shell(os.environ),
        environment,
        name=local.title,
        start_files=local.prefix.parent / f"{local.prefix.name}.shell",
    )
    session.console.note(f"{local.title} in {shell.command[0]}; `exit` leaves it")
    session.console.flush()
    execute(shell.command, {**environment, **shell.variables})
