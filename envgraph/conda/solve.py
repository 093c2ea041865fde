"""Conda requests → candidates, by rattler's solver in this process.

What a solve answers depends on the request alone: virtual packages are those
given (rattler implies none, and ``CONDA_OVERRIDE_*`` is not read), channel
priority is strict as conda means it, and the machine's own CPU, libc and
drivers are never looked at.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from envgraph.conda import credentials, problems
from envgraph.conda.channels import ChannelSource, require_offline
from envgraph.conda.specs import ParsedSpec
from envgraph.errors import Diagnostic, InputError
from envgraph.model.locked import LockedPackage

if TYPE_CHECKING:
    from rattler import Gateway, GenericVirtualPackage, RepoDataRecord

T = TypeVar("T")

_REQUEST_SECONDS: Final = 900
_RETRIES: Final = 3


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """Everything that an answer may depend on.

    ``virtual_packages`` maps a name to ``version`` or ``version=build`` and is the
    whole set. ``pinned`` must not change, ``preferred`` are kept where possible.
    ``exclude_newer`` must carry a time zone; packages indexed later do not exist.
    """

    specs: tuple[ParsedSpec, ...]
    channels: tuple[ChannelSource, ...]
    platform: str
    virtual_packages: Mapping[str, str]
    pinned: tuple[LockedPackage, ...] = ()
    preferred: tuple[LockedPackage, ...] = ()
    exclude_newer: datetime | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package that was chosen, with what its channel says of it (maybe not all).

    ``sha256``, ``md5`` (hex) and ``size`` are empty or 0 where the channel is silent.
    """

    name: str
    version: str
    build: str
    build_number: int
    subdir: str
    channel: ChannelSource
    file_name: str
    url: str
    sha256: str
    md5: str
    size: int
    noarch: str
    depends: tuple[str, ...]
    constrains: tuple[str, ...]
    timestamp_ms: int
    license: str
    python_site_packages_path: str
    direct: bool


@dataclass(frozen=True, slots=True)
class SolveAnswer:
    """Candidates by name, and hints that are not errors."""

    candidates: tuple[Candidate, ...]
    diagnostics: tuple[Diagnostic, ...] = ()
    newest_ms: Mapping[str, int] = field(default_factory=dict)
    """Channel name → the newest time stamp among what was chosen from it."""


def solver_version() -> str:
    """``py-rattler 0.28.0``: recorded in locks, never part of an identity."""
    from importlib.metadata import version

    return "py-rattler " + version("py-rattler")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where this thread already has a loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, name="envgraph-solve")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def solve(request: SolveRequest, *, cache: Path, offline: bool = False) -> SolveAnswer:
    """Choose one package per name that the request needs.

    ``cache`` is a folder for repodata (a hint: deleting it costs time only).
    Raises ResolveError with the solver's reasons, FetchError that names the channel,
    OfflineError.
    """
    sources = _with_spec_channels(request.channels, request.specs)
    if offline:
        require_offline(sources, "solving")
    try:
        return run_async(_solve(request, sources, cache))
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
) -> SolveAnswer:
    import rattler

    gateway = open_gateway(sources, cache)
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
            platforms=_subdirs(request.platform),
            locked_packages=[
                _record(p, by_address) for p in request.preferred if p.name not in shadowed
            ],
            pinned_packages=[
                _record(p, by_address) for p in request.pinned if p.name not in shadowed
            ],
            virtual_packages=_virtual_packages(request.virtual_packages),
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
            _subdirs(request.platform),
            channel_relations="disabled",
        )
        close = problems.close_names(names, [name.normalized for name in known])
        raise problems.translate(error, sources, request, close) from None
    direct = {spec.name for spec in request.specs}
    candidates = tuple(
        sorted((_candidate(record, by_address, direct) for record in records), key=_by_name)
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
        _subdirs(request.platform),
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


def _subdirs(platform: str) -> list[Any]:
    import rattler

    return [rattler.Subdir(platform)] + ([] if platform == "noarch" else [rattler.Subdir("noarch")])


def open_gateway(sources: Sequence[ChannelSource], cache: Path) -> Gateway:
    """A gateway whose requests carry credentials that its cache never sees.

    rattler is given addresses without credentials. On the wire only, the mirror
    middleware puts tokens in place, and a header carries user and password (rattler
    ignores them in a mirror's address).
    """
    import rattler
    from rattler.networking import (
        AddHeadersMiddleware,
        AuthenticationMiddleware,
        Client,
        MirrorMiddleware,
        RetryMiddleware,
    )

    secret = [s for s in sources if s.has_credentials and not s.is_file]
    tokens = {s.address: [credentials.without_userinfo(s.secret_address)] for s in secret}
    tokens = {address: place for address, place in tokens.items() if place != [address]}
    headers = {s.address: credentials.basic_header(s.secret_address) for s in secret}
    middlewares: list[Any] = [RetryMiddleware(_RETRIES)]
    if any(headers.values()):
        middlewares.append(AddHeadersMiddleware(_header_giver(headers)))
    if tokens:
        middlewares.append(MirrorMiddleware(tokens))
    middlewares.append(AuthenticationMiddleware())
    cache.mkdir(parents=True, exist_ok=True)
    return rattler.Gateway(
        cache_dir=cache,
        client=Client(middlewares, user_agent="envgraph", timeout=_REQUEST_SECONDS),
    )


def _header_giver(headers: Mapping[str, str]) -> Callable[[str, str], dict[str, str] | None]:
    """Which Authorization a request gets, by its host and the channel's path."""
    known = [
        (parts.hostname or "", parts.netloc, parts.path.rstrip("/") + "/", header)
        for parts, header in ((urlsplit(address), header) for address, header in headers.items())
        if header
    ]
    known.sort(key=lambda item: -len(item[2]))

    def give(host: str, path: str) -> dict[str, str] | None:
        for hostname, netloc, prefix, header in known:
            if host in (hostname, netloc) and path.startswith(prefix):
                return {"Authorization": header}
        return None

    return give


def _virtual_packages(given: Mapping[str, str]) -> list[GenericVirtualPackage]:
    from rattler import GenericVirtualPackage, PackageName
    from rattler.package import BuildString
    from rattler.version import Version

    made = []
    for name, text in sorted(given.items()):
        version, _, build = text.partition("=")
        try:
            made.append(
                GenericVirtualPackage(
                    PackageName(name), Version(version), BuildString(build or "0")
                )
            )
        except Exception as error:
            raise InputError(
                f"virtual_packages: {name}: {text!r} is no version",
                code="virtual-package",
                detail=str(error),
            ) from None
    return made


def _record(package: LockedPackage, by_address: Mapping[str, ChannelSource]) -> RepoDataRecord:
    """A locked package as the solver knows it, so that it can be kept."""
    from rattler import PackageRecord, RepoDataRecord
    from rattler.package import BuildString

    base = next((a for a, s in by_address.items() if s.name == package.channel), None)
    record = PackageRecord(
        name=package.name,
        version=package.version,
        build=BuildString(package.build),
        build_number=package.build_number,
        subdir=package.subdir,
        noarch=package.noarch or None,
        depends=list(package.depends),
        constrains=list(package.constrains),
        sha256=bytes.fromhex(package.sha256.hex),
        md5=bytes.fromhex(package.md5) if package.md5 else None,
        size=package.size,
        license=package.license or None,
        python_site_packages_path=package.python_site_packages_path or None,
    )
    if package.timestamp_ms:
        record.timestamp = datetime.fromtimestamp(package.timestamp_ms / 1000, UTC)
    url = f"{base}{package.subdir}/{package.file_name}" if base else package.url
    return RepoDataRecord(record, package.file_name, url, base or package.channel)


def _candidate(
    record: RepoDataRecord, by_address: Mapping[str, ChannelSource], direct: set[str]
) -> Candidate:
    channel = by_address.get(record.channel) or by_address.get(record.channel.rstrip("/") + "/")
    if channel is None:
        channel = next(s for a, s in by_address.items() if record.url.startswith(a))
    name = record.name.normalized
    noarch = "python" if record.noarch.python else "generic" if record.noarch.generic else ""
    stamp = record.timestamp
    return Candidate(
        name=name,
        version=str(record.version),
        build=str(record.build),
        build_number=record.build_number,
        subdir=record.subdir,
        channel=channel,
        file_name=record.file_name,
        url=credentials.clean(record.url),
        sha256=record.sha256.hex() if record.sha256 else "",
        md5=record.md5.hex() if record.md5 else "",
        size=record.size or 0,
        noarch=noarch,
        depends=tuple(record.depends),
        constrains=tuple(record.constrains),
        timestamp_ms=round(stamp.timestamp() * 1000) if stamp else 0,
        license=record.license or "",
        python_site_packages_path=record.python_site_packages_path or "",
        direct=name in direct,
    )


def _newest(candidates: Iterable[Candidate]) -> dict[str, int]:
    newest: dict[str, int] = {}
    for candidate in candidates:
        known = newest.get(candidate.channel.name, 0)
        newest[candidate.channel.name] = max(known, candidate.timestamp_ms)
    return newest
