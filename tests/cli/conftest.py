"""A command line of its own: own home, own store, 80 columns, and transcripts with filters."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.services import Channel

FILTERS = [
    (r"\b20\d\d-\d\d-\d\d \d\d:\d\d UTC", "[TIME]"),
    (r"\b20\d\d-\d\d-\d\d\b", "[DAY]"),
    (r"\b\d+ days\b", "[N] days"),
    (r"\bin \d+(\.\d+)? s\.", "in [SECONDS]."),
    (r"\b(sha256:|sha256=)?[0-9a-f]{64}\b", r"\1[SHA256]"),
    (r"\benvgraph_[0-9a-f]{32}\b", "envgraph_[HEX]"),
    (r"\b[0-9a-f]{12}\b", "[HEX]"),
    (r"#[0-9a-f]{32}\b", "#[MD5]"),
    (r" +\d+(\.\d)? (k|M|G)?B\b", " [SIZE]"),
    (r"\bid: \"[0-9a-f]{8}\"", 'id: "[ID]"'),
    (r"\b\d+ (objects?|needed|too young)\b", r"[N] \1"),
    (r"\bcrash-\S+\.log", "[LOG]"),
]
"""What differs from run to run or with a compressor's version; nothing else is hidden."""


@dataclass(frozen=True)
class Done:
    """What a command printed, and how it ended."""

    line: str
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)

    @property
    def problem(self) -> Any:
        """The last object on stderr: an error."""
        return json.loads(self.err.splitlines()[-1])

    @property
    def problem_code(self) -> str:
        """The code of the first problem that was printed for people."""
        return self.err.partition("[")[2].partition("]")[0]

    def __str__(self) -> str:
        parts = [f"$ {self.line}\n{self.out}"]
        if self.err:
            parts.append("--- stderr\n" + self.err)
        if self.code:
            parts.append(f"=> {self.code}\n")
        return "".join(parts)


@dataclass
class Cli:
    """Runs envgraph in a folder of its own and keeps the transcript."""

    folder: Path
    environment: dict[str, str]
    places: dict[str, str]
    transcript: list[str] = field(default_factory=list)

    def __call__(self, line: str, *, cwd: Path | None = None, **extra: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "envgraph", *line.split()],
            cwd=cwd or self.folder,
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        result = Done(f"envgraph {line}", done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        self.transcript.append(self.filtered(str(result)))
        return result

    def filtered(self, text: str) -> str:
        """``text`` without what differs from run to run; events of threads in one order."""
        for place, name in self.places.items():
            text = text.replace(place, name)
        for pattern, name in FILTERS:
            text = re.sub(pattern, name, text)
        return _sorted_events(text)

    def write(self, name: str, text: str) -> None:
        """A file of the workspace."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def story(self) -> str:
        """Everything so far, as one text."""
        return "\n".join(self.transcript)


def _sorted_events(text: str) -> str:
    lines: list[str] = []
    events: list[str] = []
    for line in text.splitlines(keepends=True):
        if re.match(r"(fetched|built|pulled|pushed|made) ", line):
            events.append(line)
            continue
        lines += sorted(events)
        events = []
        lines.append(line)
    return "".join(lines + sorted(events))


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A folder without a workspace, of a path that is longer than a line on any machine."""
    folder = tmp_path / "a-long-name-for-a-folder-that-has-to-be-wider-than-any-line-of-text-is-80"
    folder.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": os.environ.get("PATH", os.defpath),
        "COLUMNS": "80",
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "ENVGRAPH_STORE": str(tmp_path / "store"),
        "SHELL": "/bin/sh",
    }
    return Cli(folder, environment, {str(folder): "[WORK]", str(tmp_path): "[TMP]"})


WORKSPACE = """\
workspace: demo
id: "12345678"
channels: {{conda-forge: "{url}"}}
image: {{bytecode: none}}
"""
TRAIN = """\
name: train
description: For the transcript
tags: {team: fraud}
image: scratch
conda_file:
  channels: [conda-forge]
  dependencies:
    - beta
    - settings
environment_variables:
  MODE: fast
"""


@pytest.fixture
def demo(cli: Cli, demo_channel: Channel) -> Cli:
    """A workspace with one environment on the small channel."""
    cli.places[str(demo_channel.folder)] = "[CHANNEL]"
    cli.write("envgraph.yaml", WORKSPACE.format(url=demo_channel.url))
    cli.write("environments/train.yml", TRAIN)
    return cli
