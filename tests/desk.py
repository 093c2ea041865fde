"""A user's desk for tests: a workspace folder, a store, and the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENVIRONMENT = """\
name: {name}
channels: [demo]
dependencies:
{dependencies}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; of a streaming verb, the last line's."""
        document: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return document

    def errors(self) -> list[str]:
        """The codes of the errors that were written to stderr as JSON."""
        found: list[str] = []
        for line in self.err.splitlines():
            document = json.loads(line)
            found += [d["code"] for d in document.get("diagnostics", ())]
        return found


@dataclass(slots=True)
class Desk:
    """One user: a folder to work in, a store and a home, none of them this machine's."""

    root: Path
    channel: str
    store: Path = field(init=False)
    folder: Path = field(init=False)
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = self.root / "store"
        self.folder = self.root / "work"
        (self.root / "home").mkdir(parents=True)
        (self.folder / "environments").mkdir(parents=True)
        self.settings()

    def settings(self, **more: object) -> None:
        """Write envgraph.yaml; JSON is YAML."""
        document = {
            "workspace": "desk",
            "id": "d35c0001",
            "channels": {"demo": self.channel},
            "image": {"bytecode": "none"},
        } | more
        (self.folder / "envgraph.yaml").write_text(json.dumps(document))

    def environment(self, name: str, *dependencies: str, more: str = "") -> Path:
        """Write environments/NAME.yml."""
        lines = "\n".join(f"  - {item}" for item in dependencies)
        path = self.folder / "environments" / f"{name}.yml"
        path.write_text(ENVIRONMENT.format(name=name, dependencies=lines) + more)
        return path

    def environ(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        """A plain environment with the desk's own home."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "home"),
            "ENVGRAPH_STORE": str(self.store),
            **self.variables,
            **more,
        }

    def command(self, *words: str) -> list[str]:
        """The command line as a list, for tests that start it themselves."""
        return [sys.executable, "-m", "envgraph", *words]

    def run(self, *words: str, environ: Mapping[str, str] = {}, umask: int = -1) -> Answer:
        """Run one command to its end."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environ(environ),
            capture_output=True,
            text=True,
            umask=umask,
            timeout=300,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, environ: Mapping[str, str] = {}, umask: int = -1) -> Answer:
        """Run one command that must succeed."""
        answer = self.run(*words, environ=environ, umask=umask)
        assert answer.code == 0, f"{words}: exit {answer.code}\n{answer.out}\n{answer.err}"
        return answer

    def plan(self, *words: str) -> dict[str, Any]:
        """``plan --json``."""
        return self.ok("plan", "--json", *words).json

    def apply(self, *words: str) -> dict[str, Any]:
        """``apply --json --auto-approve``: the result line."""
        return self.ok("apply", "--json", "--auto-approve", *words).json

    def lockfile(self, name: str) -> Path:
        """The committed lockfile of an environment."""
        return self.folder / "locks" / f"{name}.conda-lock.yml"

    def blobs(self) -> set[str]:
        """The names of all blobs in the store."""
        return {path.name for path in (self.store / "blobs" / "sha256").iterdir()}


def built(plan: Mapping[str, Any]) -> list[str]:
    """The names of the layers that a plan builds."""
    return sorted(
        s["name"] for s in plan["steps"] if s["action"] == "build" and s["kind"] != "image"
    )
