"""One command line from words to an exit code; every exception ends here."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from envgraph.cli.arguments import (
    Invocation,
    asked_before_parsing,
    common_of,
    read_values,
    split_verb,
)
from envgraph.cli.options import Signature
from envgraph.cli.session import Session
from envgraph.cli.verbs import module_of
from envgraph.cli.views.console import Console
from envgraph.cli.views.diagnostics import error_object, print_diagnostics
from envgraph.errors import Diagnostic, EnvgraphError, UsageError

EXIT_ERROR = 1
EXIT_CHANGES = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class _Signals:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: once gently, twice at once."""

    def __init__(self) -> None:
        self.terminated = False

    def install(self) -> None:
        import signal

        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) is not signal.SIG_DFL:
                continue  # ignored by nohup, or owned by an embedding program
            try:
                signal.signal(number, self._received)
            except ValueError:
                return  # not the main thread

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
        raise KeyboardInterrupt


def run_command(argv: Sequence[str]) -> tuple[int, bool]:
    """The exit code, and whether to leave without waiting for threads."""
    signals = _Signals()
    signals.install()
    json = asked_before_parsing(argv, "--json")
    verbose = asked_before_parsing(argv, "-v", "--verbose")
    console = Console(
        sys.stdout or _Closed(),
        sys.stderr or _Closed(),
        os.environ,
        no_color=asked_before_parsing(argv, "--no-color"),
        quiet=asked_before_parsing(argv, "--quiet", "-q"),
    )
    stdout = sys.stdout
    # What prints without being asked, a plugin or a library, must not be in the answer.
    sys.stdout = sys.stderr or _Closed()
    try:
        code = _dispatch(argv, console)
        console.flush()
        return code, False
    except BaseException as error:
        code, diagnostics = judge(error, argv, verbose=verbose, terminated=signals.terminated)
        report_failure(console, code, diagnostics, json=json)
        return code, not isinstance(error, Exception)
    finally:
        sys.stdout = stdout


class _Closed(io.StringIO):
    """Stands for a stream that was closed before we began: it fails once it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self._used = False

    def write(self, text: str, /) -> int:
        self._used = self._used or bool(text)
        return len(text)

    def flush(self) -> None:
        if self._used:
            raise OSError(errno.EBADF, "stdout is closed")


def _dispatch(argv: Sequence[str], console: Console) -> int:
    invocation = split_verb(argv)
    if not invocation.verb:
        return _without_verb(invocation, console)
    module: Any = importlib.import_module(module_of(invocation.verb))
    signature: Signature = module.SIGNATURE
    if asked_before_parsing(invocation.words, "--help", "-h"):
        from envgraph.cli.views.help import verb_help

        verb_help(console, invocation.verb, signature)
        return 0
    values = read_values(invocation, signature)
    if values.on("--version"):
        return _version(console, json=values.on("--json"))
    common = common_of(values, dict(os.environ))
    session = Session(common, console, sys.stdin or io.StringIO(), os.environ)
    code: int = module.run(module.read(values), session)
    return _conclude(session, code)


def _conclude(session: Session, code: int) -> int:
    """Errors that did not stop the command decide its exit code all the same."""
    if not session.problems:
        return code
    if code in (0, EXIT_CHANGES):
        code = EXIT_ERROR
    report_failure(session.console, code, session.problems, json=session.common.json)
    return code


def _without_verb(invocation: Invocation, console: Console) -> int:
    values = read_values(invocation, Signature())
    if values.on("--version"):
        return _version(console, json=values.on("--json"))
    from envgraph.cli.views.help import overview

    if values.on("--help"):
        overview(console.out)
        return 0
    if values.on("--json"):
        raise UsageError("there is no verb", hint="`envgraph --help` lists the verbs")
    overview(console.err)
    return EXIT_ERROR


def _version(console: Console, *, json: bool) -> int:
    from envgraph import __version__

    python = ".".join(str(number) for number in sys.version_info[:3])
    if json:
        from json import dumps

        console.raw(dumps({"format_version": "1", "envgraph": __version__, "python": python}))
    else:
        console.out(f"envgraph {__version__}")
    return 0


def report_failure(
    console: Console, code: int, diagnostics: Sequence[Diagnostic], *, json: bool
) -> None:
    """Print what went wrong, once, in the form that was asked for."""
    if json:
        console.raw_err(error_object(code, diagnostics))
    else:
        print_diagnostics(console, diagnostics)
    try:
        console.flush()
    except EnvgraphError:
        return  # stdout cannot be written; stderr says what went wrong


def judge(
    error: BaseException, argv: Sequence[str], *, verbose: bool, terminated: bool
) -> tuple[int, tuple[Diagnostic, ...]]:
    """The exit code and the diagnostics of whatever was raised."""
    if isinstance(error, KeyboardInterrupt):
        code = EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
        return code, (Diagnostic("interrupted", "interrupted; the store is whole"),)
    from envgraph.cli.failures import bug_report, expected_failure

    return expected_failure(error) or (EXIT_BUG, (bug_report(error, argv, verbose=verbose),))
