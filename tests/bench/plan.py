"""``plan`` with nothing to do, for 1 to 10,000 environments."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from envgraph.testing.base import make_base
from tests.bench.bench import Bench, envgraph
from tests.bench.measure import Contender, Sample, Table, process, race
from tests.services import make_demo_channel

ABOUT = (
    "A new process each time. Every environment has a file of its own (Azure ML YAML with an "
    "inline conda file), locked, built and registered before. terraform: as many "
    "`terraform_data` resources, already applied, `-refresh=false` not given."
)
SHAPES = ("alpha", "beta", "tool", "settings", "gamma", "alpha=1.0", "alpha=1.1", "python")


def run(bench: Bench) -> Iterator[Table]:
    """One table for each number of environments."""
    sizes = (1, 20) if bench.quick else (1, 100, 1_000, 10_000)
    folder = bench.folder("plan-channel")
    channel = make_demo_channel(folder / "channel")
    base = make_base(folder / "base")
    for count in sizes:
        yield _table(bench, count, channel.url, base.reference)


def _table(bench: Bench, count: int, channel: str, base: str) -> Table:
    home = bench.folder(f"plan-{count}")
    workspace, store = home / "workspace", home / "store"
    make_workspace(workspace, count, channel, base)
    envgraph("apply", "--auto-approve", store=store, cwd=workspace)
    _settle(store, workspace)
    contenders = [
        Contender("python -c pass", lambda: process([sys.executable, "-c", "pass"])),
        Contender("envgraph plan", lambda: envgraph("plan", store=store, cwd=workspace)),
        Contender(
            "envgraph plan, no memo",
            lambda: envgraph("plan", "--no-memo", store=store, cwd=workspace),
        ),
    ]
    if count > 1_000:
        bench.missing.append(f"terraform plan with {count} resources: its apply takes too long")
    elif terraform := bench.find("terraform", "terraform plan"):
        folder = bench.folder(f"terraform-{count}")
        contenders.append(Contender("terraform plan", _terraform(terraform, folder, count)))
    rounds = 2 if bench.quick else (21 if count <= 100 else 9 if count <= 1_000 else 3)
    title = f"plan with nothing to do, {count:,} environment{'s' if count > 1 else ''}"
    return race(Table(title, ABOUT, "python -c pass"), contenders, rounds)


def make_workspace(folder: Path, count: int, channel: str, base: str) -> None:
    """Write ``count`` environment files over a handful of different definitions."""
    (folder / "environments").mkdir(parents=True)
    (folder / "envgraph.yaml").write_text(
        "workspace: bench\nid: be9c0001\nimage: {bytecode: none}\n"
    )
    for number in range(count):
        shape = SHAPES[number % len(SHAPES)]
        (folder / "environments" / f"e{number:05}.yml").write_text(
            f"name: e{number:05}\nimage: {base}\ndescription: number {number}\n"
            f"conda_file:\n  channels: [{channel!r}]\n  dependencies: [{shape}]\n"
        )


def _settle(store: Path, workspace: Path) -> None:
    """Plan until the snapshot is old enough to be trusted: two seconds after the last change."""
    time.sleep(2.5)
    for _ in range(2):
        envgraph("plan", store=store, cwd=workspace)


def _terraform(terraform: str, folder: Path, count: int) -> Callable[[], Sample]:
    (folder / "main.tf").write_text(
        "".join(
            f'resource "terraform_data" "e{number}" {{\n  input = "number {number}"\n}}\n'
            for number in range(count)
        )
    )
    for words in (["init"], ["apply", "-auto-approve"]):
        process([terraform, *words, "-input=false"], cwd=folder)

    def plan() -> Sample:
        return process([terraform, "plan", "-input=false"], cwd=folder)

    return plan
