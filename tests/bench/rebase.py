"""``rebase --all``: every environment of a workspace onto a patched base, in one command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.bench import Bench, envgraph
from tests.bench.measure import Contender, Sample, Table, process, race
from tests.bench.plan import make_workspace
from tests.moving import put_base
from tests.services import make_demo_channel

ABOUT = (
    "A new process each time, after the base on disk got another patch: a new lock, lockfile, "
    "manifest, config and version for each environment, written durably; no solve, no layer. "
    "`apply` is what the first version of all of them took, with every layer built."
)


def run(bench: Bench) -> Iterator[Table]:
    """One table for each number of environments."""
    channel = make_demo_channel(bench.folder("rebase-channel") / "channel")
    for count in (20,) if bench.quick else (100, 1_000):
        yield _table(bench, count, channel.url)


def _table(bench: Bench, count: int, channel: str) -> Table:
    home = bench.folder(f"rebase-{count}")
    workspace, store, base = home / "workspace", home / "store", home / "base"
    put_base(base)
    make_workspace(workspace, count, channel, f"oci:{base}:small")
    contenders = [
        Contender("python -c pass", lambda: process([sys.executable, "-c", "pass"])),
        Contender("envgraph apply, first", _First(store, workspace)),
        Contender("envgraph rebase --all", _Rebase(store, workspace, base)),
    ]
    title = f"rebase of {count:,} environments"
    return race(Table(title, ABOUT, "python -c pass"), contenders, 2 if bench.quick else 3)


class _First:
    """Applies into an empty store the first time, and says so again afterwards."""

    def __init__(self, store: Path, workspace: Path) -> None:
        self._store, self._workspace = store, workspace
        self._sample: Sample | None = None

    def __call__(self) -> Sample:
        if self._sample is None:
            self._sample = envgraph(
                "apply", "--auto-approve", store=self._store, cwd=self._workspace
            )
        return self._sample


class _Rebase:
    """Patches the base, then rebases everything onto it."""

    def __init__(self, store: Path, workspace: Path, base: Path) -> None:
        self._store, self._workspace, self._base = store, workspace, base
        self._patches = 0

    def __call__(self) -> Sample:
        self._patches += 1
        put_base(self._base, f"patch{self._patches}")
        words = ("rebase", "--all", "--auto-approve")
        return envgraph(*words, store=self._store, cwd=self._workspace)
