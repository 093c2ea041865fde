"""``conda-meta/<name>-<version>-<build>.json``: what makes ``conda list`` work.

It says only what the archive and the lock's identity say. Left out, because it
depends on where and why a package was installed: the address it came from,
``requested_spec``, the package cache's folders, the time. ``url`` has the meaning
that conda gives a channel's name, not the place of a mirror.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from envgraph.image.archive_errors import ArchiveError, Reason
from envgraph.model.locked import LockedPackage

ALIAS: Final = "https://conda.anaconda.org"
"""What conda puts before a channel that is only a name."""

_FROM_INDEX: Final = (
    "arch",
    "constrains",
    "depends",
    "features",
    "license",
    "license_family",
    "noarch",
    "platform",
    "python_site_packages_path",
    "timestamp",
    "track_features",
)


def distribution(package: LockedPackage) -> str:
    """``numpy-2.1.0-py312h_0``, checked to be a file name."""
    name = f"{package.name}-{package.version}-{package.build}"
    if "/" in name or "\0" in name or name.startswith(".") or len(name) > 240:
        raise ArchiveError(Reason.UNSAFE_NAME, "a package cannot be called so", entry=name)
    return name


def check_index(index: Any, package: LockedPackage) -> dict[str, Any]:
    """The archive's ``index.json``, which must be about ``package``."""
    if not isinstance(index, dict):
        raise ArchiveError(Reason.METADATA, "is no object", entry="info/index.json")
    for field in ("name", "version", "build"):
        says = index.get(field)
        if says != getattr(package, field):
            raise ArchiveError(
                Reason.METADATA,
                f"the archive says {field} {says!r:.80}, the lock {getattr(package, field)!r}",
                entry="info/index.json",
                hint=f"was the lockfile edited? `envgraph lock --update {package.name}` locks it "
                "anew, or restore the file from version control",
            )
    return index


def package_record(
    package: LockedPackage,
    index: dict[str, Any],
    *,
    extension: str,
    size: int,
    paths: Sequence[dict[str, object]],
) -> bytes:
    """The record as canonical JSON; ``paths`` in the form of conda's ``paths_data``."""
    file_name = distribution(package) + extension
    channel = package.channel
    address = channel if "://" in channel else f"{ALIAS}/{channel}"
    record: dict[str, object] = {key: index[key] for key in _FROM_INDEX if key in index}
    record.setdefault("depends", [])
    record.setdefault("constrains", [])
    record |= {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": index.get("build_number", package.build_number),
        "subdir": package.subdir,
        "channel": channel,
        "fn": file_name,
        "url": f"{address.rstrip('/')}/{package.subdir}/{file_name}",
        "sha256": package.sha256.hex,
        "size": size,
        "files": [item["_path"] for item in paths],
        "paths_data": {"paths_version": 1, "paths": list(paths)},
    }
    # Without indentation: json's C encoder is ten times faster, and Python's has 10,000 paths.
    return json.dumps(record, sort_keys=True).encode("ascii") + b"\n"
