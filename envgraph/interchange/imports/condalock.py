"""conda-lock's v1 file, its own or ours, checked by conda-lock's models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from envgraph.conda import credentials
from envgraph.conda.channels import canonical_name
from envgraph.errors import Diagnostic, InputError, SourceLocation
from envgraph.interchange.imports.foreign import (
    ForeignLock,
    ForeignPackage,
    channels_of,
    conda_address,
    file_name_of,
    is_hash,
)
from envgraph.lock.yamlread import load_yaml

_REPOSITORY: Final = re.compile(r"(?i)(git|hg|svn|bzr)\+")
_INSTALLED: Final = ("main", "dev")
"""The categories that ``conda-lock install`` takes without being asked."""


def read_conda_lock(path: Path, text: str, name: str) -> ForeignLock:
    """Every package of every platform. InputError with all problems and their lines."""
    file = str(path)
    document = load_yaml(text, file)
    if not isinstance(document, dict):
        raise InputError("the file is not a mapping", code="lock-format")
    version = document.get("version")
    if version != 1 or isinstance(version, bool):
        raise InputError(
            f"conda-lock's version {version!r} is not version 1",
            code="lock-version",
            source=_place(text, file, ("version",)),
            hint="write it with conda-lock 1 to 4: `conda-lock lock`",
        )
    virtual = _note_virtual(document)
    _check(document, text, file)
    metadata = document["metadata"]
    ready = _own(path, metadata)
    found: dict[str, dict[tuple[str, str], ForeignPackage]] = {p: {} for p in metadata["platforms"]}
    left: dict[str, set[str]] = {}
    problems: list[Diagnostic] = []
    for index, item in enumerate(document["package"]):
        if item["platform"] in ready or _is_virtual(item["name"]):
            continue
        category = item.get("category") or "main"
        if category not in _INSTALLED:
            left.setdefault(category, set()).add(item["name"])
            continue
        package, problem = _package(item, f"package.{index}")
        if package is None:
            problems.append(
                Diagnostic("lock-format", problem, source=_place(text, file, ("package", index)))
            )
            continue
        of_platform = found.setdefault(item["platform"], {})
        key = (package.manager, package.name)
        if key in of_platform and of_platform[key].url != package.url:
            problems.append(
                Diagnostic(
                    "lock-format",
                    f"{package.name} is there twice for {item['platform']}, with two addresses",
                    source=_place(text, file, ("package", index)),
                )
            )
        of_platform[key] = package
    if problems:
        raise InputError(problems)
    platforms = {p: tuple(packages.values()) for p, packages in found.items() if p not in ready}
    return ForeignLock(
        "conda-lock",
        "a conda-lock lockfile",
        name,
        _channels(metadata, platforms),
        platforms,
        ready,
        diagnostics=(*virtual, *(_left_out(file, c, names) for c, names in left.items())),
    )


def _note_virtual(document: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
    """Make virtual packages (``__osx``) pass, which old versions of conda-lock wrote half."""
    packages = document.get("package")
    items = packages if isinstance(packages, list) else []
    virtual = [p for p in items if isinstance(p, dict) and _is_virtual(p.get("name"))]
    for item in virtual:
        item.setdefault("optional", False)
    if not virtual:
        return ()
    return (
        Diagnostic(
            "virtual-package",
            f"{len(virtual)} virtual packages are left out",
            "they say what a machine has; there is nothing to install",
            severity="info",
        ),
    )


def _is_virtual(name: object) -> bool:
    return isinstance(name, str) and name.startswith("__")


def _check(document: Mapping[str, Any], text: str, file: str) -> None:
    from envgraph.lock.condalock import check_document

    wrong = [
        Diagnostic(
            "lock-format",
            ".".join(str(part) for part in where) + ": " + credentials.mask(message),
            source=_place(text, file, where),
        )
        for where, message in check_document(document)
    ]
    if wrong:
        raise InputError(wrong)


def _place(text: str, file: str, where: tuple[str | int, ...]) -> SourceLocation:
    from envgraph.lock.lockread import place_of

    return place_of(text, file, where)


def _own(path: Path, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """The locks that envgraph itself wrote into the file, if nobody edited it since."""
    if "envgraph.format" not in (metadata.get("custom_metadata") or {}):
        return {}
    from envgraph.lock.lockfile import read_lockfile

    content = read_lockfile(path)
    return {} if content.edited else content.locks


def _package(item: Mapping[str, Any], place: str) -> tuple[ForeignPackage | None, str]:
    url = credentials.recorded(item["url"])
    if item["manager"] == "pip" and _REPOSITORY.match(url):  # its hash is that of the commit
        return ForeignPackage(
            "pip", item["name"], item["version"], url, place=place,
            problem="it comes from a repository: there is no archive to pin",
        ), ""  # fmt: skip
    hashes = item.get("hash") or {}
    sha256, md5 = str(hashes.get("sha256") or ""), str(hashes.get("md5") or "")
    for kind, value in (("sha256", sha256), ("md5", md5)):
        if value and not is_hash(kind, value):
            return None, f"{item['name']}: {value!r:.80} is no {kind}"
    depends = tuple(
        f"{name} {constraint}".strip() for name, constraint in item.get("dependencies", {}).items()
    )
    if item["manager"] == "pip":
        return ForeignPackage(
            "pip", item["name"], item["version"], url,
            file_name=file_name_of(item["url"]), sha256=sha256.lower(), depends=depends,
            place=place,
        ), ""  # fmt: skip
    address = conda_address(item["url"])
    if address is None:
        return None, f"{item['name']}: its address is not that of a conda package"
    return ForeignPackage(
        "conda", item["name"].lower(), item["version"], url,
        build=item.get("build") or address.build, subdir=address.subdir,
        file_name=address.file_name, channel=address.channel, sha256=sha256.lower(),
        md5=md5.lower(), depends=depends, place=place,
    ), ""  # fmt: skip


def _channels(
    metadata: Mapping[str, Any], platforms: Mapping[str, tuple[ForeignPackage, ...]]
) -> tuple[str, ...]:
    """The lock's channels in its order, then others that its packages really come from.

    Old versions of conda-lock wrote names alone.
    """
    urls = [c.get("url") if isinstance(c, dict) else c for c in metadata["channels"]]
    named = [
        canonical_name(credentials.recorded(url.rstrip("/")), {})
        for url in urls
        if isinstance(url, str)
    ]
    used = [c for packages in platforms.values() for c in channels_of(packages)]
    return tuple(dict.fromkeys([*named, *used]))


def _left_out(file: str, category: str, names: set[str]) -> Diagnostic:
    return Diagnostic(
        "category-left-out",
        f"{len(names)} packages of the category {category!r} are left out",
        "conda-lock installs only main and dev unless it is asked",
        SourceLocation(file),
        severity="warning",
    )
