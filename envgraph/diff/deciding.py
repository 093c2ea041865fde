"""The smallest set of inputs that explains why two keys differ. Pure.

A hash of a document with many inputs says only that something differs. Here the key is
computed again from the first side's inputs with one of them taken from the second: an
input that differs and leaves the key as it is explains nothing (the order of packages in
the file, for the lock), and the smallest set that explains the other key is what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Inputs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Input:
    """One input that decides: its name, and what it is on each side, for people."""

    name: str
    before: str
    after: str

    def to_json(self) -> dict[str, str]:
        """``name, from, to``."""
        return {"name": self.name, "from": self.before, "to": self.after}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one identity differs. ``idle`` are inputs that differ and have no part in it."""

    identity: str
    same: bool
    before: str
    after: str
    inputs: tuple[Input, ...] = ()
    idle: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """``same, from, to, inputs, idle``."""
        return {
            "same": self.same,
            "from": self.before,
            "to": self.after,
            "inputs": [item.to_json() for item in self.inputs],
            "idle": list(self.idle),
        }


def deciding(
    before: Inputs, after: Inputs, key: Callable[[Inputs], object]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The smallest set of inputs that turns one key into the other; and those that only differ.

    ``key`` computes the identity from all inputs. An input that one side lacks is None
    there. Every input that changes the key on its own is needed; should those not be
    enough together (inputs that only count jointly), the others that differ join them.
    """
    names = list(dict.fromkeys([*before, *after]))
    differing = [name for name in names if before.get(name) != after.get(name)]
    start, goal = key(before), key(after)
    found = [name for name in differing if key(_swapped(before, after, [name])) != start]
    for name in differing:
        if key(_swapped(before, after, found)) == goal:
            break
        if name not in found:
            found.append(name)
    return tuple(found), tuple(name for name in differing if name not in found)


def _swapped(before: Inputs, after: Inputs, names: list[str]) -> Inputs:
    return {**before, **{name: after.get(name) for name in names}}
