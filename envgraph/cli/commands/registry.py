"""``registry login`` and ``registry list``: logins of registries, and what there is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.diagnostics import redacted
from envgraph.cli.views.text import table
from envgraph.errors import OfflineError, UsageError

if TYPE_CHECKING:
    from envgraph.registry.states import RegistryState

TASKS: Final = ("login", "list")
_PASSWORD_LIMIT: Final = 64 * 1024

SIGNATURE: Final = Signature(
    operands=(
        Operand("TASK", "what to do", choices=TASKS),
        Operand("HOST", "login: the registry, as HOST[:PORT]", "optional"),
    ),
    flags=(
        Flag("--username", "login: the user's name; asked for without it", "NAME", aliases=("-u",)),
        Flag("--password-stdin", "login: read the password from standard input"),
    ),
    notes=(
        "login tries the login at the registry and keeps it where docker does: with the "
        "credential helper that docker's config.json names, else in that file, for you alone to "
        "read. Whoever reads that file (docker, podman, skopeo) has it then, too. A password is "
        "never taken from the command line, which other users can see.",
        "list shows the registries of envgraph.yaml and asks each whether it answers; with "
        "--offline only folders are asked.",
    ),
    examples=(
        ("envgraph registry login registry.example.com", "asks for name and password"),
        ("envgraph registry login ghcr.io -u me --password-stdin < token", "for a script"),
        ("envgraph registry list", "what is there, and does it answer?"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The task; for ``login`` the host, a name (None: ask) and where the password is."""

    task: str
    host: str = ""
    username: str | None = None
    password_stdin: bool = False


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError for what belongs to the other task."""
    task, host = values.word("TASK") or "", values.word("HOST") or ""
    if task == "list":
        for flag in ("--username", "--password-stdin"):
            if values.on(flag):
                raise UsageError(f"{flag} is a flag of `registry login`")
        if host:
            raise UsageError("`registry list` takes no host", hint="it lists all of envgraph.yaml")
        return Arguments(task)
    if not host:
        raise UsageError("`registry login` needs a HOST", hint="envgraph registry login ghcr.io")
    if "@" in host:
        raise UsageError(
            "the HOST holds a login: names and passwords are no part of it",
            hint="give --username; the password is asked for",
        )
    return Arguments(task, host, values.text("--username"), values.on("--password-stdin"))


def run(arguments: Arguments, session: Session) -> int:
    """Do the task; 0 when the login is kept, and for every list."""
    return _login(arguments, session) if arguments.task == "login" else _list(session)


def _login(arguments: Arguments, session: Session) -> int:
    from envgraph.api import Credentials

    with session.open_workspace() as workspace:
        if session.common.offline:
            raise OfflineError(f"{arguments.host} would be asked, and --offline asks none")
        username = _username(arguments, session)
        password = _password(arguments, session)
        with session.console.status(f"Asking {arguments.host}"):
            kept = workspace.remotes.login(arguments.host, Credentials(username, password))
    if session.common.json:
        session.answer(
            {"host": kept.host, "username": username, "kept": kept.where, "tried": kept.tried}
        )
    else:
        words = "takes the login" if kept.tried else "asks for no login, so it was not tried"
        session.console.out(f"{kept.host} {words}. It is kept in {kept.where}.")
    return 0


def _username(arguments: Arguments, session: Session) -> str:
    name = arguments.username
    if name is None:
        if arguments.password_stdin or not _somebody_is_there(session):
            raise UsageError("nobody is there to ask for a name", hint="give --username NAME")
        session.console.prompt("Username: ")
        name = session.stdin.readline().strip()
    if not name or ":" in name or not name.isprintable():
        raise UsageError("a user's name is not empty, and holds no colon and no control character")
    return name


def _password(arguments: Arguments, session: Session) -> str:
    if arguments.password_stdin:
        password = session.stdin.read(_PASSWORD_LIMIT).removesuffix("\n").removesuffix("\r")
    elif _somebody_is_there(session):
        password = session.console.secret("Password: ")
    else:
        raise UsageError(
            "nobody is there to ask for a password",
            hint="give it with --password-stdin: envgraph registry login … < FILE",
        )
    if not password:
        raise UsageError("the password is empty")
    return password


def _somebody_is_there(session: Session) -> bool:
    try:
        return session.stdin.isatty() and os.isatty(2)
    except ValueError:
        return False


def _list(session: Session) -> int:
    from envgraph.registry.states import registry_states

    with (
        session.open_workspace() as workspace,
        session.console.status("Asking the registries"),
    ):
        states = list(registry_states(workspace.config, workspace.remotes))
    if session.common.json:
        session.answer({"registries": [_document(state) for state in states]})
        return 0
    if not states:
        session.console.note(
            "envgraph.yaml names no registry. To add one: `registry: {type: oci, url: HOST/PATH}`"
        )
        return 0
    rows = [[state.name, state.type, state.place or "?", _words(state)] for state in states]
    for line in table(rows, header=["NAME", "TYPE", "PLACE", "ANSWERS"]):
        session.console.out(*line)
    for state in states:
        if state.problem is not None:
            session.console.out(f"{state.name}: {state.problem.summary}")
            if state.problem.hint:
                session.console.out(f"  to fix: {state.problem.hint}")
    return 0


def _words(state: RegistryState) -> str:
    return {True: "yes", False: "no", None: "not asked"}[state.answers]


def _document(state: RegistryState) -> dict[str, object]:
    return {
        "name": state.name,
        "type": state.type,
        "place": state.place or None,
        "answers": state.answers,
        "problem": None if state.problem is None else redacted(state.problem),
    }
