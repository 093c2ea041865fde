"""The one place with threads: runs the nodes of a plan, generation by generation.

A failure stops new starts; what runs is finished, what was built is kept. The
first Ctrl-C does the same; a second one leaves at once. The executor knows
nothing of what a node is: ``work`` does it, ``settle`` makes a batch durable.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Final, TypeVar

from envgraph.api.events import Event
from envgraph.errors import BuildError, Diagnostic, EnvgraphError
from envgraph.model.canonical import NodeKey
from envgraph.model.nodes import Node
from envgraph_store.errors import StoreError

_In = TypeVar("_In")
_Out = TypeVar("_Out")
_LISTEN: Final = 0.2
"""Seconds between looks at whether a signal came. A handler may not print: it may
have interrupted a print."""


@dataclass(slots=True)
class Outcome:
    """What became of each node. ``interrupted``: Ctrl-C ended it early."""

    done: list[NodeKey] = field(default_factory=list)
    failed: dict[NodeKey, Exception] = field(default_factory=dict)
    skipped: list[NodeKey] = field(default_factory=list)
    interrupted: bool = False
    nodes: dict[NodeKey, Node] = field(default_factory=dict)
    """The nodes that failed."""

    ended: bool = False
    """A node failed whose failure ends all of it."""

    @property
    def stops(self) -> bool:
        """Nothing new is started."""
        return self.ended or self.interrupted

    @property
    def whole(self) -> bool:
        """Everything was done."""
        return not self.failed and not self.interrupted


class Executor:
    """Runs nodes on a bounded number of threads that it owns."""

    def __init__(
        self,
        parallelism: int,
        work: Callable[[Node], None],
        settle: Callable[[bool], None],
        on_event: Callable[[Event], None],
        *,
        batch_bytes: int = 256 << 20,
        apart: Callable[[Node], bool] = lambda node: False,
        on_interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        """Bind; no thread is started yet.

        ``settle(close)`` is called from the calling thread: with True when nothing runs,
        after each generation; else after every few nodes while others run, with True
        when ``batch_bytes`` of input were worked on. ``on_event`` may be called from
        any thread: see :func:`one_at_a_time`. A node that is ``apart`` fails alone: only
        what stands on it is skipped. ``on_interrupt`` is called once after the first
        Ctrl-C, in the calling thread: what only waits may end then.
        """
        self._on_interrupt = on_interrupt
        self._apart = apart
        self._parallelism = max(1, parallelism)
        self._work = work
        self._settle = settle
        self.emit = on_event
        self._batch_bytes = batch_bytes

    def run(self, generations: Sequence[Sequence[Node]]) -> Outcome:
        """Run every node; nodes that stand on a failed one are skipped, not tried.

        Called from the main thread, it takes the first SIGINT, SIGTERM or SIGHUP as
        "finish what runs, start nothing more"; the second one is raised as always.
        """
        outcome = Outcome()
        pool = ThreadPoolExecutor(self._parallelism, thread_name_prefix="envgraph-apply")
        gently = False
        try:
            with self._gentle_interrupts(outcome):
                for generation in generations:
                    self._run_generation(pool, generation, outcome)
            gently = True
        finally:
            pool.shutdown(wait=gently, cancel_futures=True)
        return outcome

    @contextmanager
    def _gentle_interrupts(self, outcome: Outcome) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before: dict[int, Callable[[int, FrameType | None], object]] = {}

        def handle(number: int, frame: FrameType | None) -> None:
            first = not outcome.interrupted
            outcome.interrupted = True
            try:
                before[number](number, frame)
            except KeyboardInterrupt:
                if not first:
                    raise

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            if callable(handler):
                before[number] = handler
                signal.signal(number, handle)
        try:
            yield
        finally:
            for taken, previous in before.items():
                signal.signal(taken, previous)

    def _run_generation(
        self, pool: ThreadPoolExecutor, generation: Sequence[Node], outcome: Outcome
    ) -> None:
        waiting = sorted(generation, key=lambda node: -(node.size or 0))
        running: dict[Future[None], Node] = {}
        unsettled = 0
        told = False
        while waiting or running:
            while waiting and len(running) < self._parallelism:
                node = waiting.pop(0)
                if outcome.stops or self._stands_on_failure(node, outcome):
                    outcome.skipped.append(node.key)
                    self.emit(Event("skipped", str(node.key), node.kind, node.name))
                    continue
                self.emit(Event("start", str(node.key), node.kind, node.name))
                running[pool.submit(self._work, node)] = node
            finished, _ = wait(running, timeout=_LISTEN, return_when=FIRST_COMPLETED)
            if outcome.interrupted and not told:
                told = True
                self._on_interrupt()
                self.emit(Event("message", text="interrupted: finishing the running steps"))
            for future in finished:
                node = running.pop(future)
                unsettled += node.size or 0
                self._finish(node, future, outcome)
            full = unsettled > self._batch_bytes
            unsettled = 0 if full else unsettled
            if finished and running:
                self._settle(full)
        self._settle(True)

    @staticmethod
    def _stands_on_failure(node: Node, outcome: Outcome) -> bool:
        return any(need in outcome.failed or need in outcome.skipped for need in node.needs)

    def _finish(self, node: Node, future: Future[None], outcome: Outcome) -> None:
        error = future.exception()
        if error is None:
            outcome.done.append(node.key)
            self.emit(Event("done", str(node.key), node.kind, node.name))
            return
        if not isinstance(error, Exception):
            raise error
        outcome.failed[node.key] = error
        if not (self._apart(node) and isinstance(error, EnvgraphError)):
            outcome.ended = True
        outcome.nodes[node.key] = node
        self.emit(Event("failed", str(node.key), node.kind, node.name, text=str(error)))


class ParallelMap:
    """``map`` over threads of its own: the results in the order of the items.

    After an error nothing new is started; what runs is finished first.
    """

    def __init__(self, workers: int) -> None:
        """Take at most ``workers`` items at a time."""
        self._workers = max(1, workers)

    def __call__(self, function: Callable[[_In], _Out], items: Iterable[_In], /) -> list[_Out]:
        """Call ``function`` with each item; the first error, in their order, is raised."""
        todo = list(items)
        if len(todo) < 2 or self._workers == 1:
            return [function(item) for item in todo]
        futures: list[Future[_Out]] = []
        running: set[Future[_Out]] = set()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="envgraph-map") as pool:
            for item in todo:
                if len(running) >= self._workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    if any(future.exception() for future in done):
                        break
                futures.append(pool.submit(function, item))
                running.add(futures[-1])
        return [future.result() for future in futures]


def one_at_a_time(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """The same listener for any number of threads; events never overlap."""
    lock = threading.Lock()

    def emit(event: Event) -> None:
        with lock:
            on_event(event)

    return emit


_DOING: Final[dict[str, str]] = {
    "pull": "while pulling",
    "push": "while pushing",
    "question": "while asking for",
    "transfer": "while moving",
}


def node_failure(node: Node, error: Exception) -> EnvgraphError:
    """An error of ours with the node that it happened in; a bug is handed on as it is."""
    if isinstance(error, EnvgraphError):
        place = f"{_DOING.get(node.kind, f'while building {node.kind}')} {node.name}"
        diagnostics = tuple(
            Diagnostic(
                d.code,
                d.summary,
                f"{d.detail}\n{place}" if d.detail else place,
                d.source,
                d.hint,
                d.severity,
            )
            for d in error.diagnostics
        )
        failure = BuildError(diagnostics)
        failure.exit_code = error.exit_code
        return failure
    if isinstance(error, StoreError | OSError):
        return BuildError(
            f"{node.kind} {node.name}: {error}",
            hint=getattr(error, "hint", "") or "the next apply continues from here",
        )
    raise error
