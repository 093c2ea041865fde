"""What a builder makes is made by one process at a time, and so once in a store.

Two applies of different environments may need the same step at the same moment, and a step
can take an hour. The second one waits, and takes what the first one made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from envgraph.api.events import Event
from envgraph.errors import BuildError
from envgraph.model.nodes import Node
from envgraph_store import Store
from envgraph_store.errors import StoreLocked

if TYPE_CHECKING:
    from envgraph.api.builder import Cancel

_LOOK: Final = 0.5
"""Seconds of waiting between looks at whether it was cancelled."""


@contextmanager
def alone(
    store: Store, node: Node, cancel: Cancel, on_event: Callable[[Event], None]
) -> Iterator[None]:
    """Hold the node's file lock; who has to wait is told for whom, once.

    It waits as long as the other one lives: a killed process holds nothing. BuildError
    ``cancelled`` when ``cancel`` is set meanwhile.
    """
    told = False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(
                    store.file_lock(
                        f"step-{node.key}", purpose=f"building {node.name}", timeout=_LOOK
                    )
                )
                break
            except StoreLocked as error:
                if cancel.is_set():
                    raise BuildError("cancelled while waiting", code="cancelled") from error
                if not told:
                    text = f"waiting for {error.holder}"
                    on_event(Event("message", str(node.key), node.kind, node.name, text=text))
                    told = True
        yield
