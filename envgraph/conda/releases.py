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
from envgraph.conda.records import package_record
from envgraph.errors import EnvgraphError
from envgraph.model.drift import PackageStanding
from envgraph.model.locked import LockedPackage

if TYPE_CHECKING:
    from rattler import Gateway, MatchSpec, PackageRecord, RepoDataRecord


@dataclass(frozen=True, slots=True)
class Wanted:
    """A locked package, with what its environment asks of whatever takes its place.

    ``requirements`` are match specs on its name: the file's, and those of the other
    locked packages. ``python`` are the locked ``python`` and ``python_abi``, which stay.
    """

    package: LockedPackage
    requirements: frozenset[str] = frozenset()
    python: tuple[LockedPackage, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelQuestion:
    """Packages that were locked from one channel for one platform."""

    source: ChannelSource
    platform: str
    packages: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class ChannelAnswer:
    """The standing of every package asked about; ``error`` says why there is none."""

    question: ChannelQuestion
    standings: Mapping[Wanted, PackageStanding]
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
            [
                rattler.MatchSpec(name)
                for name in sorted({w.package.name for w in question.packages})
            ],
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
    fit = _Fit()
    return ChannelAnswer(
        question,
        {w: _standing(w, by_name.get(w.package.name, []), fit) for w in question.packages},
    )


def _standing(wanted: Wanted, records: Sequence[RepoDataRecord], fit: _Fit) -> PackageStanding:
    package = wanted.package
    versions, builds, held = _newer(wanted, records, fit)
    same = next(
        (
            record
            for record in records
            if record.subdir == package.subdir
            and _stem(record.file_name) == _stem(package.file_name)
        ),
        None,
    )
    if same is None:
        return PackageStanding("gone", versions, builds, held)
    if same.file_name != package.file_name:
        # Where a channel has both formats rattler tells of one: nothing is known of ours.
        return PackageStanding("same", versions, builds, held)
    digest = same.sha256.hex() if same.sha256 else ""
    if not _is_same(package, same):
        return PackageStanding("changed", versions, builds, held, digest)
    before = _requirements(package.depends, package.constrains)
    after = _requirements(same.depends, same.constrains)
    return PackageStanding(
        "same",
        versions,
        builds,
        held,
        digest,
        tuple(sorted(before - after)),
        tuple(sorted(after - before)),
    )


def _newer(
    wanted: Wanted, records: Sequence[RepoDataRecord], fit: _Fit
) -> tuple[tuple[str, ...], int, int]:
    """Newer versions that fit, the number of newer builds, and of versions that do not fit."""
    from rattler.version import Version

    locked = Version(wanted.package.version)
    newer: dict[Any, str] = {}
    beyond = set()
    builds = set()
    for record in records:
        version = record.version
        later = version == locked and record.build_number > wanted.package.build_number
        if not (version > locked or later):
            continue
        if not fit(wanted, record):
            beyond.add(version)
        elif later:
            builds.add(record.build_number)
        else:
            newer.setdefault(version, str(version))
    held = {version for version in beyond if version not in newer and version != locked}
    return tuple(newer[version] for version in sorted(newer)), len(builds), len(held)


class _Fit:
    """Whether a record could take a locked package's place; remembers what it parsed."""

    def __init__(self) -> None:
        self._specs: dict[str, MatchSpec | None] = {}

    def __call__(self, wanted: Wanted, record: RepoDataRecord) -> bool:
        if not all(self._matches(text, record) for text in wanted.requirements):
            return False
        for python in wanted.python:
            for text in record.depends:
                named = text.partition(" ")[0] == python.name
                if named and not self._matches(text, package_record(python)):
                    return False
        return True

    def _matches(self, text: str, record: PackageRecord) -> bool:
        if text not in self._specs:
            self._specs[text] = _match_spec(text)
        spec = self._specs[text]
        return spec is None or spec.matches(record)


def _match_spec(text: str) -> MatchSpec | None:
    """The requirement; None for one that rattler does not read: it excludes nothing."""
    import rattler

    try:
        return rattler.MatchSpec(text, strict=False)
    except Exception:
        return None


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
