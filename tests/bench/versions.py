"""``list``, ``show``, ``diff`` and ``history`` of many environments with ten versions each."""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from envgraph.apply.publish import Naming, mark_applied, utc
from envgraph.history.append import Appender
from envgraph.history.read import environment_names, latest, whole_record
from envgraph.model.records import VersionRecord
from envgraph.testing.base import make_base
from envgraph_store import Store
from tests.bench.bench import Bench, envgraph, environment
from tests.bench.measure import Contender, Table, process, process_alone, race
from tests.bench.plan import SHAPES, make_workspace
from tests.faults.store.tools import Unsynced
from tests.services import make_demo_channel

VERSIONS = 10
ID = "be9c0001"
BATCH = 250
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
QUESTIONS = (
    ("list",),
    ("list", "--json"),
    ("show", "NAME"),
    ("diff", "NAME:1", "NAME"),
    ("history", "NAME"),
)
OPENED = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(\d+\s+)?open(?:at)?$", re.MULTILINE)


def run(bench: Bench) -> Iterator[Table]:
    """One table: every question in a process of its own."""
    count = 200 if bench.quick else 10_000
    home = bench.folder("versions")
    workspace, store = home / "workspace", home / "store"
    channel = make_demo_channel(home / "channel")
    base = make_base(home / "base")
    make_workspace(workspace, len(SHAPES), channel.url, base.reference)
    envgraph("apply", "--auto-approve", store=store, cwd=workspace)
    started = time.perf_counter()
    names = register(store, count)
    seconds = time.perf_counter() - started
    about = (
        f"{count * VERSIONS:,} versions in one workspace. {len(SHAPES)} environments were locked, "
        "built and registered by `envgraph apply`; the rest are records of the same locks and "
        f"images, written by the code that apply uses ({seconds:.0f} s, without waiting for the "
        "disk). Version 1 and the latest have different packages. Each line is a new process, "
        "its files in the page cache. Files opened: by strace, in a run of its own."
    )
    table = Table(
        f"Versions: {count:,} environments with {VERSIONS} versions each", about,
        "python -c pass", memory=True, cpu=True,
    )  # fmt: skip
    strace = bench.find("strace", "versions: files opened")
    name = names[len(names) // 2]
    python = [sys.executable, "-c", "pass"]
    env = environment(store)
    contenders = [
        Contender("python -c pass", lambda: process_alone(python, env=env),
                  note=_opened(strace, python, store, workspace)),
    ]  # fmt: skip
    script = Path(sys.executable).with_name("envgraph")
    for question in QUESTIONS:
        words = [word.replace("NAME", name) for word in question]
        ask = functools.partial(envgraph, *words, store=store, cwd=workspace, alone=True)
        note = _opened(strace, [script, *words], store, workspace)
        contenders.append(Contender("envgraph " + " ".join(question), ask, note=note))
    yield race(table, contenders, 2 if bench.quick else 7)


def register(path: Path, count: int) -> list[str]:
    """Give the store ``count`` environments of ten versions; the names, sorted.

    Versions come one after the other, as in years of work: each is a generation of its refs.
    """
    names = [f"many{number:05}" for number in range(count)]
    with Store.open(path, disk=Unsynced()) as store:
        known = [_known(store, name) for name in environment_names(store, ID)]
        naming = Naming(store, ID, "bench")
        for version in range(1, VERSIONS + 1):
            now = BEGIN + timedelta(days=version)
            for begin in range(0, count, BATCH):
                with store.transaction() as batch:
                    for number in range(begin, min(begin + BATCH, count)):
                        appender = Appender(store, ID, names[number])
                        record = appender.add_version(
                            batch,
                            replace(
                                known[(number + version) % len(known)],
                                environment=names[number],
                                version=str(version),
                                time=utc(now),
                                changed=("definition", "lock", "image"),
                                description=f"number {number}",
                            ),
                        )
                        appender.finish(batch)
                        naming.name(batch, record, store.blobs.size(record.image))
                    mark_applied(batch, store, ID, now)
                    batch.commit()
        store.rewrite_index()
    return names


def _known(store: Store, name: str) -> VersionRecord:
    found = latest(store, ID, name)
    assert found is not None
    return whole_record(store, found)


def _opened(strace: str | None, words: Sequence[str | Path], store: Path, workspace: Path) -> str:
    """How many files and folders the command opens, those of Python's start included."""
    if strace is None:
        return ""
    log = store.parent / "strace"
    command = [strace, "-f", "-c", "-o", log, "-e", "trace=open,openat", *words]
    process(command, env=environment(store), cwd=workspace)
    calls = failed = 0
    for found in OPENED.finditer(log.read_text()):
        calls += int(found[1])
        failed += int(found[2] or 0)
    assert calls, log.read_text()
    return f"{calls - failed:,} files opened"
