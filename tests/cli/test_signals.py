"""Signals and exits of a real process: interrupted, terminated, hung up, read by nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

# A verb that says when it runs, then waits; the second word is done between two waits.
WAITING = """
import select, signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignore"
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, {hangup})
from envgraph.cli import verbs
from envgraph.cli.options import Signature
from envgraph.cli.main import main

def wait():
    while True:  # not pause(): a signal that came just before it would be seen after it
        select.select([], [], [], 0.05)

def run(arguments, session):
    try:
        session.console.raw("running")
        session.console.flush()
        wait()
    except KeyboardInterrupt:
        if {gently}:
            session.console.raw("finishing")
            session.console.flush()
            wait()
        raise
    return 0

module = types.ModuleType(verbs.module_of("init"))
module.SIGNATURE, module.read, module.run = Signature(), lambda values: None, run
sys.modules[module.__name__] = module
sys.argv = ["envgraph", "init", *sys.argv[1:]]
main()
"""


@contextmanager
def started(
    tmp_path: Path, *words: str, gently: bool = False, nohup: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """The process, once it runs; gone at the end whatever happened."""
    hangup = "signal.SIG_IGN" if nohup else "signal.SIG_DFL"
    code = WAITING.format(gently=gently, hangup=hangup)
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
    ) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            yield process
        finally:
            watchdog.cancel()
            process.kill()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_ends_the_command_with_its_exit_code(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    with started(tmp_path) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert out == ""
        assert err == "error: interrupted; the store is whole [interrupted]\n"


def test_a_signal_is_told_in_json_when_that_was_asked_for(tmp_path: Path) -> None:
    with started(tmp_path, "--json") as process:
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == 143
        assert '"type": "error"' in err
        assert '"exit": 143' in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_what_the_first_let_finish(
    number: signal.Signals, tmp_path: Path
) -> None:
    with started(tmp_path, gently=True) as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.readline() == "finishing\n"
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == (130 if number is signal.SIGINT else 143)


def test_nohup_is_respected(tmp_path: Path) -> None:
    with started(tmp_path, nohup=True) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 143


@pytest.mark.parametrize("line", ["--help", "doctor", "plan", "list"])
def test_a_closed_pipe_is_quiet(line: str, demo: Cli) -> None:
    if line == "plan":
        assert demo("apply --quiet").code == 0
        assert demo("plan").code == 0
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "envgraph", line],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            cwd=demo.folder,
            env=demo.environment,
        )
    assert done.returncode == 0
    assert "Broken" not in done.stderr
    assert "error" not in done.stderr


@pytest.mark.parametrize("line", ["--version", "plan", "list"])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_were_closed_before(line: str, closed: str, demo: Cli) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m envgraph {line} {closed}', sys.executable],
        capture_output=True,
        text=True,
        cwd=demo.folder,
        env=demo.environment,
    )
    answers_nobody = ">&-" in closed.split() and line != "list"  # nothing is listed here
    assert done.returncode == int(answers_nobody), done.stderr
    if answers_nobody and "2>&-" not in closed:
        assert "the answer could not be written: stdout is closed" in done.stderr


def test_an_answer_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "envgraph", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
    assert done.returncode == 1
    assert "the answer could not be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_exit_code_holds_where_rattler_was_imported() -> None:
    """The interpreter may crash on its way out then; the process leaves before it can."""
    code = (
        "import atexit, os, sys; import rattler\n"
        "atexit.register(os._exit, 99)\n"
        "sys.argv = ['envgraph', '--version']\n"
        "from envgraph.cli.main import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("envgraph ")
