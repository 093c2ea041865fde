"""What a shell may offer: verbs, flags and operands with the kind of each value."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from envgraph.cli import verbs
from envgraph.cli.arguments import COMMON
from envgraph.cli.options import Flag, Operand, Signature

Kind = Literal["words", "file", "folder", "environment", "other"]

_BY_NAME: Final[dict[str, Kind]] = {
    "DIR": "folder",
    "FILE": "file",
    "PATH": "file",
    "PLANFILE": "file",
    "REF": "environment",
}
_ENVIRONMENT_FLAGS: Final = frozenset({"--target", "--replace"})
"""Flags whose NAME is that of an environment."""


@dataclass(frozen=True, slots=True)
class Value:
    """What stands for a value: one of ``words``, a path, an environment, or anything."""

    kind: Kind
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb as shells see it. ``rest``: it takes a command after ``--``."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    operands: tuple[Operand, ...]
    rest: bool


def all_verbs() -> list[Verb]:
    """Every verb in the order of the help; imports all of them."""
    found = []
    for name, summary in verbs.VERBS.items():
        module = importlib.import_module(verbs.module_of(name))
        signature: Signature = module.SIGNATURE
        flags = tuple(flag for flag in signature.flags if not flag.hidden)
        found.append(Verb(name, summary, flags, signature.operands, bool(signature.rest)))
    return found


def value_of(item: Flag | Operand) -> Value | None:
    """What a flag's value or an operand may be; None for a switch."""
    if isinstance(item, Flag) and not item.value:
        return None
    if item.choices:
        return Value("words", item.choices)
    if isinstance(item, Operand):
        return Value(_BY_NAME.get(item.name, "other"))
    if item.name in _ENVIRONMENT_FLAGS:
        return Value("environment")
    return Value(_BY_NAME.get(item.value, "other"))


def offered(flags: Sequence[Flag]) -> list[str]:
    """The spellings that are worth offering: long ones, and those that have no other."""
    found = []
    for flag in flags:
        long = [s for s in flag.spellings if s.startswith("--")]
        found += long or list(flag.spellings)
    return found


COMMON_FLAGS: Final = tuple(flag for flag in COMMON if not flag.hidden)
