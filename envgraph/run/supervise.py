"""Wait for a command that a container runtime started, with every signal where it belongs.

Ctrl-C reaches the whole foreground group: the command, which may want to save its work,
and bubblewrap's own process, which dies of it at once. So this process becomes the one
that inherits orphans (prctl(2), PR_SET_CHILD_SUBREAPER), survives, and takes the exit code
from the container's first process when bubblewrap is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from envgraph.run.process import flush_streams

_SET_CHILD_SUBREAPER: Final = 36
_PATIENCE: Final = 200
"""Looks, ten milliseconds apart, for a command that the container is about to start."""

_FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_bwrap(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run ``words`` (program first), and give the command's exit code, 128+n for a signal.

    A signal sent to this process goes to the command.
    """
    reading, writing = os.pipe()
    command = [words[0], "--info-fd", str(writing), *words[1:]]
    first = 0
    with _orphans_come_here():
        flush_streams()
        process = subprocess.Popen(command, env=dict(environment), pass_fds=[writing])
        os.close(writing)
        with _forward(lambda: _command(first)) as early:
            first = _container_process(reading)
            for number in early:
                _send(_command(first), number)
            return _collect(process, first)


def run_runc(words: Sequence[str]) -> int:
    """The same for runc, which hands signals on to the command itself."""
    flush_streams()
    with (
        subprocess.Popen(list(words)) as process,
        _forward(lambda: process.pid),
    ):
        return _code(process.wait())


def _container_process(reading: int) -> int:
    """The pid of the container's first process, as bubblewrap says it; 0 if it never began."""
    with os.fdopen(reading, "rb") as stream:
        text = stream.read()
    try:
        return int(json.loads(text)["child-pid"])
    except (ValueError, KeyError):
        return 0


def _command(first: int) -> int:
    """The command: the only child of the container's first process, which may start it late.

    0 while the container has not begun, or where it never will have a command.
    """
    for _ in range(_PATIENCE if first else 0):
        try:
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        except OSError:
            return 0
        if children:
            return int(children[0])
        time.sleep(0.01)
    return 0


def _collect(process: subprocess.Popen[bytes], first: int) -> int:
    """The runtime's exit code, or the container's own where a signal ended the runtime."""
    last = 1
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return last
        code = os.waitstatus_to_exitcode(status)
        if pid == process.pid:
            process.returncode = code
            last = _code(code)
            if code >= 0:
                return last
        elif pid == first:
            process.poll()
            return _code(code)


def _code(code: int) -> int:
    return 128 - code if code < 0 else code


@contextlib.contextmanager
def _forward(target: Callable[[], int]) -> Iterator[list[int]]:
    """Hand signals on to ``target()``; a terminal's Ctrl-C has reached it already.

    Gives the list of those that came while there was no target. What was ignored when
    this process began stays ignored.
    """
    early: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and os.isatty(0):
            return
        if not _send(target(), number):
            early.append(number)

    obeyed = [n for n in _FORWARDED if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in obeyed}
    try:
        yield early
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _send(pid: int, number: int) -> bool:
    """Whether there was somebody to send it to."""
    if pid > 0:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return pid > 0


@contextlib.contextmanager
def _orphans_come_here() -> Iterator[None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
