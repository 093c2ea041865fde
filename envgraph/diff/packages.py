"""What changed between two locks, package by package."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from envgraph.model.locked import LockedPackage

_FIRST_NUMBER: Final = re.compile(r"(?:(\d+)!)?v?(\d+)")


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package that is new (``before`` is None), gone (``after`` is None) or another.

    ``direct``: the user names it; else it came along. ``major``: the first number
    of the version (or the epoch) differs.
    """

    manager: str
    name: str
    before: LockedPackage | None
    after: LockedPackage | None

    @property
    def direct(self) -> bool:
        """The user names it, before or after."""
        return any(p.direct for p in (self.before, self.after) if p is not None)

    @property
    def major(self) -> bool:
        """A jump that may break things: the first number of the version differs."""
        if self.before is None or self.after is None:
            return False
        return _major(self.before.version) != _major(self.after.version)

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    def to_json(self) -> dict[str, object]:
        """``name, from, to, direct, major`` and what tells two builds apart."""
        return {
            "manager": self.manager,
            "name": self.name,
            "from": None if self.before is None else self.before.label(self.after),
            "to": None if self.after is None else self.after.label(self.before),
            "direct": self.direct,
            "major": self.major,
        }


def _major(version: str) -> tuple[str, str]:
    match = _FIRST_NUMBER.match(version)
    return (match.group(1) or "0", match.group(2).lstrip("0")) if match else ("", version)


def compare_packages(
    before: Iterable[LockedPackage], after: Iterable[LockedPackage], *, exact: bool = True
) -> tuple[PackageChange, ...]:
    """Every package whose identity differs, sorted: direct ones first, then by name.

    Without ``exact`` version and build tell: of what an image says no hash is known.
    """
    old = {(p.manager, p.name): p for p in before}
    new = {(p.manager, p.name): p for p in after}
    changes = [
        PackageChange(manager, name, old.get((manager, name)), new.get((manager, name)))
        for manager, name in sorted(old.keys() | new.keys())
    ]
    changed = [
        c
        for c in changes
        if c.before is None or c.after is None or _what(c.before, exact) != _what(c.after, exact)
    ]
    return tuple(sorted(changed, key=lambda c: (not c.direct, c.name, c.manager)))


def _what(package: LockedPackage, exact: bool) -> object:
    return package.identity() if exact else (package.version, package.build)
