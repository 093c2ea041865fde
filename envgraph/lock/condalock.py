"""conda-lock's own models: the only importer of conda_lock.

Importing it takes more than a second, so this module is imported only to write
a lockfile, or to read one that envgraph did not write as it stands.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from envgraph.model.locked import LockedEnvironment, LockedPackage

with warnings.catch_warnings():
    # conda-lock's vendored conda warns of its own deprecations; that is not our user's affair.
    warnings.simplefilter("ignore")
    from conda_lock.lockfile.v1.models import (
        HashModel,
        LockedDependency,
        Lockfile,
        LockMeta,
        TimeMeta,
    )
    from conda_lock.models.channel import Channel


def _split(depend: str) -> tuple[str, str]:
    name, _, constraint = depend.strip().partition(" ")
    return name, constraint


def _dependencies(package: LockedPackage) -> dict[str, str]:
    found: dict[str, str] = {}
    for depend in package.depends:
        name, constraint = _split(depend)
        if name in found and constraint and constraint != "*":
            constraint = f"{found[name]},{constraint}".lstrip(",*")
        found[name] = constraint
    return found


def _dependency(package: LockedPackage, platform: str) -> LockedDependency:
    values: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "manager": package.manager,
        "platform": platform,
        "dependencies": _dependencies(package),
        "url": package.url,
        "hash": HashModel(
            **({"md5": package.md5} if package.manager == "conda" else {}),
            sha256=package.sha256.hex,
        ),
        "category": "main",
        "optional": False,
    }
    if package.build:
        values["build"] = package.build
    return LockedDependency(**values)


def build_document(
    locks: Sequence[LockedEnvironment],
    channels: Sequence[str],
    sources: Sequence[str],
    custom: Mapping[str, str],
) -> dict[str, Any]:
    """The v1 document of these platforms, checked by the models on the way."""
    created = max((lock.created for lock in locks), default="")
    lockfile = Lockfile(
        version=1,
        package=[_dependency(p, lock.platform) for lock in locks for p in lock.packages],
        metadata=LockMeta(
            content_hash={lock.platform: lock.pin_key.hex for lock in locks},
            channels=[Channel(url=url, used_env_vars=()) for url in channels],
            platforms=[lock.platform for lock in locks],
            sources=list(sources),
            time_metadata=TimeMeta(created_at=created) if created else None,
            custom_metadata=dict(custom),
        ),
    )
    document: dict[str, Any] = lockfile.dict_for_output()
    return document


def check_document(document: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """What conda-lock's models object to, as (path, message); empty when nothing."""
    try:
        Lockfile.model_validate(dict(document))
    except ValidationError as error:
        return [
            (tuple(item["loc"]), item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Its validators look at keys before they were checked, and do not say of which package.
        return [((), f"conda-lock cannot read it: {type(error).__name__}: {error}")]
    return []
