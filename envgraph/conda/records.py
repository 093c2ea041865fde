"""rattler's records ↔ our values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from envgraph.conda import credentials
from envgraph.conda.channels import ChannelSource
from envgraph.model.locked import LockedPackage

if TYPE_CHECKING:
    from rattler import PackageRecord, RepoDataRecord


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


def repodata_record(
    package: LockedPackage, by_address: Mapping[str, ChannelSource]
) -> RepoDataRecord:
    """A locked package as the solver knows it, so that it can be kept."""
    from rattler import RepoDataRecord

    base = next((a for a, s in by_address.items() if s.name == package.channel), None)
    url = f"{base}{package.subdir}/{package.file_name}" if base else package.url
    return RepoDataRecord(package_record(package), package.file_name, url, base or package.channel)


def package_record(package: LockedPackage) -> PackageRecord:
    """A locked package apart from where it is."""
    from rattler import PackageRecord
    from rattler.package import BuildString

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
    return record


def candidate_of(
    record: RepoDataRecord, by_address: Mapping[str, ChannelSource], direct: set[str]
) -> Candidate:
    """A solved record, with the channel that it came from."""
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
