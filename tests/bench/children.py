"""What the benchmarks run in a process of its own: ``python -m tests.bench.children WORK …``.

Each leaves by ``os._exit``: rattler's background threads can crash an interpreter that
is about to end, and a benchmark must not measure that.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def solve(channel: str, cache: str, *specs: str) -> None:
    """The bare call: rattler's solver, strict priority, the default virtual packages."""
    import rattler

    virtual = [
        rattler.GenericVirtualPackage(
            rattler.PackageName(name), rattler.Version(version), rattler.BuildString("0")
        )
        for name, version in (("__unix", "0"), ("__linux", "0"), ("__glibc", "2.28"))
    ]

    async def work() -> int:
        gateway = rattler.Gateway(cache_dir=Path(cache))
        records = await rattler.solve(
            [rattler.Channel(channel)],
            [rattler.MatchSpec(spec, strict=False) for spec in specs],
            gateway=gateway,
            platforms=["linux-64", "noarch"],
            virtual_packages=virtual,
            channel_priority=rattler.ChannelPriority.Strict,
        )
        return len(records)

    assert asyncio.run(work()) >= len(specs)


def lock(environment: str, store: str, cache: str) -> None:
    """The library call: one environment file to its lock, nothing written but repodata."""
    from datetime import UTC, datetime

    from envgraph.lock.keep import StoredPackages
    from envgraph.lock.resolve import lock_environment
    from envgraph.model.identity import definition_digest
    from envgraph.model.locked import LockedBase
    from envgraph.spec import load_environment, load_workspace
    from envgraph_store import Store

    config, _ = load_workspace(Path(environment).parent)
    assert config is not None
    spec = load_environment(Path(environment), config).spec
    assert spec is not None
    with Store.open(Path(store)) as opened:
        outcome = lock_environment(
            spec, "linux-64", config,
            base=LockedBase("scratch"), definition=definition_digest(spec),
            packages=StoredPackages(opened), now=datetime.now(UTC), offline=False,
            cache=Path(cache),
        )  # fmt: skip
    assert outcome.lock.packages


def ingest(store: str, folder: str) -> None:
    """Every file of ``folder`` as a blob, durable when this returns."""
    from envgraph_store import Digest, Store

    paths = sorted(Path(folder).iterdir())
    with Store.open(Path(store)) as opened:
        wanted = {Digest.from_hex(path.name): path for path in paths}
        missing = opened.blobs.missing(wanted)
        before = opened.refs.get("bench")
        expected = None if before is None else before.generation
        with opened.transaction() as transaction:
            for digest in sorted(missing):
                transaction.add_file(wanted[digest], expect=digest)
            transaction.set_ref("bench", {"blobs": [str(d) for d in sorted(wanted)]}, expected)
            transaction.commit()


def hash_files(folder: str) -> None:
    """sha256 of every file, by the same library and nothing else."""
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    for path in sorted(Path(folder).iterdir()):
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                digest.update(view[:count])
        assert digest.hexdigest() == path.name


def parse_yaml(folder: str) -> None:
    """Every .yml and .yaml file below ``folder`` by PyYAML's C loader, and nothing more."""
    import yaml

    class Loader(yaml.CSafeLoader):
        """Tags of others are of no matter here."""

    Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)
    paths = [p for p in Path(folder).rglob("*") if p.suffix in (".yml", ".yaml") and p.is_file()]
    assert paths
    for path in paths:
        try:
            for _ in yaml.load_all(path.read_bytes(), Loader):
                pass
        except (yaml.YAMLError, ValueError):
            continue  # files of the wild; a file that is no YAML is read up to there


WORK: dict[str, Callable[..., None]] = {
    "solve": solve,
    "lock": lock,
    "ingest": ingest,
    "hash": hash_files,
    "yaml": parse_yaml,
}


def command(work: str, *arguments: str | Path) -> Sequence[str]:
    """The command line that does ``work``."""
    return [sys.executable, "-m", "tests.bench.children", work, *map(str, arguments)]


if __name__ == "__main__":
    WORK[sys.argv[1]](*sys.argv[2:])
    os._exit(0)
