"""``pixi.lock`` of versions 4 to 7, and what was version 3 of it: one of its environments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from envgraph.conda import credentials
from envgraph.conda.channels import canonical_name
from envgraph.conda.pixilock import PixiEnvironment, PixiPackage, PixiPlatform, read_pixi_lock
from envgraph.errors import Diagnostic, InputError, SourceLocation
from envgraph.interchange.imports.foreign import (
    ForeignLock,
    ForeignPackage,
    conda_address,
    file_name_of,
)

VERSIONS: Final = range(4, 8)
_VERSION: Final = re.compile(r"^version:\s*['\"]?([^\s'\"#]{1,20})", re.MULTILINE)


def read_pixi(
    path: Path, text: str, name: str, environment: str | None, versions: range = VERSIONS
) -> ForeignLock:
    """The packages of one environment: ``default`` unless another is named.

    Where several of pixi's platforms are one for conda (``linux-64`` and
    ``linux-64-cuda``), the one that is called like it is taken, else the first.
    """
    match = _VERSION.search(text)
    said = match[1] if match else ""
    if not (said.isdecimal() and int(said) in versions):
        line = text[: match.start()].count("\n") + 1 if match else 1
        raise InputError(
            f"a pixi lockfile of version {said or 'unknown'}: 4 to 7 can be imported",
            code="lock-version",
            source=SourceLocation(str(path), line, 1),
            hint="write it anew with a current pixi: `pixi lock`",
        )
    found = read_pixi_lock(path)
    chosen = _choose(path, found, environment)
    problems: list[Diagnostic] = []
    platforms: dict[str, PixiPlatform] = {}
    for platform in found[chosen].platforms:
        other = platforms.get(platform.subdir)
        if other is None or platform.name == platform.subdir:
            platforms[platform.subdir] = platform
        left = other if other is not platforms[platform.subdir] else platform
        if left is not None and left is not platforms[platform.subdir]:
            problems.append(_platform_left_out(path, left, platforms[platform.subdir]))
    called = name if chosen == "default" or environment is None else f"{name}-{chosen}"
    return ForeignLock(
        "pixi",
        f"pixi's lock, environment {chosen}",
        called,
        tuple(
            dict.fromkeys(
                canonical_name(credentials.recorded(channel.rstrip("/")), {})
                for channel in found[chosen].channels
            )
        ),
        {
            subdir: tuple(_package(package) for package in platform.packages)
            for subdir, platform in platforms.items()
        },
        diagnostics=(*_others(path, found, chosen, environment), *problems),
    )


def _choose(path: Path, found: Mapping[str, PixiEnvironment], wanted: str | None) -> str:
    if wanted is not None and wanted in found:
        return wanted
    if wanted is None and "default" in found:
        return "default"
    if wanted is None and len(found) == 1:
        return next(iter(found))
    raise InputError(
        f"{path} has no environment {wanted or 'default'!r}",
        code="import-environment",
        detail=f"it has {', '.join(sorted(found)) or 'none'}",
        hint="choose one with --environment",
    )


def _others(
    path: Path, found: Mapping[str, PixiEnvironment], chosen: str, wanted: str | None
) -> list[Diagnostic]:
    others = sorted(set(found) - {chosen})
    if not others or wanted is not None:
        return []
    return [
        Diagnostic(
            "environments-left-out",
            f"the lock has other environments too: {', '.join(others)}",
            source=SourceLocation(str(path)),
            hint="--environment imports one of them",
            severity="info",
        )
    ]


def _platform_left_out(path: Path, left: PixiPlatform, taken: PixiPlatform) -> Diagnostic:
    return Diagnostic(
        "platform-left-out",
        f"pixi's platforms {left.name!r} and {taken.name!r} are both {taken.subdir}: "
        f"{taken.name!r} is taken",
        source=SourceLocation(str(path)),
        severity="warning",
    )


def _package(package: PixiPackage) -> ForeignPackage:
    url = package.address.partition("#")[0]
    if package.kind == "pypi":
        return ForeignPackage(
            "pip", _pip_name(package.name), package.version, credentials.recorded(url),
            file_name=file_name_of(url), sha256=package.sha256,
            depends=tuple(_pip_names(package.depends)),
        )  # fmt: skip
    address = None if package.kind == "conda-source" else conda_address(url)
    if address is None:
        return ForeignPackage(
            "conda", package.name, package.version, credentials.recorded(url),
            problem="pixi builds it from sources: there is no archive to pin",
        )  # fmt: skip
    # Most versions of the format leave out which noarch it is, and rattler guesses by the
    # build string: only the archive knows. Version 3 writes the platform of the lock where
    # the subdir belongs: the address has it.
    return ForeignPackage(
        "conda", package.name, package.version, credentials.recorded(url),
        build=package.build, subdir=address.subdir, file_name=address.file_name,
        channel=address.channel, sha256=package.sha256, md5=package.md5, size=package.size,
        depends=package.depends, constrains=package.constrains,
        noarch=None if address.subdir == "noarch" else "",
        build_number=package.build_number, timestamp_ms=package.timestamp_ms,
        license=package.license, python_site_packages_path=package.python_site_packages_path,
    )  # fmt: skip


def _pip_name(name: str) -> str:
    from packaging.utils import canonicalize_name

    return str(canonicalize_name(name))


def _pip_names(requirements: tuple[str, ...]) -> list[str]:
    """The names of what a wheel needs; those of extras are nobody's."""
    from packaging.requirements import InvalidRequirement, Requirement

    names = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is None or "extra" not in str(requirement.marker):
            names.append(_pip_name(requirement.name))
    return names
