"""conda-lock's own models: the only importer of conda_lock.

Importing it whole takes more than a second, since the package's top imports its solver. So
the models are imported below a top that is empty, which takes a third of it; and this module
is imported only to write a lockfile, or to read one that envgraph did not write as it stands.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from pydantic import ValidationError

from envgraph.model.locked import LockedEnvironment, LockedPackage

_TOP: Final = "conda_lock"


@contextmanager
def _empty_top() -> Iterator[None]:
    """The packages above the models without what their ``__init__`` imports.

    Nothing of that stays: whoever imports conda_lock later gets it whole. Where somebody has
    done so before, that is used.
    """
    spec = None if _TOP in sys.modules else importlib.util.find_spec(_TOP)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    if not folders:
        yield
        return
    for name in (_TOP, f"{_TOP}.lockfile"):
        package = ModuleType(name)
        package.__path__ = [folder + name[len(_TOP) :].replace(".", "/") for folder in folders]
        sys.modules[name] = package
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n == _TOP or n.startswith(f"{_TOP}.")]:
            del sys.modules[name]


with warnings.catch_warnings(), _empty_top():
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
