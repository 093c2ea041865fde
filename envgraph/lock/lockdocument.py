"""The document of a lockfile, key for key as conda-lock's own models write it.

Importing those models takes longer than all of locking, so they do not write. A test
holds what is written here to them: they read it, and write it again unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envgraph.model.locked import LockedEnvironment, LockedPackage


def build_document(
    locks: Sequence[LockedEnvironment],
    channels: Sequence[str],
    sources: Sequence[str],
    custom: Mapping[str, str],
) -> dict[str, Any]:
    """The v1 document of these platforms, in the order in which its keys are written.

    ValueError for a package without an address, which v1 cannot hold.
    """
    created = max((lock.created for lock in locks), default="")
    metadata: dict[str, Any] = {
        "content_hash": {lock.platform: lock.pin_key.hex for lock in locks},
        "channels": [{"url": url, "used_env_vars": []} for url in channels],
        "platforms": [lock.platform for lock in locks],
        "sources": list(sources),
    }
    if created:
        metadata["time_metadata"] = {"created_at": created}
    metadata["custom_metadata"] = dict(custom)
    return {
        "version": 1,
        "metadata": metadata,
        "package": [_package(p, lock.platform) for lock in locks for p in lock.packages],
    }


def _package(package: LockedPackage, platform: str) -> dict[str, Any]:
    hashes = {"sha256": package.sha256.hex}
    if package.manager == "conda":
        hashes = {"md5": package.md5, **hashes}
    if not package.url:
        raise ValueError(f"{package.title} has no address, which conda-lock's format demands")
    values: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "manager": package.manager,
        "platform": platform,
        "dependencies": _dependencies(package),
        "url": package.url,
        "hash": hashes,
    }
    if package.build:
        values["build"] = package.build
    return {**values, "category": "main", "optional": False}


def _dependencies(package: LockedPackage) -> dict[str, str]:
    found: dict[str, str] = {}
    for depend in package.depends:
        name, _, constraint = depend.strip().partition(" ")
        if name in found and constraint and constraint != "*":
            constraint = f"{found[name]},{constraint}".lstrip(",*")
        found[name] = constraint
    return found
