"""Bytes that a step has done, told as progress."""

from __future__ import annotations

from collections.abc import Callable

from envgraph.api.events import Event
from envgraph.model.nodes import Node


class Counter:
    """Adds up the bytes of one step into progress events, one for each fiftieth or MiB."""

    def __init__(self, on_event: Callable[[Event], None], node: Node) -> None:
        self._on_event = on_event
        self._node = node
        self._total = node.size or 0
        self._done = 0
        self._told = 0
        self._stride = max(1 << 20, self._total // 50)

    def __call__(self, count: int) -> None:
        """So many more bytes are done."""
        self._done = min(self._done + count, self._total)
        if self._done - self._told >= self._stride or self._told < self._done == self._total:
            self._told = self._done
            node = self._node
            self._on_event(
                Event("progress", str(node.key), node.kind, node.name, self._done, self._total)
            )
