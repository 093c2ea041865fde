"""Wheels as conda packages: pure ones ``noarch: python``, others for linux-64.

Sources: the wheel format (PEP 427), entry points, METADATA's Requires-Dist with its
markers, and how conda-build packs an installed wheel.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from envgraph.testing.channel.archive import PLACEHOLDER, Entry, Package, content_hash
from envgraph.testing.channel.cpython import PythonBuild
from envgraph.testing.channel.elf import is_elf, read_needs
from envgraph.testing.channel.libraries import (
    GLIBC_DEPENDS,
    depends_of,
    is_glibc,
    library_packages,
)
from envgraph.testing.channel.package import file_entry

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_SCRIPT = """#!{python}
import sys

from {module} import {first}

if __name__ == "__main__":
    sys.exit({function}())
"""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel's metadata; its members are read when they are asked for."""

    path: Path
    metadata: Message
    tags: Message
    entry_points: str
    names: tuple[str, ...]
    """Every member that is a file."""

    dist_info: str

    def members(self) -> Iterator[tuple[str, bytes, bool]]:
        """Name, bytes, and whether it may be executed, one after the other."""
        with zipfile.ZipFile(self.path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield info.filename, archive.read(info), bool(info.external_attr >> 16 & 0o100)

    @property
    def name(self) -> str:
        """Normalised by PEP 503, which is conda's name for it too."""
        return canonicalize_name(str(self.metadata["Name"]))

    @property
    def version(self) -> str:
        """As written in METADATA."""
        return str(self.metadata["Version"])

    @property
    def is_pure(self) -> bool:
        """Any Python 3 on any platform can use it."""
        tags = [str(tag) for tag in self.tags.get_all("Tag", [])]
        purelib = str(self.tags["Root-Is-Purelib"]).strip().lower() == "true"
        return purelib and all(tag.endswith("-none-any") for tag in tags)

    @property
    def requirements(self) -> list[Requirement]:
        """Requires-Dist, markers not evaluated yet."""
        return [Requirement(str(text)) for text in self.metadata.get_all("Requires-Dist", [])]


def read_wheel(path: Path) -> Wheel:
    """Read what a wheel says of itself. Raises ValueError when it is none."""
    with zipfile.ZipFile(path) as archive:
        names = tuple(info.filename for info in archive.infolist() if not info.is_dir())
        folders = {name.split("/")[0] for name in names if _METADATA.fullmatch(name)}
        if len(folders) != 1:
            raise ValueError(f"{path.name} has {len(folders)} .dist-info folders")
        if any(".." in name.split("/") or name.startswith("/") for name in names):
            raise ValueError(f"{path.name} has a member outside of itself")
        dist_info = folders.pop()
        parse = BytesParser().parsebytes
        metadata = parse(archive.read(f"{dist_info}/METADATA"))
        tags = parse(archive.read(f"{dist_info}/WHEEL"))
        points = f"{dist_info}/entry_points.txt"
        text = archive.read(points).decode() if points in names else ""
    return Wheel(path, metadata, tags, text, names, dist_info)


class WheelConverter:
    """Turns wheels into packages for one Python.

    ``known`` are wheels that extras are looked up in: conda has no extras, so
    ``rich[jupyter]`` becomes rich and what rich asks for with that extra.
    """

    def __init__(self, python: PythonBuild, known: Iterable[Wheel] = ()) -> None:
        self._python = python
        self._known: dict[str, list[Wheel]] = {}
        for wheel in known:
            self._known.setdefault(wheel.name, []).append(wheel)

    def convert(self, wheel: Wheel) -> list[Package]:
        """The wheel's package first, then machine libraries that it needs from outside."""
        noarch = wheel.is_pure and not any(
            name.split("/")[0].endswith(".data") and name.split("/")[1:2] == ["headers"]
            for name in wheel.names
        )
        scripts = _console_scripts(wheel)
        entries = self._entries(wheel, noarch, {} if noarch else scripts)
        libraries = library_packages(_outside(entries), missing_ok=True)
        depends = [*depends_of(libraries), *self._depends(wheel, noarch)]
        short = self._python.major_minor.replace(".", "")
        digest = content_hash(entries, *depends)
        package = Package(
            name=wheel.name,
            version=wheel.version,
            build=f"pyh{digest}_0" if noarch else f"py{short}h{digest}_0",
            subdir="noarch" if noarch else "linux-64",
            noarch="python" if noarch else "",
            depends=tuple(depends),
            license=_license(wheel.metadata),
            entry_points=tuple(f"{k} = {v}" for k, v in scripts.items()) if noarch else (),
            entries=tuple(entries),
            about={"summary": str(wheel.metadata.get("Summary", ""))},
        )
        return [package, *libraries]

    def _entries(self, wheel: Wheel, noarch: bool, scripts: Mapping[str, str]) -> list[Entry]:
        site = "site-packages" if noarch else self._python.site_packages
        bin_folder = "python-scripts" if noarch else "bin"
        interpreter = f"{PLACEHOLDER}/bin/python"
        found: dict[str, Entry] = {}
        for name, data, executable in wheel.members():
            path, is_script = self._place(wheel, name, site, bin_folder)
            if path == f"{site}/{wheel.dist_info}/RECORD" or name.endswith((".jws", ".p7s")):
                continue
            if is_script:
                executable = True
                if data.startswith(b"#!python"):
                    _, newline, rest = data.partition(b"\n")
                    data = f"#!{interpreter}".encode() + newline + rest
            found[path] = file_entry(path, data, executable=executable)
        for command, target in scripts.items():
            module, _, function = target.partition(":")
            imported = function.split(".")[0]
            text = _SCRIPT.format(
                python=interpreter, module=module, first=imported, function=function
            )
            found[f"bin/{command}"] = file_entry(f"bin/{command}", text.encode(), executable=True)
        info = f"{site}/{wheel.dist_info}"
        found[f"{info}/INSTALLER"] = Entry(f"{info}/INSTALLER", b"conda\n")
        found[f"{info}/RECORD"] = Entry(f"{info}/RECORD", _record(found, site, info))
        return [found[path] for path in sorted(found)]

    def _place(self, wheel: Wheel, name: str, site: str, bin_folder: str) -> tuple[str, bool]:
        """Where a member goes below the prefix, and whether it is a script."""
        top, _, rest = name.partition("/")
        if top != wheel.dist_info.removesuffix(".dist-info") + ".data":
            return f"{site}/{name}", False
        kind, _, below = rest.partition("/")
        if kind in ("purelib", "platlib"):
            return f"{site}/{below}", False
        if kind == "scripts":
            return f"{bin_folder}/{below}", True
        if kind == "headers":
            return f"include/python{self._python.major_minor}/{wheel.name}/{below}", False
        if kind == "data":
            return below, False
        raise ValueError(f"{wheel.name}: {name} has no place in a prefix")

    def _depends(self, wheel: Wheel, noarch: bool) -> list[str]:
        major, minor = self._python.major_minor.split(".")
        if noarch:
            wanted = str(wheel.metadata.get("Requires-Python", "") or ">=3")
            depends = [_conda_spec("python", SpecifierSet(wanted))]
        else:
            depends = [
                GLIBC_DEPENDS,
                f"python >={major}.{minor},<{major}.{int(minor) + 1}.0a0",
                f"python_abi {major}.{minor}.* *_cp{major}{minor}",
            ]
        wanted_here: dict[str, SpecifierSet] = {}
        self._collect(wheel, frozenset(), wanted_here, set())
        wanted_here.pop(wheel.name, None)
        return depends + [_conda_spec(name, wanted_here[name]) for name in sorted(wanted_here)]

    def _collect(
        self,
        wheel: Wheel,
        extras: frozenset[str],
        found: dict[str, SpecifierSet],
        seen: set[tuple[str, frozenset[str]]],
    ) -> None:
        """Add what a wheel asks for here; with extras, only what they add."""
        if (wheel.name, extras) in seen:
            return
        seen.add((wheel.name, extras))
        for requirement in wheel.requirements:
            if not self._applies(requirement, extras):
                continue
            name = canonicalize_name(requirement.name)
            found[name] = found.get(name, SpecifierSet()) & requirement.specifier
            if requirement.extras:
                for other in self._known.get(name, ()):
                    if requirement.specifier.contains(other.version, prereleases=True):
                        self._collect(other, frozenset(requirement.extras), found, seen)

    def _applies(self, requirement: Requirement, extras: frozenset[str]) -> bool:
        """For extras: only what an extra adds; without: what is always asked for."""
        marker = requirement.marker
        if marker is None:
            return not extras
        plain = marker.evaluate({**self._marker_environment(), "extra": ""})
        if not extras:
            return plain
        return not plain and any(
            marker.evaluate({**self._marker_environment(), "extra": extra}) for extra in extras
        )

    def _marker_environment(self) -> dict[str, str]:
        return {
            "implementation_name": "cpython",
            "implementation_version": self._python.version,
            "os_name": "posix",
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self._python.version,
            "python_version": self._python.major_minor,
            "sys_platform": "linux",
        }


def _conda_spec(name: str, specifiers: SpecifierSet) -> str:
    parts = []
    for specifier in sorted(specifiers, key=str):
        operator, version = specifier.operator, specifier.version
        if operator == "===":
            operator = "=="
        if operator == "==" and version.endswith(".*"):
            operator = ""
        parts.append(f"{operator}{version}")
    return f"{name} {','.join(parts)}" if parts else name


def _console_scripts(wheel: Wheel) -> dict[str, str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(wheel.entry_points)
    found: dict[str, str] = {}
    for section in ("console_scripts", "gui_scripts"):
        if parser.has_section(section):
            for name, target in parser.items(section):
                found[name.strip()] = target.split("[")[0].replace(" ", "")
    return dict(sorted(found.items()))


def _record(found: Mapping[str, Entry], site: str, info: str) -> bytes:
    """RECORD with paths from site-packages, as after installation."""
    rows = []
    for path in sorted(found):
        data = found[path].data
        if path.startswith(f"{site}/"):
            shown = path.removeprefix(f"{site}/")
        else:
            shown = "../../../" + path.replace("python-scripts/", "bin/", 1)
        if found[path].file_mode:
            rows.append((shown, "", ""))
        else:
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
            rows.append((shown, f"sha256={digest.decode()}", str(len(data))))
    rows.append((f"{info.removeprefix(f'{site}/')}/RECORD", "", ""))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(sorted(rows))
    return out.getvalue().encode()


def _license(metadata: Message) -> str:
    text = str(metadata.get("License-Expression") or metadata.get("License") or "")
    return text if len(text) <= 80 and "\n" not in text else ""


def _outside(entries: Iterable[Entry]) -> set[str]:
    """Libraries that the wheel's machine code needs and neither holds nor glibc has."""
    inside: set[str] = set()
    needed: set[str] = set()
    for entry in entries:
        inside.add(entry.path.rpartition("/")[2])
        if is_elf(entry.data):
            elf = read_needs(entry.data)
            needed |= set(elf.needed)
            inside.add(elf.soname)
    return {name for name in needed if name not in inside and not is_glibc(name)}
