"""``builder.reach``: which builders a workspace may use. Pure.

A builder outside is never asked, whoever named it: the file, or a variable in somebody's
shell (``DOCKER_HOST``). Entries are alternatives::

    anywhere             every builder (what holds when nothing is said)
    local                programs of this machine, and its unix sockets
    type:NAME            builders of this type, wherever they are
    unix:///PATH         this socket; ``*`` stands for any text
    tcp://HOST[:PORT]    this host, at any port or at one; ``*.DOMAIN`` is every host below it

Names of hosts are compared as they are written: nothing is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from posixpath import normpath
from typing import Final

KEY: Final = "reach"
"""The key beside ``type:`` of ``builder:``; it is envgraph's own and no plugin sees it."""

ANYWHERE: Final = "anywhere"
LOCAL: Final = "local"
_TYPE: Final = re.compile(r"type:([A-Za-z][A-Za-z0-9._-]*)")
_UNIX: Final = re.compile(r"unix://(/[^\s]*)")
_TCP: Final = re.compile(r"tcp://((?:\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?/?")
_HINT: Final = "write local, anywhere, type:NAME, unix:///PATH, or tcp://HOST:PORT (tcp://*.DOMAIN)"


class ReachError(ValueError):
    """No reach; ``hint`` says what one looks like."""

    hint = _HINT


@dataclass(frozen=True, slots=True)
class Reach:
    """The entries as they were written; none at all: nothing may be used."""

    entries: tuple[str, ...] = (ANYWHERE,)

    @classmethod
    def read(cls, value: object) -> Reach:
        """From what the file says: text or a list of it; None: anywhere. ReachError else."""
        if value is None:
            return cls()
        items = value if isinstance(value, list) else [value]
        found = []
        for item in items:
            if not isinstance(item, str) or not _is_entry(item.strip()):
                shown = item if isinstance(item, str) else type(item).__name__
                raise ReachError(f"builder.reach cannot be {str(shown)[:100]!r}")
            found.append(item.strip())
        if not found:
            raise ReachError("builder.reach is empty: no builder could be used")
        return cls(tuple(found))

    @property
    def open(self) -> bool:
        """Every builder may be used."""
        return ANYWHERE in self.entries

    def allows(self, kind: str, address: str) -> bool:
        """Whether a builder of a type, reached at an address, may be used.

        ``address`` is ``unix:///PATH``, ``tcp://HOST:PORT`` or, for a program of this
        machine, its path; empty where it is not known. ``dns://HOST:PORT``, every server that
        a name has, is held to the name.
        """
        return any(_allows(entry, kind, address) for entry in self.entries)

    def outside(self, kind: str, addresses: Iterable[str]) -> tuple[str, ...]:
        """Those of the addresses that may not be used."""
        return tuple(each for each in addresses if not self.allows(kind, each))

    def __str__(self) -> str:
        return ", ".join(self.entries)


def _is_entry(text: str) -> bool:
    return text in (ANYWHERE, LOCAL) or any(
        pattern.fullmatch(text) for pattern in (_TYPE, _UNIX, _TCP)
    )


def _allows(entry: str, kind: str, address: str) -> bool:
    if entry == ANYWHERE:
        return True
    if entry == LOCAL:
        return address.startswith(("/", "unix://"))
    if match := _TYPE.fullmatch(entry):
        return match[1] == kind
    if match := _UNIX.fullmatch(entry):
        place = _UNIX.fullmatch(address)
        return place is not None and fnmatchcase(normpath(place[1]), match[1])
    asked = _TCP.fullmatch(re.sub(r"\Adns://", "tcp://", address.lower()))
    allowed = _TCP.fullmatch(entry.lower())
    if allowed is None or asked is None:
        return False
    if allowed[2] is not None and allowed[2] != asked[2]:
        return False
    if allowed[1].startswith("*."):
        return asked[1].endswith(allowed[1][1:])
    return asked[1] == allowed[1]
