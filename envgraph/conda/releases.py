"""What channels say now of packages that were locked before: there, changed, or left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envgraph.conda import credentials, problems
from envgraph.conda.channels import ChannelSource
from envgraph.conda.gateway import open_gateway, run_async, subdirs
from envgraph.errors import EnvgraphError
from envgraph.model.drift import PackageStanding
from envgraph.model.locked import LockedPackage

if TYPE_CHECKING:
    from rattler import Gateway, RepoDataRecord


@dataclass(frozen=True, slots=True)
class ChannelQuestion:
    """Packages that were locked from one channel for one platform."""

    source: ChannelSource
    platform: str
    packages: tuple[LockedPackage, ...]


@dataclass(frozen=True, slots=True)
class ChannelAnswer:
    """The standing of every package asked about; ``error`` says why there is none."""

    question: ChannelQuestion
    standings: Mapping[LockedPackage, PackageStanding]
    error: EnvgraphError | None = None


def ask_channels(questions: Sequence[ChannelQuestion], *, cache: Path) -> tuple[ChannelAnswer, ...]:
    """Ask every channel about its packages, all channels at once, each platform once.

    A channel that does not answer stops no other: its answer carries the error. Only
    the names in question are read, where a channel's index allows it. ``cache`` is a
    folder for repodata (a hint: deleting it costs time only).
    """
    if not questions:
        return ()
    sources = tuple(dict.fromkeys(question.source for question in questions))
    return run_async(_ask_all(questions, open_gateway(sources, cache)))


async def _ask_all(
    questions: Sequence[ChannelQuestion], gateway: Gateway
) -> tuple[ChannelAnswer, ...]:
    asked = [asyncio.ensure_future(_ask(question, gateway)) for question in questions]
    return tuple([await task for task in asked])


async def _ask(question: ChannelQuestion, gateway: Gateway) -> ChannelAnswer:
    import rattler

    try:
        found = await gateway.query(
            [rattler.Channel(question.source.address)],
            subdirs(question.platform),
            [rattler.MatchSpec(name) for name in sorted({p.name for p in question.packages})],
            recursive=False,
            channel_relations="disabled",
        )
    except BaseException as error:  # a panic of rattler is no Exception
        if not problems.is_foreign(error) and type(error).__name__ != "PanicException":
            raise
        return ChannelAnswer(question, {}, problems.channel_error(error, [question.source]))
    by_name: dict[str, list[RepoDataRecord]] = {}
    for record in (record for records in found for record in records):
        by_name.setdefault(record.name.normalized, []).append(record)
    return ChannelAnswer(
        question, {p: _standing(p, by_name.get(p.name, [])) for p in question.packages}
    )


def _standing(package: LockedPackage, records: Sequence[RepoDataRecord]) -> PackageStanding:
    from rattler.version import Version

    locked = Version(package.version)
    newer: dict[Any, str] = {}
    builds = set()
    same: RepoDataRecord | None = None
    for record in records:
        version = record.version
        if record.subdir == package.subdir and _stem(record.file_name) == _stem(package.file_name):
            same = record
        if version > locked:
            newer.setdefault(version, str(version))
        elif version == locked and record.build_number > package.build_number:
            builds.add(record.build_number)
    versions = tuple(newer[version] for version in sorted(newer))
    if same is None:
        return PackageStanding("gone", versions, len(builds))
    if same.file_name != package.file_name:
        # Where a channel has both formats rattler tells of one: nothing is known of ours.
        return PackageStanding("same", versions, len(builds))
    digest = same.sha256.hex() if same.sha256 else ""
    if not _is_same(package, same):
        return PackageStanding("changed", versions, len(builds), digest)
    before = _requirements(package.depends, package.constrains)
    after = _requirements(same.depends, same.constrains)
    return PackageStanding(
        "same",
        versions,
        len(builds),
        digest,
        tuple(sorted(before - after)),
        tuple(sorted(after - before)),
    )


def _stem(file_name: str) -> str:
    return file_name.removesuffix(".conda").removesuffix(".tar.bz2")


def _is_same(package: LockedPackage, record: RepoDataRecord) -> bool:
    """By sha256; by md5 where the channel has no other; a channel without either is believed."""
    if record.sha256:
        return record.sha256.hex() == package.sha256.hex
    if record.md5 and package.md5:
        return record.md5.hex() == package.md5
    return True


def _requirements(depends: Iterable[str], constrains: Iterable[str]) -> set[str]:
    return {" ".join(text.split()) for text in depends} | {
        "not without " + " ".join(text.split()) for text in constrains
    }


def recorded_source(package: LockedPackage) -> ChannelSource | None:
    """The channel behind a locked address; None where the lock names none.

    For channels that only their conda file can locate (a relative folder), when
    that file is not at hand.
    """
    tail = f"/{package.subdir}/{package.file_name}"
    if not package.url.endswith(tail) or credentials.has_reference(package.url):
        return None
    address = package.url.removesuffix(tail)
    return ChannelSource(package.channel, address, address, address)
