"""Candidates of a solve → locked packages: nothing may be unknown about an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from envgraph.conda import credentials
from envgraph.conda.fetch import Measured, measure
from envgraph.conda.records import Candidate
from envgraph.conda.transport import Transport
from envgraph.errors import Diagnostic, EnvgraphError, IntegrityError
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest

Progress = Callable[[str], object]


class PackageWriter(Protocol):
    """A staged archive: nothing is visible until ``finish``."""

    def write(self, data: bytes, /) -> object:
        """Append bytes."""
        ...

    def finish(self) -> Digest:
        """Make the archive visible; return what was written."""
        ...

    def abort(self) -> None:
        """Drop what was written."""
        ...


class PackageStore(Protocol):
    """Where archives are kept that had to be fetched or built while locking."""

    def has(self, digest: Digest, /) -> bool:
        """Whether the archive is there."""
        ...

    def path(self, digest: Digest, /) -> Path:
        """The archive's file; it may be read, never written."""
        ...

    def writer(self) -> PackageWriter:
        """Begin a new archive."""
        ...


def keep(
    store: PackageStore, place: str, *, offline: bool, transport: Transport | None
) -> Measured:
    """Fetch ``place`` into the store; return what its bytes are."""
    writer = store.writer()
    try:
        measured = measure(place, writer.write, offline=offline, transport=transport)
    except BaseException:
        writer.abort()
        raise
    if writer.finish().hex != measured.sha256:
        raise IntegrityError("the store kept other bytes than were read", code="wrong-hash")
    return measured


def _whole(
    candidate: Candidate, store: PackageStore, offline: bool, transport: Transport | None
) -> Measured:
    if candidate.sha256 and candidate.md5 and candidate.size:
        return Measured(candidate.sha256, candidate.md5, candidate.size)
    place = f"{candidate.channel.secret_address}/{candidate.subdir}/{candidate.file_name}"
    if candidate.sha256 and store.has(Digest.from_hex(candidate.sha256)):
        place = store.path(Digest.from_hex(candidate.sha256)).absolute().as_uri()
    found = keep(store, place, offline=offline, transport=transport)
    for what, said, real in (
        ("sha256", candidate.sha256, found.sha256),
        ("md5", candidate.md5, found.md5),
        ("size", candidate.size, found.size),
    ):
        if said and said != real:
            raise IntegrityError(
                f"{candidate.name} {candidate.version} {candidate.build}: the archive in "
                f"{candidate.channel.name} is not what the channel's index says",
                code="wrong-hash",
                detail=f"{what} is {real}, the index says {said}",
            )
    return found


def locked_conda_packages(
    candidates: Iterable[Candidate],
    store: PackageStore,
    *,
    offline: bool,
    transport: Transport | None = None,
    progress: Progress | None = None,
) -> tuple[LockedPackage, ...]:
    """Every candidate, with sha256, md5 and size.

    Those of whom the channel says too little are fetched, kept and measured. Raises
    the last failure's type with the diagnostics of all.
    """
    locked: list[LockedPackage] = []
    wrong: list[Diagnostic] = []
    last: EnvgraphError | None = None
    for candidate in candidates:
        try:
            whole = _whole(candidate, store, offline, transport)
        except EnvgraphError as error:
            wrong += error.diagnostics
            last = error
            continue
        if progress is not None:
            progress(candidate.name)
        locked.append(_locked(candidate, whole))
    if last is not None:
        raise type(last)(wrong)
    return tuple(sorted(locked, key=lambda package: package.name))


def _locked(candidate: Candidate, whole: Measured) -> LockedPackage:
    source = candidate.channel
    return LockedPackage(
        manager="conda",
        name=candidate.name,
        version=candidate.version,
        build=candidate.build,
        subdir=candidate.subdir,
        sha256=Digest.from_hex(whole.sha256),
        channel=source.name,
        file_name=candidate.file_name,
        url=credentials.recorded(source.template or source.address)
        + f"/{candidate.subdir}/{candidate.file_name}",
        size=whole.size,
        md5=whole.md5,
        build_number=candidate.build_number,
        noarch="python" if candidate.noarch == "python" else "generic" if candidate.noarch else "",
        depends=candidate.depends,
        constrains=candidate.constrains,
        timestamp_ms=candidate.timestamp_ms,
        license=candidate.license,
        python_site_packages_path=candidate.python_site_packages_path,
        direct=candidate.direct,
    )
