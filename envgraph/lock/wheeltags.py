"""Wheels and platforms: which wheel fits the lock, and stand-ins for conda's packages."""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from envgraph.errors import InputError
from envgraph.model.locked import LockedPackage

_UV_GLIBC: Final = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_ARCHES: Final = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
_OTHERS: Final = {
    "osx-64": "x86_64-apple-darwin",
    "osx-arm64": "aarch64-apple-darwin",
    "win-64": "x86_64-pc-windows-msvc",
}
_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}

RENAMED: Final[Mapping[str, str]] = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "matplotlib-base": "matplotlib",
    "tensorflow-base": "tensorflow",
    "py-opencv": "opencv-python",
    "pytables": "tables",
    "msgpack-python": "msgpack",
    "pyqt": "pyqt5",
    "py-xgboost": "xgboost",
    "python-graphviz": "graphviz",
    "importlib-metadata": "importlib-metadata",
    "dask-core": "dask",
    "mlflow-skinny": "mlflow-skinny",
    "ruamel.yaml": "ruamel-yaml",
    "typing-extensions": "typing-extensions",
    "typing_extensions": "typing-extensions",
    "torchaudio": "torchaudio",
    "faiss": "faiss-cpu",
}
"""conda name → PyPI name, where they differ for packages that are often in both."""


def _glibc(virtual_packages: Mapping[str, str]) -> int:
    text = virtual_packages.get("__glibc", "2.17").partition("=")[0]
    found = re.match(r"2\.(\d+)", text)
    return int(found[1]) if found else 17


def uv_platform(platform: str, virtual_packages: Mapping[str, str]) -> str:
    """Uv's name for the platform, with manylinux following the locked ``__glibc``."""
    arch = _ARCHES.get(platform)
    if arch is None:
        if platform in _OTHERS:
            return _OTHERS[platform]
        raise InputError(
            f"pip sections are not supported on {platform}",
            code="pip-platform",
            hint="use conda packages there",
        )
    minor = _glibc(virtual_packages)
    fitting = [known for known in _UV_GLIBC if known <= minor]
    if not fitting:
        raise InputError(
            f"glibc 2.{minor} is too old for pip's wheels", code="pip-platform",
            hint="set virtual_packages: __glibc to 2.17 or newer",
        )  # fmt: skip
    return f"{arch}-manylinux_2_{fitting[-1]}"


def platform_tags(platform: str, virtual_packages: Mapping[str, str]) -> list[str]:
    """Wheel platform tags that fit, best first."""
    from packaging import tags

    arch = _ARCHES.get(platform)
    if arch is not None:
        lowest = 5 if arch == "x86_64" else 17
        found = []
        for minor in range(_glibc(virtual_packages), lowest - 1, -1):
            found.append(f"manylinux_2_{minor}_{arch}")
            if minor in _LEGACY:
                found.append(f"{_LEGACY[minor]}_{arch}")
        return [*found, f"linux_{arch}"]
    if platform.startswith("osx-"):
        major, minor_text = (*virtual_packages.get("__osx", "11.0").split("."), "0")[:2]
        machine = "arm64" if platform == "osx-arm64" else "x86_64"
        return list(tags.mac_platforms((int(major), int(minor_text)), machine))
    return ["win_amd64"]


def best_wheel(
    wheels: Sequence[Mapping[str, Any]],
    python: LockedPackage,
    platform: str,
    virtual_packages: Mapping[str, str],
) -> Mapping[str, Any] | None:
    """The wheel that pip would take for this Python and platform, or None."""
    from packaging import tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    major, minor = (int(part) for part in python.version.split(".")[:2])
    platforms = platform_tags(platform, virtual_packages)
    free = "t" if re.search(rf"cp{major}{minor}t\b", python.build) else ""
    order: dict[tags.Tag, int] = {}
    for tag in [
        *tags.cpython_tags((major, minor), [f"cp{major}{minor}{free}"], platforms),
        *tags.compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    ]:
        order.setdefault(tag, len(order))
    best: tuple[int, tuple[Any, ...], Mapping[str, Any]] | None = None
    for wheel in wheels:
        try:
            _, _, build, wheel_tags = parse_wheel_filename(wheel_name(wheel))
        except InvalidWheelFilename:
            continue
        rank = min((order[tag] for tag in wheel_tags if tag in order), default=None)
        if rank is None:
            continue
        newer = tuple(-part if isinstance(part, int) else part for part in build)
        if best is None or (rank, newer) < best[:2]:
            best = (rank, newer, wheel)
    return None if best is None else best[2]


def still_fits(
    wheel: LockedPackage,
    python: LockedPackage,
    platform: str,
    virtual_packages: Mapping[str, str],
) -> bool:
    """Whether a wheel of an earlier lock goes with the Python of this one."""
    entry = {"name": wheel.file_name}
    return best_wheel([entry], python, platform, virtual_packages) is not None


def wheel_name(wheel: Mapping[str, Any]) -> str:
    """The file name of a pylock wheel entry."""
    place = wheel.get("name") or wheel.get("url") or wheel.get("path") or ""
    return unquote(urlsplit(str(place)).path.rsplit("/", 1)[-1])


def python_packages(chosen: Iterable[LockedPackage]) -> dict[str, LockedPackage]:
    """Conda's Python packages by the name that pip knows them under."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    found: dict[str, LockedPackage] = {}
    for package in chosen:
        needs = {depend.split(" ")[0] for depend in package.depends}
        if package.name in ("python", "python_abi") or not (
            package.noarch == "python" or needs & {"python", "python_abi"}
        ):
            continue
        try:
            Version(package.version)
        except InvalidVersion:
            continue
        name = str(canonicalize_name(RENAMED.get(package.name, package.name)))
        if name not in found or package.name == name:
            found[name] = package
    return found


def write_stub(folder: Path, name: str, version: str) -> Path:
    """An empty wheel that says "name version is installed", with fixed bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    members = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: envgraph\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{path},sha256={digest.decode()},{len(text.encode())}\n"
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    target = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
    return target
