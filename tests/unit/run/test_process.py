"""The command takes envgraph's place: its exit code and its signals are the caller's to see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = """\
import json, sys
from pathlib import Path
from envgraph.errors import EnvgraphError
from envgraph.run.process import execute
command, environment, folder = json.loads(sys.argv[1])
print("before", flush=False)
try:
    execute(command, environment, folder=Path(folder) if folder else None)
except EnvgraphError as error:
    print(json.dumps([d.to_json() for d in error.diagnostics]))
    sys.exit(99)
"""


def run(
    command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.defpath} if environment is None else environment
    argument = json.dumps([command, env, str(folder) if folder else None])
    return subprocess.run(
        [sys.executable, "-c", RUNNER, argument], capture_output=True, text=True, check=False
    )


def diagnostic(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 99, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])[0]
    return found


@pytest.mark.parametrize("code", [0, 1, 2, 70, 255])
def test_the_exit_code_is_the_commands(code: int) -> None:
    assert run(["sh", "-c", f"exit {code}"]).returncode == code


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL", "SIGPIPE"])
def test_a_signal_that_ends_the_command_ends_us(name: str) -> None:
    done = run(["sh", "-c", f"kill -{name[3:]} $$; exit 0"])
    assert done.returncode == -getattr(signal, name)


def test_a_signal_sent_to_us_reaches_the_command() -> None:
    text = 'trap "echo caught; exit 7" TERM; echo ready; read line'
    argument = json.dumps([["sh", "-c", text], {"PATH": os.defpath}, None])
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "before\n"
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "caught\n"
        assert process.wait() == 7


def test_what_was_printed_before_comes_first_and_arguments_are_untouched() -> None:
    done = run(["printf", "%s|", "a b", "", "$HOME", "*"])
    assert done.stdout == "before\na b||$HOME|*|"


def test_the_command_sees_exactly_the_environment_and_folder(tmp_path: Path) -> None:
    done = run(["/usr/bin/env"], {"ONLY": "this"}, tmp_path)
    assert done.stdout == "before\nONLY=this\n"
    assert run(["pwd"], folder=tmp_path).stdout == f"before\n{tmp_path.resolve()}\n"


def test_the_path_of_the_environment_decides(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        tool = tmp_path / name / "tool"
        tool.write_text(f"#!/bin/sh\necho {name}\n")
        tool.chmod(0o755)
    path = f"{tmp_path}/second:{tmp_path}/first"
    assert run(["tool"], {"PATH": path}).stdout == "before\nsecond\n"


def test_an_unknown_command_is_one_clear_error() -> None:
    found = diagnostic(run(["no-such-command"]))
    assert found["code"] == "command-not-found"
    assert "no-such-command" in found["summary"]


def test_a_script_with_a_missing_interpreter_says_which(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/no/such/python -x\n")
    tool.chmod(0o755)
    found = diagnostic(run([str(tool)]))
    assert found["code"] == "command-not-started"
    assert "/no/such/python" in found["detail"]


def test_a_script_without_a_first_line_runs_as_in_a_shell(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text('echo "plain $1"; exit 4\n')
    tool.chmod(0o755)
    done = run([str(tool), "x"])
    assert (done.stdout, done.returncode) == ("before\nplain x\n", 4)


def test_no_descriptor_leaks_into_the_command() -> None:
    done = run(["sh", "-c", "ls /proc/self/fd | wc -l"], {"PATH": "/usr/bin:/bin"})
    assert int(done.stdout.split()[-1]) == 4  # 0, 1, 2 and the one that ls opens
