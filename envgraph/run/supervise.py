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
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

_SET_CHILD_SUBREAPER: Final = 36
_FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_bwrap(words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run ``words`` (program first), and give the command's exit code, 128+n for a signal.

    A signal sent to this process goes to the command.
    """
    reading, writing = os.pipe()
    command = [words[0], "--info-fd", str(writing), *words[1:]]
    first = 0
    with _orphans_come_here():
        sys.stdout.flush()
        process = subprocess.Popen(command, env=dict(environment), pass_fds=[writing])
        os.close(writing)
        with _forward(lambda: _first_child(first) or process.pid, terminal=True):
            first = _container_process(reading)
            return _collect(process, first)


def run_runc(words: Sequence[str]) -> int:
    """The same for runc, which hands signals on to the command itself."""
    sys.stdout.flush()
    with (
        subprocess.Popen(list(words)) as process,
        _forward(lambda: process.pid, terminal=True),
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


def _first_child(parent: int) -> int:
    """The command: the only child that bubblewrap's first process started itself; 0 if none."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
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
def _forward(target: Callable[[], int], *, terminal: bool) -> Iterator[None]:
    """Hand signals on to ``target()``; a terminal's Ctrl-C has reached it already."""

    def handler(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and terminal and os.isatty(0):
            return
        pid = target()
        if pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    before = {number: signal.signal(number, handler) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def _orphans_come_here() -> Iterator[None]:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
