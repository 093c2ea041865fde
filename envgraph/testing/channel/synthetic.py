"""A channel of records without archives: as large as conda-forge, for solving only."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from envgraph.testing.channel.archive import EPOCH_MS
from envgraph.testing.channel.indexing import Record, write_repodata

_VERSIONS = 20
_CORE = 200


@dataclass(frozen=True, slots=True)
class SyntheticChannel:
    """The folder, how many records it has, and names that depend on much."""

    folder: Path
    records: int
    leaves: tuple[str, ...]

    def specs(self, count: int) -> list[str]:
        """That many names to solve for, spread over the channel: always the same."""
        step = max(1, len(self.leaves) // count)
        return list(self.leaves[::step][:count])


def synthetic_repodata(
    folder: Path, n_records: int = 600_000, *, seed: int = 1, shards: bool = True
) -> SyntheticChannel:
    """Write the index of ``n_records`` packages, 20 versions of each name.

    Names come in three ranks: 200 at the core, a tenth in the middle, leaves. A
    record needs a few of the ranks below it. Lower bounds stay in the older half of
    the versions and upper bounds exclude the newest at most, so that every request
    has an answer and the newest of everything is not always it. One half of the
    names is noarch. Equal arguments give equal bytes.
    """
    chance = random.Random(seed)  # noqa: S311 - a reproducible shape, no secret
    count = max(_CORE * 2, n_records // _VERSIONS)
    middle = _CORE + count // 10
    subdirs: dict[str, dict[str, Record]] = {"linux-64": {}, "noarch": {}}
    left = n_records
    for number in range(count):
        versions = min(_VERSIONS, left)
        left -= versions
        below = _needs(number, middle, chance)
        subdir = "noarch" if number % 2 else "linux-64"
        for version in range(versions):
            record = _record(number, version, subdir, below, chance)
            name = f"{record['name']}-{record['version']}-{record['build']}.conda"
            subdirs[subdir][name] = record
    for subdir, records in subdirs.items():
        write_repodata(folder / subdir, records, shards=shards)
    leaves = tuple(_name(number) for number in range(middle, count))
    return SyntheticChannel(folder, sum(len(r) for r in subdirs.values()), leaves)


def _name(number: int) -> str:
    return f"synthetic-{number:05d}"


def _needs(number: int, middle: int, chance: random.Random) -> list[int]:
    """Which names a name needs: always lower numbers, so there is no cycle."""
    if number < _CORE:
        return sorted(chance.sample(range(number), min(number, chance.randrange(3))))
    below = set(chance.sample(range(_CORE // 4), 2))
    if number >= middle:
        below |= set(chance.sample(range(_CORE, middle), min(2, middle - _CORE)))
    return sorted(below)


def _record(
    number: int, version: int, subdir: str, below: list[int], chance: random.Random
) -> Record:
    depends = []
    for other in below:
        spec = f"{_name(other)} >=1.{chance.randrange(_VERSIONS // 2)}"
        if chance.random() < 0.1:
            spec += f",<1.{_VERSIONS - 1}"
        depends.append(spec)
    build = f"h{number:05x}{version:02x}_0"
    digest = hashlib.sha256(f"{number} {version}".encode()).hexdigest()
    record: Record = {
        "build": build,
        "build_number": 0,
        "depends": depends,
        "license": "BSD-3-Clause",
        "md5": digest[:32],
        "name": _name(number),
        "sha256": digest,
        "size": 10_000 + number,
        "subdir": subdir,
        "timestamp": EPOCH_MS + version * 86_400_000,
        "version": f"1.{version}",
    }
    if subdir == "noarch":
        record["noarch"] = "generic"
    return record
