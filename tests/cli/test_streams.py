"""Streams that were closed before envgraph began, or that take nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envgraph.cli.run import run_command
from tests.cli.conftest import Cli


def shell(cli: Cli, line: str, *, stdin: int | None = None) -> subprocess.CompletedProcess[str]:
    """``line`` in a shell; ENVGRAPH in it is the command."""
    return subprocess.run(
        ["/bin/sh", "-c", line.replace("ENVGRAPH", f"{sys.executable} -m envgraph")],
        cwd=cli.folder,
        env=cli.environment,
        capture_output=True,
        text=True,
        stdin=stdin,
    )


@pytest.mark.parametrize("words", ["plan", "plan --json", "list --json", "--version", "--help"])
@pytest.mark.parametrize("where", [">&-", "<&- >&-", ">/dev/full"])
def test_an_answer_that_nobody_can_have_is_one_error(words: str, where: str, demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    assert demo("plan").code == 0  # from now on, the quick path answers
    done = shell(demo, f"ENVGRAPH {words} {where}")
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "the answer could not be written: " in line


def test_a_closed_stderr_or_stdin_harms_no_answer(demo: Cli) -> None:
    done = shell(demo, "ENVGRAPH plan 2>&- <&-")
    assert done.returncode == 0
    assert "to build" in done.stdout


def test_nothing_to_say_needs_no_stdout(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cli.folder)
    monkeypatch.setenv("ENVGRAPH_STORE", cli.environment["ENVGRAPH_STORE"])
    monkeypatch.setattr(sys, "stdout", None)
    assert run_command(["list", "--quiet"])[0] == 0


def test_what_a_library_prints_goes_into_no_file_of_the_store(demo: Cli, tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text(
        "import os, sys\n"
        "from envgraph.cli.main import _occupy_closed_streams\n"
        "_occupy_closed_streams()\n"
        "file = os.open('file', os.O_WRONLY | os.O_CREAT)\n"
        "os.write(1, b'printed'); os.write(2, b'printed')\n"
        "sys.exit(0 if file > 2 and not os.get_inheritable(1) else 1)\n"
    )
    assert shell(demo, f"{sys.executable} {code} <&- >&- 2>&-").returncode == 0
    assert (demo.folder / "file").read_bytes() == b""


def test_a_command_finds_its_stdout_closed_as_it_was(demo: Cli) -> None:
    assert demo("apply --quiet").code == 0
    line = "ENVGRAPH run train -- /bin/sh -c 'test -e /proc/self/fd/1 && exit 3; exit 4' >&-"
    assert shell(demo, line).returncode == 4
