"""Progress of apply: JSON lines, plain lines, bars; and what is asked before."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from envgraph.api.events import Event
from envgraph.cli.views.console import Console
from envgraph.cli.views.progress import BarProgress, JsonProgress, LineProgress
from tests.cli.conftest import Cli

EVENTS = [
    Event("start", "a", "archive", "numpy"),
    Event("progress", "a", "archive", "numpy", 500_000, 7_200_000),
    Event("progress", "a", "archive", "numpy", 7_200_000, 7_200_000),
    Event("done", "a", "archive", "numpy"),
    Event("start", "b", "conda-package", "numpy"),
    Event("start", "c", "base-image", "evil\x1b[2J"),
    Event("done", "b", "conda-package", "numpy"),
    Event("failed", "c", "base-image", "evil\x1b[2J", text="cause"),
    Event("skipped", "d", "image", "linux-64"),
    Event("message", text="interrupted: finishing the running steps"),
    Event("message", text="interrupted: finishing the running steps"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def console(err: io.StringIO, *, quiet: bool = False) -> Console:
    return Console(io.StringIO(), err, {"TERM": "xterm", "COLUMNS": "80"}, quiet=quiet)


def test_lines() -> None:
    err = io.StringIO()
    with LineProgress(console(err)) as view:
        for event in EVENTS:
            view.event(event)
    assert err.getvalue().splitlines() == [
        "fetched  numpy  7.2 MB",
        "built    numpy",
        "FAILED   base-image evil\\x1b[2J",
        "interrupted: finishing the running steps",
    ]


def test_quiet_lines_are_failures_and_messages() -> None:
    err = io.StringIO()
    view = LineProgress(console(err, quiet=True))
    for event in EVENTS:
        view.event(event)
    assert [line.split()[0] for line in err.getvalue().splitlines()] == ["FAILED", "interrupted:"]


def test_json_lines() -> None:
    out = io.StringIO()
    view = JsonProgress(Console(out, io.StringIO(), {}))
    for event in EVENTS:
        view.event(event)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [event.kind for event in EVENTS]
    assert lines[1] == {
        "type": "event", "event": "progress", "key": "a", "kind": "archive", "name": "numpy",
        "bytes_done": 500_000, "bytes_total": 7_200_000, "text": "",
    }  # fmt: skip


def test_bars_are_painted_at_most_ten_times_a_second_and_leave_nothing_behind() -> None:
    err = Terminal()
    now = 0.0
    with BarProgress(console(err), err, total=2, clock=lambda: now) as view:
        for event in EVENTS[:2]:
            view.event(event)
        painted = err.getvalue()
        for _ in range(50):
            view.event(EVENTS[1])
        assert err.getvalue() == painted
        now = 1.0
        view.event(EVENTS[1])
        assert "500 kB of 7.2 MB" in err.getvalue()
        for event in EVENTS[2:]:
            now += 1.0
            view.event(event)
        assert "1 of 2 steps" in err.getvalue()
        assert "FAILED   base-image evil\\x1b[2J" in err.getvalue()
        assert "\x1b[2J" not in err.getvalue()
    assert err.getvalue().endswith("\x1b[2K")


@pytest.mark.parametrize(("answer", "applied"), [("yes", True), ("no", False), ("", False)])
def test_a_terminal_is_asked(answer: str, applied: bool, demo: Cli) -> None:
    """The question comes on the terminal, before anything is done; only yes is yes."""
    primary, secondary = pty.openpty()
    os.write(primary, f"{answer}\n".encode())
    with os.fdopen(secondary, "r+b", buffering=0) as terminal:
        done = subprocess.run(
            [sys.executable, "-m", "envgraph", "apply"],
            cwd=demo.folder,
            env=demo.environment,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
            timeout=300,
        )
    with os.fdopen(primary, "rb", buffering=0) as reader:
        shown = reader.read(1 << 16).decode()
    assert "Apply this? (yes/no)" in shown
    assert done.returncode == (0 if applied else 1)
    assert ("not applied" in shown) is not applied
    assert bool(demo("list --json").json["environments"]) is applied


def test_nobody_is_asked_without_a_terminal(demo: Cli) -> None:
    done = demo("apply")
    assert done.code == 0
    assert "Apply this?" not in done.err


def test_a_failure_names_its_package_and_its_cause(demo: Cli, demo_channel: object) -> None:
    folder = Path(str(getattr(demo_channel, "folder")))  # noqa: B009
    copy = demo.folder / "channel"
    subprocess.run(["cp", "-r", str(folder), str(copy)], check=True)
    text = (demo.folder / "envgraph.yaml").read_text()
    demo.write("envgraph.yaml", text.replace(folder.as_uri(), copy.as_uri()))
    assert demo("lock").code == 0
    [archive] = copy.glob("*/beta-*.conda")
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    done = demo("apply")
    assert done.code == 1
    assert "FAILED   beta" in done.err
    assert "error: beta 1.0" in done.err
    assert "is not the archive that was locked [wrong-hash]" in " ".join(done.err.split())
    assert demo("list --json").json["environments"] == []
