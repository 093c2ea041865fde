"""Two applies at once that need the same docker step (RELIABILITY: a shared step runs once)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.built import BuiltDesk
from tests.services import make_demo_channel

pytestmark = pytest.mark.services

_STEP = "RUN --mount=type=secret,id=word head -c 16 /dev/urandom > /made"
"""Run twice it would give two layers."""


class Two:
    """Two workspaces with one store; the step waits until the test gives it its secret."""

    def __init__(self, root: Path) -> None:
        make_base(root / "base")
        channel = make_demo_channel(root / "channel")
        self.fifo = root / "word"
        os.mkfifo(self.fifo)
        built = BuiltDesk.make(root / "desk", channel.url, root / "base", root / "storage")
        built.settings(secrets={"word": f"file:{self.fifo}"})
        built.steps("train", _STEP)
        self.built, self.desk = built, built.desk
        self.other = root / "desk" / "other"
        shutil.copytree(self.desk.folder, self.other)
        settings = json.loads((self.other / "envgraph.yaml").read_text())
        (self.other / "envgraph.yaml").write_text(json.dumps(settings | {"id": "d35c0002"}))

    def apply(self, folder: Path) -> subprocess.Popen[str]:
        """Start an apply in its own process group."""
        return subprocess.Popen(
            self.desk.command("apply", "--json", "--auto-approve"),
            cwd=folder,
            env=self.desk.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def say(self) -> None:
        """Wait until somebody runs the step, and let it go on."""
        self.fifo.write_text("word")


def wait_for_waiting(process: subprocess.Popen[str]) -> str:
    """Read what a process says until it says that it waits."""
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting for" in line:
            return line
    raise AssertionError(process.communicate()[1])


def test_the_second_waits_and_takes_what_the_first_made(tmp_path: Path) -> None:
    two = Two(tmp_path)
    first = two.apply(two.desk.folder)
    gate = os.open(two.fifo, os.O_WRONLY)  # returns when the step asks for its secret
    second = two.apply(two.other)
    assert f"process {first.pid} " in wait_for_waiting(second)
    os.write(gate, b"word")
    os.close(gate)
    answers = [process.communicate(timeout=300) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], answers
    made, taken = (json.loads(out.splitlines()[-1]) for out, _ in answers)
    assert made["environments"][0]["image"] == taken["environments"][0]["image"]
    assert (made["built"], taken["built"]) == (1, 0)


def test_a_killed_first_one_keeps_nobody(tmp_path: Path) -> None:
    two = Two(tmp_path)
    first = two.apply(two.desk.folder)
    gate = os.open(two.fifo, os.O_WRONLY)
    second = two.apply(two.other)
    wait_for_waiting(second)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    os.close(gate)
    two.say()
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["built"] == 1


def test_ctrl_c_twice_ends_the_waiting(tmp_path: Path) -> None:
    two = Two(tmp_path)
    first = two.apply(two.desk.folder)
    gate = os.open(two.fifo, os.O_WRONLY)
    second = two.apply(two.other)
    wait_for_waiting(second)
    second.send_signal(signal.SIGINT)
    assert second.stdout is not None
    assert any("interrupted" in line for line in second.stdout)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=300)
    assert second.returncode == 130
    os.write(gate, b"word")
    os.close(gate)
    first.communicate(timeout=300)
    assert first.returncode == 0


def processes_with(word: str) -> list[str]:
    """The command lines of this machine's processes that name something."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [line] if word in line else []
    return found


def test_ctrl_c_twice_leaves_no_step_behind(tmp_path: Path) -> None:
    """RELIABILITY 88: children are reaped; a step may take hours, and holds its storage."""
    two = Two(tmp_path)
    two.built.steps("train", "RUN echo be''gun; sleep 1000")
    process = two.apply(two.desk.folder)
    assert process.stdout is not None
    assert any("begun" in line for line in process.stdout)
    assert processes_with(str(two.built.storage))
    process.send_signal(signal.SIGINT)
    assert any("interrupted" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert processes_with(str(two.built.storage)) == []
