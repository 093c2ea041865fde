"""``pixi.lock`` → plain values, read by rattler, which pixi itself is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envgraph.conda import credentials
from envgraph.errors import InputError

if TYPE_CHECKING:
    from rattler import PackageRecord
    from rattler.lock import LockedPackage


@dataclass(frozen=True, slots=True)
class PixiPackage:
    """One package of a pixi lock; ``kind`` tells archives from sources."""

    kind: Literal["conda", "conda-source", "pypi"]
    name: str
    version: str
    address: str
    build: str = ""
    build_number: int = 0
    subdir: str = ""
    sha256: str = ""
    md5: str = ""
    size: int = 0
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    timestamp_ms: int = 0
    license: str = ""
    python_site_packages_path: str = ""


@dataclass(frozen=True, slots=True)
class PixiPlatform:
    """A platform of an environment: pixi's own ``name`` for it, and the conda ``subdir``."""

    name: str
    subdir: str
    packages: tuple[PixiPackage, ...]


@dataclass(frozen=True, slots=True)
class PixiEnvironment:
    """One environment: channel addresses in order of priority, and its platforms."""

    channels: tuple[str, ...]
    platforms: tuple[PixiPlatform, ...]


def read_pixi_lock(path: Path) -> Mapping[str, PixiEnvironment]:
    """Every environment by name. InputError when rattler cannot read the file."""
    from rattler import LockFile

    try:
        environments = LockFile.from_path(path).environments()
    except BaseException as error:  # a panic of rattler's is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"{path} is no pixi lockfile that can be read",
            code="lock-format",
            detail=credentials.mask(str(error))[:2000],
        ) from None
    return {
        name: PixiEnvironment(
            tuple(str(channel) for channel in environment.channels()),
            tuple(
                PixiPlatform(
                    platform.name,
                    str(platform.subdir),
                    tuple(_package(p) for p in environment.packages(platform) or ()),
                )
                for platform in environment.platforms()
            ),
        )
        for name, environment in environments
    }


def _package(package: LockedPackage) -> PixiPackage:
    from rattler.lock import CondaLockedPackage, CondaLockedSourcePackage, PypiLockedPackage

    address = package.location
    if isinstance(package, PypiLockedPackage):
        hashes = package.hashes
        known = hashes if hashes is not None and hashes._hashes is not None else None
        return PixiPackage(
            "pypi", package.name, package.version or "", address,
            sha256=known.sha256.hex() if known is not None and known.sha256 else "",
            depends=tuple(package.requires_dist or ()),
        )  # fmt: skip
    if isinstance(package, CondaLockedSourcePackage) or not isinstance(package, CondaLockedPackage):
        return PixiPackage("conda-source", package.name, "", address)
    record = package.package_record
    if record is None:
        return PixiPackage("conda-source", package.name, "", address)
    return _binary(record, address)


def _binary(record: PackageRecord, address: str) -> PixiPackage:
    stamp = record.timestamp
    return PixiPackage(
        kind="conda",
        name=record.name.normalized,
        version=str(record.version),
        address=address,
        build=str(record.build),
        build_number=record.build_number,
        subdir=record.subdir,
        sha256=record.sha256.hex() if record.sha256 else "",
        md5=record.md5.hex() if record.md5 else "",
        size=record.size or 0,
        depends=tuple(record.depends),
        constrains=tuple(record.constrains),
        timestamp_ms=round(stamp.timestamp() * 1000) if stamp else 0,
        license=record.license or "",
        python_site_packages_path=record.python_site_packages_path or "",
    )
