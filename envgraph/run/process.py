"""Become the command: exit code, signals and terminal pass through because nothing is between."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from envgraph.errors import EnvgraphError, NotFoundError


def execute(
    command: Sequence[str], environment: Mapping[str, str], *, folder: Path | None = None
) -> NoReturn:
    """Replace this process by ``command``, looked up on the PATH of ``environment``.

    Never returns: whoever started envgraph sees the command's own exit code, or the
    signal that ended it (128+n in a shell). Ctrl-C and SIGTERM reach the command and
    nobody else. Raises before anything is replaced: NotFoundError for an unknown
    command, EnvgraphError for one that cannot be started.
    """
    name = command[0]
    path = shutil.which(name, path=environment.get("PATH", os.defpath))
    if path is None:
        raise NotFoundError(
            f"{name}: no such command in the environment",
            code="command-not-found",
            hint="is its package in the environment? `envgraph show` lists them",
        )
    flush_streams()
    if folder is not None:
        os.chdir(folder)
    _restore_signals()
    try:
        _replace(path, list(command), dict(environment))
    except OSError as error:
        raise EnvgraphError(
            f"{name} could not be started: {error.strerror}",
            code="command-not-started",
            detail=_interpreter_problem(Path(path)) or path,
        ) from error


def flush_streams() -> None:
    """Hand out what was printed, before another program goes on with the streams."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it was closed before this process began
            stream.flush()


def _replace(path: str, command: list[str], environment: dict[str, str]) -> NoReturn:
    try:
        os.execve(path, command, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execve("/bin/sh", ["/bin/sh", path, *command[1:]], environment)


def _restore_signals() -> None:
    """What Python ignores, or envgraph blocked or handles, must not be the command's fate."""
    for name in ("SIGPIPE", "SIGXFSZ", "SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is None:
            continue
        python_ignores = name in ("SIGPIPE", "SIGXFSZ")
        if python_ignores or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _interpreter_problem(path: Path) -> str:
    """Why a script that is there "does not exist": its first line names no program."""
    try:
        with path.open("rb") as stream:
            first = stream.readline(512)
    except OSError:
        return ""
    if not first.startswith(b"#!"):
        return ""
    interpreter = (
        first[2:].split(maxsplit=1)[0].decode(errors="replace") if first[2:].split() else ""
    )
    return f"its first line asks for {interpreter}"
