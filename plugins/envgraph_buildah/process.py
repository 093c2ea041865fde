"""One run of a program: its output line by line, ended with all that it started."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from envgraph.api import BuilderError, Cancel
from envgraph_buildah.options import INSTALL

_LOOK: Final = 0.1
"""Seconds between looks at whether the build shall end."""
_GRACE: Final = 2.0
"""Seconds that a program has to end after it was asked to."""
_LONGEST: Final = 1 << 16
"""Bytes of one line; a longer one is cut into pieces."""


class NoCancel:
    """Nobody ends it."""

    def is_set(self) -> bool:
        """Never."""
        return False

    def wait(self, timeout: float | None = None) -> bool:
        """At once."""
        del timeout
        return False


def run(
    command: Sequence[str],
    environ: Mapping[str, str],
    on_line: Callable[[str], None],
    *,
    cancel: Cancel,
    until: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    folder: str = "/",
) -> int:
    """Run a program to its end; its exit code. Its output and errors are one stream.

    BuilderError ``cancelled`` or ``builder-timeout`` (``until``, by ``clock``) after it and
    all that it started in its process group were ended; ``builder-down`` when it is not there.
    """
    try:
        process = subprocess.Popen(
            list(command), env=dict(environ), cwd=folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise BuilderError(
            f"{command[0]} cannot be started: {error.strerror}",
            code="builder-down",
            hint=INSTALL,
        ) from None
    try:
        with process:
            _read(process, on_line, cancel, until, clock)
            return process.wait()
    except BaseException:
        _end(process)
        raise


def _read(
    process: subprocess.Popen[bytes],
    on_line: Callable[[str], None],
    cancel: Cancel,
    until: float | None,
    clock: Callable[[], float],
) -> None:
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if cancel.is_set():
                _end(process)
                raise BuilderError("the build was cancelled", code="cancelled")
            if until is not None and clock() > until:
                _end(process)
                raise BuilderError(
                    "the build took longer than it may",
                    code="builder-timeout",
                    hint="builder.timeout in envgraph.yaml is how long a step may take, in seconds",
                )
            if not selector.select(_LOOK):
                continue
            data = os.read(pipe, _LONGEST)
            if not data:
                break
            pending += data
            *lines, pending = pending.split(b"\n")
            if len(pending) > _LONGEST:
                lines, pending = [*lines, pending], b""
            for line in lines:
                on_line(line.decode("utf-8", "replace").rstrip("\r"))
    if pending:
        on_line(pending.decode("utf-8", "replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group: asked first, then made to."""
    for number, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            continue
    try:  # what it left behind in its group
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
