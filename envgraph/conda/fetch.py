"""Bring one locked archive, conda package or wheel, to a writer and prove it.

Bytes are hashed on their way, whatever the channel's kind (rattler does not
check ``file://`` archives). A return means: size and sha256 are the lock's. An
error means that what was written must be thrown away.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from envgraph.conda import credentials
from envgraph.conda.channels import locate
from envgraph.conda.logins import Logins
from envgraph.conda.transport import CHUNK, Transport, Write
from envgraph.errors import EnvgraphError, FetchError, IntegrityError, OfflineError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedPackage
from envgraph.model.spec import CondaSpec

LARGEST_ARCHIVE: Final = 32 * 1024**3
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the bytes of an archive are."""

    sha256: str
    md5: str
    size: int


def fetch_package(
    package: LockedPackage,
    config: WorkspaceConfig,
    write: Write,
    *,
    offline: bool,
    progress: Progress | None = None,
    known: Path | None = None,
    conda: CondaSpec | None = None,
    transport: Transport | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Stream the archive of ``package`` to ``write``; verify size and sha256.

    Places are tried in order: ``known`` (a file that should be it), the mirror that
    ``config`` names for the channel, the channel as ``conda`` (the environment's
    section, for credentials written there) spells it, the recorded address. A place
    that lacks the file leads to the next one; wrong bytes are an IntegrityError at
    once, since the writer has them. ``progress`` is called with each piece's length.
    """
    hasher = hashlib.sha256()
    count = 0

    def take(data: bytes) -> None:
        nonlocal count
        hasher.update(data)
        count += len(data)
        write(data)
        if progress is not None:
            progress(len(data))

    limit = package.size or LARGEST_ARCHIVE
    failures: list[EnvgraphError] = []
    env = os.environ if environ is None else environ
    for place in places(package, config, known=known, conda=conda, environ=env):
        try:
            read_place(place, take, size=package.size or None, limit=limit, offline=offline,
                       transport=transport, environ=env)  # fmt: skip
        except (FetchError, OfflineError) as error:
            if count:
                raise
            failures.append(error)
            continue
        shown = credentials.clean(place)
        if package.size and count != package.size:
            raise IntegrityError(
                f"{package.title}: {shown} has {count} bytes, not {package.size}",
                code="wrong-size",
                hint="was the lockfile edited, or the file replaced? `envgraph lock --update "
                f"{package.name}` locks it anew",
            )
        if hasher.hexdigest() != package.sha256.hex:
            raise IntegrityError(
                f"{package.title}: {shown} is not the archive that was locked",
                code="wrong-hash",
                detail=f"sha256 is {hasher.hexdigest()}, the lock says {package.sha256.hex}",
                hint="the channel replaced the file: `envgraph lock --update "
                f"{package.name}` accepts the new one",
            )
        return
    raise _nowhere(package, failures)


def _nowhere(package: LockedPackage, failures: list[EnvgraphError]) -> EnvgraphError:
    if not package.reproducible:
        return FetchError(
            f"{package.title} was built here, and its wheel is not in the store any more",
            code="built-wheel-gone",
            hint=f"`envgraph lock --update {package.name}` builds it again: a new generation",
        )
    first = failures[0] if failures else FetchError("its lock records no address")
    kind = OfflineError if any(isinstance(f, OfflineError) for f in failures) else FetchError
    details = [d for failure in failures for d in failure.diagnostics]
    error = kind(
        f"{package.title}: the archive cannot be had",
        detail="\n".join(
            dict.fromkeys(": ".join(filter(None, (d.summary, d.detail))) for d in details)
        )
        or str(first),
        hint=next((d.hint for d in details if d.hint), ""),
    )
    if isinstance(error, FetchError):
        error.retryable = any(isinstance(f, FetchError) and f.retryable for f in failures)
    return error


def places(
    package: LockedPackage,
    config: WorkspaceConfig,
    *,
    known: Path | None,
    conda: CondaSpec | None,
    environ: Mapping[str, str],
) -> list[str]:
    """Addresses to try, with credentials in place, each once. Never print one."""
    found: list[str] = []
    if known is not None:
        found.append(known.absolute().as_uri())
    if package.manager == "conda" and package.channel and package.file_name:
        tail = f"/{package.subdir}/{package.file_name}"
        paths = dict(conda.channel_paths) if conda is not None else {}
        written = [c for c in (conda.channels or () if conda else ()) if c != "nodefaults"]
        for text in [*written, package.channel]:
            if "://" in text or text in paths or text == package.channel:
                if text == package.channel and text.startswith((".", "~")) and text not in paths:
                    continue
                for source in locate(text, paths, config, environ):
                    if source.name == package.channel:
                        found.append(source.secret_address + tail)
    if package.url and package.reproducible:
        address = credentials.expand(package.url, environ, config.secrets)
        if package.manager == "pip":
            address = credentials.with_login(address, _pip_addresses(config, conda, environ))
        found.append(address)
    return list(dict.fromkeys(found))


def _pip_addresses(
    config: WorkspaceConfig, conda: CondaSpec | None, environ: Mapping[str, str]
) -> list[str]:
    """Indexes and addresses that may carry the login of a wheel's host."""
    texts = list(config.pip_indexes)
    for line in conda.pip if conda is not None else ():
        texts += credentials.addresses_in(line.text)
    return [credentials.expand(text, environ, config.secrets) for text in texts]


def read_place(
    place: str,
    take: Write,
    *,
    size: int | None,
    limit: int,
    offline: bool,
    transport: Transport | None = None,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Stream one address (``file://`` or http) to ``take``, at most ``limit`` bytes."""
    scheme = urlsplit(place).scheme
    shown = credentials.clean(place)
    if scheme == "file":
        _read_file(Path(unquote(urlsplit(place).path)), take, shown, limit)
        return
    if scheme not in ("http", "https"):
        raise FetchError(f"{shown}: only file:, http: and https: archives can be read")
    if offline:
        raise OfflineError(
            f"{shown} would need a connection",
            hint="run it without --offline, or point `channels:` in envgraph.yaml to a folder",
        )
    if transport is not None:
        transport.get(place, take, size=size, limit=limit)
        return
    env = os.environ if environ is None else environ
    with Transport(env, Logins(env)) as own:
        own.get(place, take, size=size, limit=limit)


def _read_file(path: Path, take: Write, shown: str, limit: int) -> None:
    count = 0
    try:
        with path.open("rb") as stream:
            while data := stream.read(CHUNK):
                count += len(data)
                if count > limit:
                    raise IntegrityError(
                        f"{shown} is longer than the {limit} bytes it should have", code="too-long"
                    )
                take(data)
    except OSError as error:
        raise FetchError(f"{shown} cannot be read", detail=error.strerror or str(error)) from None


def measure(
    place: str, write: Write, *, offline: bool, transport: Transport | None = None
) -> Measured:
    """Stream an archive whose channel says too little of it; return what it is."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0

    def take(data: bytes) -> None:
        nonlocal size
        sha256.update(data)
        md5.update(data)
        size += len(data)
        write(data)

    read_place(place, take, size=None, limit=LARGEST_ARCHIVE, offline=offline, transport=transport)
    return Measured(sha256.hexdigest(), md5.hexdigest(), size)
