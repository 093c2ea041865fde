"""``pylock.toml`` (PEP 751), read and selected from by ``packaging``, which owns the rules."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.conda import credentials
from envgraph.errors import Diagnostic, InputError, SourceLocation
from envgraph.interchange.imports.foreign import ForeignLock, ForeignPackage, file_name_of
from envgraph.interchange.imports.pip_files import python_requirements
from envgraph.lock.wheeltags import platform_tags
from envgraph.model.locked import LockedPackage

if TYPE_CHECKING:
    from packaging.markers import Environment
    from packaging.pylock import Pylock

_MACHINES: Final = {"linux-64": "x86_64", "linux-aarch64": "aarch64", "linux-ppc64le": "ppc64le"}


def read_pylock(path: Path, text: str, name: str, python: str | None) -> ForeignLock:
    """The whole file, validated; which wheels are taken follows from the locked Python."""
    from packaging.pylock import Pylock, PylockUnsupportedVersionError, PylockValidationError

    place = SourceLocation(str(path))
    try:
        lock = Pylock.from_dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not TOML: {error}", code="toml-syntax", source=place) from None
    except PylockUnsupportedVersionError as error:
        raise InputError(
            f"a pylock.toml of a version that is not known: {error}", code="lock-version",
            source=place,
        ) from None  # fmt: skip
    except PylockValidationError as error:
        raise InputError(
            f"pylock.toml: {credentials.mask(str(error))}", code="lock-format", source=place
        ) from None
    conda = python_requirements(python)
    if python is None and lock.requires_python is not None:
        wanted = ",".join(sorted(str(part) for part in lock.requires_python))
        conda = (f"python {wanted}",)
    return ForeignLock(
        "pylock", "a pylock.toml", name, pip_only=True, conda=conda,
        pip=tuple(_requirement(lock, index) for index in range(len(lock.packages))), pylock=lock,
    )  # fmt: skip


def _requirement(lock: Pylock, index: int) -> str:
    package = lock.packages[index]
    text = package.name if package.version is None else f"{package.name}=={package.version}"
    return f"{text} ; {package.marker}" if package.marker is not None else text


def wheels_for(
    lock: Pylock, python: LockedPackage, platform: str, virtual_packages: Mapping[str, str]
) -> list[ForeignPackage]:
    """The one wheel of each package that fits. InputError with every package that has none."""
    from packaging import tags
    from packaging.pylock import PackageWheel, PylockSelectError

    major, minor = (int(part) for part in python.version.split(".")[:2])
    platforms = platform_tags(platform, virtual_packages)
    free = "t" if re.search(rf"cp{major}{minor}t\b", python.build) else ""
    fitting = [
        *tags.cpython_tags((major, minor), [f"cp{major}{minor}{free}"], platforms),
        *tags.compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    ]
    try:
        chosen = list(lock.select(environment=_environment(python, platform), tags=fitting))
    except PylockSelectError as error:
        raise InputError(
            f"pylock.toml does not fit Python {python.version} on {platform}",
            code="pylock-select", detail=credentials.mask(str(error)),
            hint="choose another Python with --python",
        ) from None  # fmt: skip
    found: list[ForeignPackage] = []
    wrong: list[Diagnostic] = []
    for package, source in chosen:
        if not isinstance(source, PackageWheel) or not source.url:
            wrong.append(
                Diagnostic(
                    "import-source", f"{package.name} {package.version}: no wheel with an address",
                    "a source distribution, a folder or a VCS line has no archive to pin",
                )
            )  # fmt: skip
            continue
        hashes = {kind.lower(): text.lower() for kind, text in source.hashes.items()}
        found.append(
            ForeignPackage(
                "pip", package.name, str(package.version or _version(source)),
                credentials.recorded(source.url), file_name=source.name or file_name_of(source.url),
                sha256=hashes.get("sha256", ""), md5=hashes.get("md5", ""), size=source.size or 0,
            )
        )  # fmt: skip
    if wrong:
        raise InputError(wrong)
    return found


def _version(wheel: object) -> str:
    from packaging.utils import parse_wheel_filename

    name = getattr(wheel, "name", None) or file_name_of(getattr(wheel, "url", "") or "")
    return str(parse_wheel_filename(name)[1])


def _environment(python: LockedPackage, platform: str) -> Environment:
    """What markers see in an image of that platform: never what this machine is."""
    version = ".".join(python.version.split(".")[:2])
    return {
        "implementation_name": "cpython",
        "implementation_version": python.version,
        "os_name": "posix",
        "platform_machine": _MACHINES.get(platform, platform.partition("-")[2]),
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python.version,
        "platform_python_implementation": "CPython",
        "python_version": version,
        "sys_platform": "linux",
    }
