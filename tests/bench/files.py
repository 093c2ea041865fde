"""Reading what people wrote: a corpus of environment files, and a large lockfile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from envgraph.lock.lockfile import read_lockfile, write_lockfile
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph_store import Digest
from tests.bench.bench import ROOT, Bench, environment
from tests.bench.children import command
from tests.bench.measure import Contender, Table, call, process_alone, race

CORPUS = "ENVGRAPH_CORPUS"
C_LOADER = "PyYAML, C loader"


def run(bench: Bench) -> Iterator[Table]:
    """The corpus, if there is one; then the lock."""
    corpus = os.environ.get(CORPUS)
    if corpus:
        yield _corpus(bench, Path(corpus).resolve())
    else:
        bench.missing.append(f"validate over files from the wild: {CORPUS} is not set")
    yield _lock(bench)


def _corpus(bench: Bench, corpus: Path) -> Table:
    """``validate`` beside a bare parse of the same files, each in a new process."""
    home = bench.folder("corpus")
    (home / "envgraph.yaml").write_text("workspace: bench\nid: be9c0003\n")
    env = environment(home / "store")
    script = Path(sys.executable).with_name("envgraph")
    paths = [p for p in corpus.rglob("*") if p.suffix in (".yml", ".yaml") and p.is_file()]
    size = sum(path.stat().st_size for path in paths)
    validate = [script, "validate", corpus]
    done = subprocess.run(validate, cwd=home, env=env, capture_output=True, text=True, check=False)
    summary = (done.stdout + done.stderr).strip().splitlines()[-1]
    said = re.match(r"([\d,]+) files: ", summary)
    assert said is not None, summary
    judged = int(said[1].replace(",", ""))
    table = Table(
        f"validate, {judged:,} files from the wild",
        f"Public environment files, jobs, deployments and locks. envgraph says: {summary} The "
        f"rival only parses the {len(paths):,} .yml and .yaml files among them ({size / 1e6:.1f} "
        "MB) and makes plain dicts. New processes.",
        f"{C_LOADER}, parse only", memory=True, cpu=True,
    )  # fmt: skip
    parse = command("yaml", corpus)
    contenders = [
        Contender(table.baseline, lambda: process_alone(parse, env=env, cwd=ROOT)),
        Contender(
            "envgraph validate",
            lambda: process_alone(validate, env=env, cwd=home, codes=(0, 1)),
        ),
    ]
    race(table, contenders, 2 if bench.quick else 7)
    counts = (len(paths), judged)
    speeds = (
        f"{c.name}: {n / c.median:,.0f} files/s" for c, n in zip(contenders, counts, strict=True)
    )
    table.about += " " + "; ".join(speeds) + "."
    return table


def _lock(bench: Bench) -> Table:
    """One lockfile by three readers, in this process, all of them loaded."""
    from conda_lock.lockfile import parse_conda_lock_file

    count = 100 if bench.quick else 3_000
    path = bench.folder("lockfile") / "big.conda-lock.yml"
    lock = large_lock(count)
    write_lockfile(path, [lock])
    assert read_lockfile(path).locks[lock.platform] == lock
    assert len(parse_conda_lock_file(path).package) == count
    table = Table(
        f"Reading a lock of {count:,} packages",
        f"{path.stat().st_size / 1e6:.1f} MB, written by envgraph: synthetic packages with five "
        "dependencies each. In one process, without imports. envgraph checks all of it against "
        "its digest and makes its values; PyYAML makes plain dicts.",
        C_LOADER,
    )
    contenders = [
        Contender(C_LOADER, lambda: call(lambda: yaml.load(path.read_bytes(), yaml.CSafeLoader))),
        Contender("envgraph", lambda: call(lambda: read_lockfile(path))),
        Contender("conda-lock", lambda: call(lambda: parse_conda_lock_file(path))),
    ]
    return race(table, contenders, 2 if bench.quick else 7)


def large_lock(count: int) -> LockedEnvironment:
    """A lock of that many made-up packages, each of which needs five others."""
    return LockedEnvironment(
        definition=Digest.of(b"definition"),
        pin_key=Digest.of(b"pin"),
        platform="linux-64",
        base=LockedBase("scratch"),
        packages=tuple(_package(number) for number in range(count)),
        created="2026-01-01T00:00:00Z",
        solver={"conda": "py-rattler"},
    )


def _package(number: int) -> LockedPackage:
    name, version, build = f"package-{number:05}", f"{number % 7}.{number % 13}", "py312h0_0"
    digest = Digest.of(name.encode())
    file_name = f"{name}-{version}-{build}.conda"
    return LockedPackage(
        "conda", name, version, build, "linux-64", digest, "conda-forge", file_name,
        f"https://conda.anaconda.org/conda-forge/linux-64/{file_name}",
        size=10_000 + number,
        md5=digest.hex[:32],
        depends=tuple(f"package-{n:05} >=0.{n % 9}" for n in range(max(0, number - 5), number)),
        license="BSD-3-Clause",
        timestamp_ms=1_700_000_000_000 + number * 1000,
        direct=number % 50 == 0,
    )  # fmt: skip
