"""``pylock.toml`` (PEP 751): the pip packages of a lock, for pip, uv and others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from envgraph.errors import Diagnostic
from envgraph.interchange.document import Document, private_addresses
from envgraph.model.locked import LockedEnvironment, LockedPackage

_MACHINES: Final[Mapping[str, str]] = {
    "linux-64": "sys_platform == 'linux' and platform_machine == 'x86_64'",
    "linux-aarch64": "sys_platform == 'linux' and platform_machine == 'aarch64'",
    "linux-ppc64le": "sys_platform == 'linux' and platform_machine == 'ppc64le'",
    "osx-64": "sys_platform == 'darwin' and platform_machine == 'x86_64'",
    "osx-arm64": "sys_platform == 'darwin' and platform_machine == 'arm64'",
    "win-64": "sys_platform == 'win32' and platform_machine == 'AMD64'",
}


def pylock(lock: LockedEnvironment, title: str) -> Document:
    """One wheel with address, size and sha256 for each pip package of one platform.

    Conda packages have no place in the format, and a wheel that was built here is on no
    index: a warning counts them. Equal locks give equal text.
    """
    pip = [p for p in lock.packages if p.manager == "pip"]
    conda = len(lock.packages) - len(pip)
    wheels = [p for p in pip if p.reproducible and p.url]
    lines = [f"# {title}", 'lock-version = "1.0"', 'created-by = "envgraph"']
    if lock.platform in _MACHINES:
        lines.append(f"environments = [{_text(_MACHINES[lock.platform])}]")
    if lock.python is not None:
        major, minor, *_ = lock.python.version.split(".")
        lines.append(f'requires-python = "=={major}.{minor}.*"')
    if not wheels:
        lines.append("packages = []")
    for package in wheels:
        lines += ["", *_package(package)]
    lines += [
        "",
        "[tool.envgraph]",
        f"definition = {_text(str(lock.definition))}",
        f"platform = {_text(lock.platform)}",
        f"conda-packages-left-out = {conda}",
    ]
    return Document("\n".join(lines) + "\n", tuple(_left_out(title, pip, wheels, conda)))


def _package(package: LockedPackage) -> list[str]:
    wheel = [
        f"name = {_text(package.file_name)}",
        f"url = {_text(package.url)}",
        *([f"size = {package.size}"] if package.size else []),
        f"hashes = {{ sha256 = {_text(package.sha256.hex)} }}",
    ]
    return [
        "[[packages]]",
        f"name = {_text(package.name)}",
        f"version = {_text(package.version)}",
        f"wheels = [{{ {', '.join(wheel)} }}]",
    ]


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are among its own, and DEL needs one too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _left_out(
    title: str, pip: Sequence[LockedPackage], wheels: Sequence[LockedPackage], conda: int
) -> list[Diagnostic]:
    problems = [
        Diagnostic(
            "not-exported",
            f"{package.name} {package.version} was built here: no index has that wheel",
            hint="it is left out of pylock.toml",
            severity="warning",
        )
        for package in pip
        if package not in wheels
    ]
    if conda:
        problems.append(
            Diagnostic(
                "not-exported",
                f"{conda} conda packages of {title} have no place in pylock.toml",
                hint="export --format conda-lock writes both",
                severity="warning",
            )
        )
    return problems + private_addresses(wheels)
