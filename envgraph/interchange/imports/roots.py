"""Which packages of a lock a person would write down: those that no other one brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from envgraph.model.locked import LockedPackage
from envgraph.spec.match_spec import SELECTOR_PLATFORMS, package_name

Key = tuple[str, str]
"""Manager and name."""

_ALWAYS: Final = ("python", "pip")
"""Written whenever they are locked: everybody looks for them."""


def roots_of(packages: Iterable[LockedPackage]) -> frozenset[Key]:
    """(manager, name) of the packages from which all others follow, and of Python.

    Of packages that need each other in a circle, the first by name is one.
    """
    known: dict[Key, LockedPackage] = {(p.manager, p.name): p for p in packages}
    needs: dict[Key, set[Key]] = {key: _needs(package, known) for key, package in known.items()}
    needed = {target for key, targets in needs.items() for target in targets if target != key}
    found = {key for key in known if key not in needed}
    reached: set[Key] = set()
    _reach(found, needs, reached)
    for key in sorted(known):
        if key not in reached:
            found.add(key)
            _reach({key}, needs, reached)
    found |= {("conda", name) for name in _ALWAYS if ("conda", name) in known}
    return frozenset(found)


def _needs(package: LockedPackage, known: Mapping[Key, LockedPackage]) -> set[Key]:
    names = {package_name(text) for text in package.depends}
    managers = ("conda",) if package.manager == "conda" else ("pip", "conda")
    return {(manager, name) for name in names for manager in managers if (manager, name) in known}


def _reach(
    starts: Iterable[Key],
    needs: Mapping[Key, set[Key]],
    reached: set[Key],
) -> None:
    stack = list(starts)
    while stack:
        key = stack.pop()
        if key not in reached:
            reached.add(key)
            stack += needs[key]


def requirement_lines(
    platforms: Mapping[str, tuple[LockedPackage, ...]],
    roots: Mapping[str, frozenset[Key]],
) -> tuple[list[tuple[str, str]], list[str]]:
    """(selector, conda requirement) and pip requirements, each exact, sorted by name.

    The selector is empty where every platform has the same; of packages that have other
    builds elsewhere the version is written alone.
    """
    conda: list[tuple[str, str]] = []
    pip: dict[str, set[str]] = {}
    names = sorted(
        {name for keys in roots.values() for manager, name in keys if manager == "conda"}
    )
    for name in names:
        of: dict[str, LockedPackage] = {
            platform: package
            for platform, packages in platforms.items()
            for package in packages
            if package.manager == "conda" and package.name == name
        }
        if len(of) == len(platforms) and len({p.version for p in of.values()}) == 1:
            builds = {p.build for p in of.values()}
            first = next(iter(of.values()))
            exact = f"{name}={first.version}={first.build}"
            conda.append(("", exact if len(builds) == 1 else f"{name}=={first.version}"))
            continue
        conda += [(platform, f"{name}={p.version}={p.build}") for platform, p in of.items()]
    for platform, packages in platforms.items():
        for package in packages:
            if package.manager == "pip" and ("pip", package.name) in roots[platform]:
                pip.setdefault(package.name, set()).add(package.version)
    lines = [f"{name}=={version}" for name, found in sorted(pip.items()) for version in found]
    return conda, sorted(lines)


def cannot_be_told_apart(platforms: Iterable[str]) -> list[str]:
    """Platforms that no selector of an environment file names."""
    return sorted(set(platforms) - SELECTOR_PLATFORMS)
