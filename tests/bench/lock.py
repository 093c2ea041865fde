"""20 specs on a channel as large as conda-forge, beside the bare call of the solver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from envgraph.testing.channel import SyntheticChannel, synthetic_repodata
from envgraph.testing.http import ChannelServer, Fault
from tests.bench.bench import ROOT, Bench, envgraph, environment, remove
from tests.bench.children import command
from tests.bench.measure import Contender, Sample, Table, process, race

BARE = "rattler's solve()"
SPECS = 20


def run(bench: Bench) -> Iterator[Table]:
    """One table with shards, one with whole repodata; both over loopback http, warm caches."""
    count = 20_000 if bench.quick else 600_000
    channel = _channel(bench.cache, count)
    for sharded in (True, False):
        with ChannelServer(channel.folder) as server:
            if not sharded:
                for subdir in ("linux-64", "noarch"):
                    server.fault(f"/{subdir}/repodata_shards.msgpack.zst", Fault(status=404))
            yield _table(bench, channel, server.origin, sharded=sharded)


def _channel(cache: Path, count: int) -> SyntheticChannel:
    folder = cache / f"synthetic-{count}"
    done = folder / "leaves"
    if not done.exists():
        made = synthetic_repodata(folder, count)
        done.write_text("\n".join(made.leaves))
    return SyntheticChannel(folder, count, tuple(done.read_text().split("\n")))


def _table(bench: Bench, channel: SyntheticChannel, origin: str, *, sharded: bool) -> Table:
    home = bench.folder(f"lock-{'shards' if sharded else 'whole'}")
    specs = channel.specs(SPECS)
    workspace, store, cache = home / "workspace", home / "store", home / "cache"
    workspace.mkdir()
    (workspace / "envgraph.yaml").write_text("workspace: bench\nid: be9c0003\n")
    lines = "".join(f"    - {spec}\n" for spec in specs)
    file = workspace / "environment.yml"
    file.write_text(
        f"name: twenty\nimage: scratch\nconda_file:\n  channels: ['{origin}']\n"
        f"  dependencies:\n{lines}"
    )
    env = environment(store)

    def again() -> None:
        for path in (store, workspace / "locks"):
            if path.exists():
                remove(path)

    def child(work: str, *words: str | Path) -> Sample:
        return process(command(work, *words), env=env, cwd=ROOT)

    contenders = [
        Contender(BARE, lambda: child("solve", origin, str(cache / "bare"), *specs)),
        Contender(
            "envgraph's lock_environment()",
            lambda: child("lock", file, store, cache / "ours"),
            again,
        ),
        Contender(
            "envgraph lock", lambda: envgraph("lock", file, store=store, cwd=workspace), again
        ),
    ]
    for contender in contenders:  # the first run fills each one's own cache
        contender.prepare()
        contender.run()
    kind = "sharded repodata" if sharded else "repodata.json.zst"
    about = (
        f"{SPECS} specs, {channel.records:,} records, {kind} over loopback http, repodata cached "
        "by a run before. Each line is a new process. `envgraph lock` also writes the lockfile "
        "with conda-lock's models, whose import alone takes about a second."
    )
    table = Table(f"Lock, {kind}", about, BARE, memory=True)
    return race(table, contenders, 1 if bench.quick else 7)
