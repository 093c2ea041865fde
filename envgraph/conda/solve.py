"""Conda requests → candidates, by rattler's solver in this process.

What a solve answers depends on the request alone: virtual packages are those
given (rattler implies none, and ``CONDA_OVERRIDE_*`` is not read), channel
priority is strict as conda means it, and the machine's own CPU, libc and
drivers are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from envgraph.conda import problems
from envgraph.conda.channels import ChannelSource, require_offline
from envgraph.conda.gateway import Gateways, run_async, subdirs, virtual_packages
from envgraph.conda.records import Candidate, candidate_of, repodata_record
from envgraph.conda.request import SolveRequest
from envgraph.conda.specs import ParsedSpec
from envgraph.errors import Diagnostic
from envgraph.model.locked import LockedPackage

if TYPE_CHECKING:
    from rattler import Gateway


@dataclass(frozen=True, slots=True)
class SolveAnswer:
    """Candidates by name, and hints that are not errors."""

    candidates: tuple[Candidate, ...]
    diagnostics: tuple[Diagnostic, ...] = ()
    newest_ms: Mapping[str, int] = field(default_factory=dict)
    """Channel name → the newest time stamp among what was chosen from it."""


def solver_version() -> str:
    """``py-rattler 0.28.0``: recorded in locks, never part of an identity."""
    import rattler

    return f"py-rattler {rattler.__version__}"


def solve(
    request: SolveRequest,
    *,
    cache: Path,
    offline: bool = False,
    gateways: Gateways | None = None,
) -> SolveAnswer:
    """Choose one package per name that the request needs.

    ``cache`` is a folder for repodata (a hint: deleting it costs time only). With
    ``gateways`` solves of one piece of work see one state of each channel.
    Raises ResolveError with the solver's reasons, FetchError that names the channel,
    OfflineError.
    """
    sources = _with_spec_channels(request.channels, request.specs)
    if offline:
        require_offline(sources, "solving")
    try:
        return run_async(_solve(request, sources, cache, gateways or Gateways()))
    except BaseException as error:  # a panic of rattler is no Exception
        if not problems.is_foreign(error) and type(error).__name__ != "PanicException":
            raise
        raise problems.translate(error, sources, request) from None


def _with_spec_channels(
    channels: Sequence[ChannelSource], specs: Iterable[ParsedSpec]
) -> tuple[ChannelSource, ...]:
    """Channels that only a ``channel::package`` names come last, as in conda."""
    found = {source.name: source for source in channels}
    for spec in specs:
        if spec.channel is not None:
            found.setdefault(spec.channel.name, spec.channel)
    return tuple(found.values())


async def _solve(
    request: SolveRequest,
    sources: tuple[ChannelSource, ...],
    cache: Path,
    gateways: Gateways,
) -> SolveAnswer:
    import rattler

    gateway = gateways.get(sources, cache)
    match_specs = [rattler.MatchSpec(spec.text, strict=False) for spec in request.specs]
    # Trap: a version range alone makes the gateway forget that a higher channel has
    # the name at all; the bare name brings strict priority back to conda's meaning.
    match_specs += [
        rattler.MatchSpec(name) for name in dict.fromkeys(s.name for s in request.specs)
    ]
    by_address = {source.address + "/": source for source in sources}
    kept = [*request.pinned, *request.preferred]
    shadowed = await _shadowed(gateway, sources, kept, request)
    cutoff = None if request.exclude_newer is None else request.exclude_newer.astimezone(UTC)
    try:
        records = await rattler.solve(
            [rattler.Channel(source.address) for source in sources],
            match_specs,
            gateway=gateway,
            platforms=subdirs(request.platform),
            locked_packages=[
                repodata_record(p, by_address) for p in request.preferred if p.name not in shadowed
            ],
            pinned_packages=[
                repodata_record(p, by_address) for p in request.pinned if p.name not in shadowed
            ],
            virtual_packages=virtual_packages(request.virtual_packages),
            channel_priority=rattler.ChannelPriority.Strict,
            exclude_newer=cutoff,
            timestamp_policy="allow-missing",
            channel_relations="disabled",
        )
    except Exception as error:
        names = problems.missing_names(str(error)) if problems.is_unsatisfiable(error) else []
        if not names:
            raise
        known = await gateway.names(
            [rattler.Channel(source.address) for source in sources],
            subdirs(request.platform),
            channel_relations="disabled",
        )
        everything = {name.normalized for name in known}
        there = await problems.versions_there(
            gateway, sources, request, [name for name in names if name in everything]
        )
        close = problems.close_names([n for n in names if n not in there], sorted(everything))
        raise problems.translate(error, sources, request, close, there) from None
    direct = {spec.name for spec in request.specs}
    candidates = tuple(
        sorted((candidate_of(record, by_address, direct) for record in records), key=_by_name)
    )
    hints = await problems.hints_after_success(gateway, sources, candidates, request)
    return SolveAnswer(candidates, hints, _newest(candidates))


async def _shadowed(
    gateway: Gateway,
    sources: Sequence[ChannelSource],
    kept: Iterable[LockedPackage],
    request: SolveRequest,
) -> set[str]:
    """Kept packages whose name a channel above theirs has: they must not stay.

    rattler takes what it is told to keep from any channel, whatever the priority.
    """
    import rattler

    order = {source.name: index for index, source in enumerate(sources)}
    asked = {spec.name: spec.channel.name for spec in request.specs if spec.channel is not None}
    doubtful = {
        p.name: order[p.channel]
        for p in kept
        if order.get(p.channel, 0) > 0 and asked.get(p.name) != p.channel
    }
    if not doubtful:
        return set()
    found = await gateway.query(
        [rattler.Channel(source.address) for source in sources],
        subdirs(request.platform),
        [rattler.MatchSpec(name) for name in sorted(doubtful)],
        recursive=False,
        channel_relations="disabled",
    )
    places = {source.address: index for index, source in enumerate(sources)}
    first: dict[str, int] = {}
    for record in (record for records in found for record in records):
        place = places.get(record.channel.rstrip("/"), len(sources))
        first[record.name.normalized] = min(place, first.get(record.name.normalized, place))
    return {name for name, index in doubtful.items() if first.get(name, index) < index}


def _by_name(candidate: Candidate) -> str:
    return candidate.name


def _newest(candidates: Iterable[Candidate]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for candidate in candidates:
        known = newest.get(candidate.channel.name, 0)
        newest[candidate.channel.name] = max(known, candidate.timestamp_ms)
    return newest
