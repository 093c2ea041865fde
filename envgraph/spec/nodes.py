"""YAML as marked text: nodes that know their place, and scalars that stay as written.

There are no implicit types: ``3.10`` is the text ``3.10`` and ``no`` is ``no``.
What a scalar means is for the reader of each field to say. What was made in code and
not read from a file (:mod:`envgraph.spec.values`) has no line: ``where`` names its field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = dict.fromkeys(("true", "yes", "on"), True) | dict.fromkeys(
    ("false", "no", "off"), False
)


@dataclass(slots=True, eq=False)
class ScalarNode:
    """A scalar: its text; ``plain`` when it was written without quotes or block marks."""

    value: str
    line: int
    column: int
    plain: bool = True
    where: str = ""

    @property
    def is_null(self) -> bool:
        """Nothing was written, or YAML's null."""
        return self.plain and self.value in _NULLS

    @property
    def boolean(self) -> bool | None:
        """What YAML 1.1 takes as true or false, else None."""
        return _BOOLEANS.get(self.value.lower()) if self.plain else None


@dataclass(slots=True, eq=False)
class ListNode:
    """A sequence, block or flow."""

    items: list[Node]
    line: int
    column: int
    where: str = ""


@dataclass(slots=True, eq=False)
class MapNode:
    """A mapping in the order of the file; keys are scalars and each comes once."""

    pairs: list[tuple[ScalarNode, Node]]
    line: int
    column: int
    index: dict[str, Node] = field(default_factory=dict)
    where: str = ""

    def get(self, key: str) -> Node | None:
        """The value of ``key``; None when it is not there or null."""
        node = self.index.get(key)
        return None if isinstance(node, ScalarNode) and node.is_null else node

    def text(self, key: str) -> str | None:
        """The text of a scalar value, trimmed; None when there is none."""
        node = self.get(key)
        return node.value.strip() if isinstance(node, ScalarNode) else None

    def key(self, name: str) -> ScalarNode | None:
        """The node of the key itself, for pointing at it."""
        return next((key for key, _ in self.pairs if key.value == name), None)

    def __contains__(self, key: str) -> bool:
        return key in self.index

    def __iter__(self) -> Iterator[tuple[ScalarNode, Node]]:
        return iter(self.pairs)


Node = ScalarNode | ListNode | MapNode


def described(node: Node) -> str:
    """``text``, ``a list`` or ``a mapping``, for messages."""
    if isinstance(node, ListNode):
        return "a list"
    return "a mapping" if isinstance(node, MapNode) else "text"
