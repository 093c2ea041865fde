"""``@EXPLICIT``: one address a line, with an md5, a sha256, or nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from envgraph.conda import credentials
from envgraph.errors import Diagnostic, InputError, SourceLocation
from envgraph.interchange.imports.foreign import (
    ForeignLock,
    ForeignPackage,
    channels_of,
    conda_address,
    is_hash,
)

_PLATFORM: Final = re.compile(r"^#\s*platform:\s*(\S+)\s*$", re.MULTILINE)
_PIP: Final = re.compile(r"^#\s*pip\s+(\S+)", re.MULTILINE)


def read_explicit(path: Path, text: str, name: str) -> ForeignLock:
    """Every line. InputError with all problems and their lines.

    The fragment is an md5 or, since conda 24.9, ``sha256:<hex>``.
    """
    packages: list[ForeignPackage] = []
    problems: list[Diagnostic] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#") or line == "@EXPLICIT":
            continue
        package = _package(line, number)
        if isinstance(package, str):
            place = SourceLocation(str(path), number, 1)
            problems.append(Diagnostic("explicit-line", package, source=place))
            continue
        if package.name in seen:
            problems.append(
                Diagnostic(
                    "explicit-line",
                    f"{package.name} is there twice: line {seen[package.name]} has it too",
                    source=SourceLocation(str(path), number, 1),
                )
            )
        seen[package.name] = number
        packages.append(package)
    subdirs = sorted({p.subdir for p in packages} - {"noarch"})
    if len(subdirs) > 1:
        problems.append(
            Diagnostic(
                "explicit-platform",
                f"packages of several platforms: {', '.join(subdirs)}",
                "an @EXPLICIT file is for one",
                SourceLocation(str(path)),
            )
        )
    if problems:
        raise InputError(problems)
    said = _PLATFORM.search(text)
    platform = subdirs[0] if subdirs else said[1] if said else ""
    return ForeignLock(
        "explicit",
        "an @EXPLICIT list",
        name,
        channels_of(packages),
        {platform: tuple(packages)},
        diagnostics=_pip_comments(path, text),
    )


def _package(line: str, number: int) -> ForeignPackage | str:
    url, _, fragment = line.partition("#")
    address = conda_address(url) if "://" in url else None
    if address is None:
        return "not the address of a conda package"
    value = fragment.strip().lower()
    sha256 = md5 = ""
    if value.startswith("sha256:") or len(value) == 64:
        sha256 = value.removeprefix("sha256:")
    else:
        md5 = value.removeprefix("md5:")
    for kind, text in (("sha256", sha256), ("md5", md5)):
        if text and not is_hash(kind, text):
            return f"{text!r:.80} is no {kind}"
    return ForeignPackage(
        "conda", address.name, address.version, credentials.recorded(url),
        build=address.build, subdir=address.subdir, file_name=address.file_name,
        channel=address.channel, sha256=sha256, md5=md5, place=f"line {number}",
    )  # fmt: skip


def _pip_comments(path: Path, text: str) -> tuple[Diagnostic, ...]:
    """conda-lock and envgraph write pip packages as comments; every reader skips them."""
    pip = _PIP.findall(text)
    if not pip:
        return ()
    return (
        Diagnostic(
            "pip-left-out",
            f"{len(pip)} pip packages are comments in the file: they are left out",
            f"the first is {pip[0][:80]}",
            SourceLocation(str(path)),
            "the format has no place for them; import the conda-lock file that it came from",
            "warning",
        ),
    )
