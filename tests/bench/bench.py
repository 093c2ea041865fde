"""What every group needs: folders, sizes, envgraph as a process, and rivals that are here."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.measure import Sample, process, process_alone

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, where ``python -m tests.bench…`` works."""


@dataclass(slots=True)
class Bench:
    """One run of the benchmark.

    ``cache`` outlives the run (channels that take long to make), ``work`` does not.
    ``missing`` collects what could not be measured here, with the reason.
    """

    cache: Path
    work: Path
    quick: bool
    rounds: int
    missing: list[str] = field(default_factory=list)
    made: dict[str, object] = field(default_factory=dict)
    """What several groups need and one of them made."""

    def find(self, tool: str, what: str) -> str | None:
        """The rival's path; without it the table goes on, and the report says so."""
        path = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if path is None:
            self.missing.append(f"{what}: {tool} is not installed")
        return path

    def folder(self, name: str) -> Path:
        """A new, empty folder of this run."""
        path = self.work / name
        if path.exists():
            remove(path)
        path.mkdir(parents=True)
        return path


def environment(store: Path) -> dict[str, str]:
    """An environment with nothing of the user's but PATH; caches lie beside the store."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(store.parent / "home"),
        "XDG_CACHE_HOME": str(store.parent / "xdg-cache"),
        "ENVGRAPH_STORE": str(store),
        "LC_ALL": "C.UTF-8",
    }


def envgraph(*words: str | Path, store: Path, cwd: Path, alone: bool = False) -> Sample:
    """One run of the installed command, measured; ``alone``: with a peak of its own."""
    script = Path(sys.executable).with_name("envgraph")
    run = process_alone if alone else process
    return run([script, *words], env=environment(store), cwd=cwd)


def remove(path: Path) -> None:
    """Remove a tree, read-only folders included."""

    def writable(function: object, name: str, _error: object) -> None:
        Path(name).parent.chmod(0o700)
        if not Path(name).is_symlink():
            Path(name).chmod(0o700)
        if callable(function):
            function(name)

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=writable)
    else:
        shutil.rmtree(path, onerror=writable)
