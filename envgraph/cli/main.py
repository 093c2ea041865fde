"""The entry: one place that turns whatever happened into an exit code, and exits.

Exit codes: 0 done · 1 error · 2 changes (``--detailed-exitcode``) · 3 findings ·
11 store locked · 70 a bug in envgraph · 130 / 143 interrupted.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and leave with its exit code."""
    argv = sys.argv[1:]
    leave_at_once = False
    _occupy_closed_streams()
    try:
        code = _quick_answer(argv)
        if code is None:
            from envgraph.cli.run import run_command

            code, leave_at_once = run_command(argv)
    except KeyboardInterrupt:
        code, leave_at_once = 130, True
    _flush()
    # The interpreter can crash on its way out once rattler was used, and it waits for
    # threads that an interrupt left behind. The exit code must not lie for either.
    if leave_at_once or "rattler" in sys.modules:
        os._exit(code)
    sys.exit(code)


def _occupy_closed_streams() -> None:
    """Keep the numbers 0 to 2 from becoming those of the store's files.

    What prints without asking (a library, a loader) would write into them. The
    placeholders are not inherited: a command finds its streams closed as we did.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if stream is None:
            os.open(os.devnull, os.O_RDWR)


def _quick_answer(argv: Sequence[str]) -> int | None:
    """``plan`` with nothing to do, answered from the snapshot; None: take the full path."""
    if "plan" not in argv or sys.stdout is None:
        return None
    try:
        from envgraph.refresh.quick import answer

        return answer(list(argv))
    except BrokenPipeError:
        return 0  # whoever asked does not want to know any more
    except (ImportError, OSError):
        return None


def _flush() -> None:
    """Hand out what is left; a stream that takes no more is none of the interpreter's."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
