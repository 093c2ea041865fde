"""Write a wheel into a prefix, by PyPA's ``installer``, without running its Python."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final

from envgraph.errors import IntegrityError
from envgraph.model.locked import LockedPackage

_SCRIPT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_OBJECT: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?")
_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})


def check_names(names: list[str], title: str) -> None:
    """Refuse members that would leave the prefix."""
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise IntegrityError(
                f"{title}: the wheel holds the path {name!r}", code="wheel-escapes"
            )


def check_entry_points(text: str, title: str) -> None:
    """Refuse scripts whose name or target is not what a script's may be."""
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section in ("console_scripts", "gui_scripts") and line and line[0] not in "#;":
            name, _, target = (part.strip() for part in line.partition("="))
            target = target.partition("[")[0].strip()
            if not _SCRIPT.fullmatch(name) or not _OBJECT.fullmatch(target.replace(" ", "")):
                raise IntegrityError(
                    f"{title}: the entry point {line!r} is not a script", code="wheel-entry-point"
                )


def check_wheel(path: Path, title: str) -> None:
    """Refuse a wheel that could be locked and not be installed: see :func:`install_wheel`.

    Raises IntegrityError. Every file is read once and compared with RECORD.
    """
    import zipfile

    from installer.exceptions import InstallerError
    from installer.records import parse_record_file
    from installer.sources import WheelFile

    try:
        with zipfile.ZipFile(path) as opened:
            check_names(opened.namelist(), title)
            opened.filename = path.name  # for messages: the folder is a temporary one
            source = WheelFile(opened)
            source.validate_record(validate_contents=True)
            lines = source.read_dist_info("RECORD").splitlines()
            hashes = {hashed.partition("=")[0] for _, hashed, _ in parse_record_file(lines)}
            if weak := hashes - _HASHES - {""}:
                raise ValueError(f"RECORD uses {', '.join(sorted(weak))}")
            if "entry_points.txt" in source.dist_info_filenames:
                check_entry_points(source.read_dist_info("entry_points.txt"), title)
    except (InstallerError, zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        issues = getattr(error, "issues", None) or [f"{type(error).__name__}: {error}"]
        raise IntegrityError(
            f"{title}: {path.name} is no whole wheel, and could not be installed",
            code="wheel-invalid",
            detail="\n".join(map(str, issues[:5])),
            hint="RECORD in a wheel lists every file with size and sha256: setuptools, hatchling "
            "and the other usual build backends write it so",
        ) from None


def install_wheel(
    archive: Path,
    package: LockedPackage,
    prefix: Path,
    prefix_in_files: str,
    site_packages: str,
    python: str,
) -> None:
    """Install ``archive`` below ``prefix``; shebangs name ``prefix_in_files``.

    Every member is checked against the wheel's RECORD. A path that is there already
    is an error: wheels are installed after conda packages, which own it.
    """
    import zipfile

    from installer import install
    from installer.destinations import SchemeDictionaryDestination
    from installer.exceptions import InstallerError
    from installer.sources import WheelFile

    version = ".".join(python.split(".")[:2])
    if not site_packages:
        raise IntegrityError(f"{package.title}: the lock has no Python to install it for")
    try:
        with zipfile.ZipFile(archive) as opened:
            check_names(opened.namelist(), package.title)
            # installer reads a wheel's name from its file's name; ours is its digest.
            opened.filename = str(archive.parent / package.file_name)
            source = WheelFile(opened)
            source.validate_record(validate_contents=True)
            if "entry_points.txt" in source.dist_info_filenames:
                check_entry_points(source.read_dist_info("entry_points.txt"), package.title)
            site = prefix / site_packages
            destination = SchemeDictionaryDestination(
                {
                    "purelib": str(site),
                    "platlib": str(site),
                    "scripts": str(prefix / "bin"),
                    "data": str(prefix),
                    "headers": str(prefix / "include" / f"python{version}" / package.name),
                },
                interpreter=f"{prefix_in_files}/bin/python{version}",
                script_kind="posix",
                bytecode_optimization_levels=(),
            )
            install(source, destination, {"INSTALLER": b"envgraph\n"})
    except FileExistsError as error:
        path = Path(str(error.args[0]).removeprefix("File already exists: "))
        shown = path.relative_to(prefix) if path.is_relative_to(prefix) else path
        raise IntegrityError(
            f"{package.title}: {shown} belongs to another package too", code="clobber"
        ) from None
    except (InstallerError, zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise IntegrityError(
            f"{package.title}: the wheel cannot be installed",
            code="wheel-invalid",
            detail=f"{type(error).__name__}: {error}",
        ) from None
