"""Threads, failures and interrupts of the executor, without sleeping."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from envgraph.api.events import Event
from envgraph.apply.executor import Executor, ParallelMap, node_failure
from envgraph.errors import BuildError, FetchError
from envgraph.model.canonical import node_key
from envgraph.model.nodes import Node


@pytest.fixture(autouse=True)
def interrupts_are_heard() -> Iterator[None]:
    """A background job inherits an ignored SIGINT; these tests are about one that is not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def nodes(*names: str) -> list[Node]:
    return [Node(node_key("test", {"name": name}), "conda-package", name) for name in names]


def executor(
    work, settle=lambda close: None, *, threads: int = 2, events: list[Event] | None = None
):
    return Executor(threads, work, settle, (events if events is not None else []).append)


def test_every_node_runs_and_each_generation_is_settled() -> None:
    done: list[str] = []
    settled: list[tuple[int, bool]] = []
    first, second = nodes("a", "b"), nodes("c")
    outcome = executor(
        lambda node: done.append(node.name), lambda close: settled.append((len(done), close))
    ).run([first, second])
    assert set(done[:2]) == {"a", "b"}
    assert done[2] == "c"
    assert [count for count, close in settled if close] == [2, 3]
    assert len(outcome.done) == 3


def test_a_failure_stops_new_starts_and_keeps_what_was_done() -> None:
    events: list[Event] = []
    ran: list[str] = []

    def work(node: Node) -> None:
        ran.append(node.name)
        if node.name == "b":
            raise FetchError("no such file")

    outcome = executor(work, threads=1, events=events).run([nodes("a", "b", "c"), nodes("d")])
    assert ran == ["a", "b"]
    assert [str(k) for k in outcome.failed] == [str(nodes("b")[0].key)]
    assert len(outcome.skipped) == 2
    assert [e.kind for e in events] == ["start", "done", "start", "failed", "skipped", "skipped"]


def test_running_nodes_are_bounded_by_parallelism() -> None:
    gate = threading.Barrier(2)
    running = 0
    most = 0
    lock = threading.Lock()

    def work(node: Node) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(timeout=30)
        with lock:
            running -= 1

    executor(work, threads=2).run([nodes("a", "b", "c", "d")])
    assert most == 2


def test_an_interrupt_finishes_what_runs_and_starts_nothing_new() -> None:
    events: list[Event] = []
    heard = threading.Event()

    def work(node: Node) -> None:
        if node.name == "b":
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            assert heard.wait(timeout=30)

    def on_event(event: Event) -> None:
        events.append(event)
        if event.kind == "message":
            heard.set()

    settled: list[bool] = []
    runner = Executor(1, work, lambda close: settled.append(close), on_event)
    outcome = runner.run([nodes("a", "b", "c"), nodes("d")])
    assert outcome.interrupted
    assert [str(key) for key in outcome.done] == [str(n.key) for n in nodes("a", "b")]
    assert len(outcome.skipped) == 2
    assert settled == [True, True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_leaves_at_once() -> None:
    release = threading.Event()

    def work(node: Node) -> None:
        main = threading.main_thread().ident
        signal.pthread_kill(main, signal.SIGINT)
        signal.pthread_kill(main, signal.SIGINT)
        release.wait(timeout=30)

    def on_event(event: Event) -> None:
        if event.kind == "message":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        Executor(1, work, lambda close: None, on_event).run([nodes("a", "b")])
    release.set()


def test_a_batch_ends_when_enough_was_worked_on_while_others_run() -> None:
    first, second = threading.Event(), threading.Event()
    closed: list[bool] = []

    def work(node: Node) -> None:
        if node.name == "big":
            assert first.wait(timeout=30)
        if node.name == "second":
            second.set()

    def settle(close: bool) -> None:
        closed.append(close)
        if close:
            first.set()

    made = [
        Node(node_key("test", {"name": name}), "conda-package", name, size=size)
        for name, size in (("big", 50), ("small", 30), ("second", 1))
    ]
    Executor(2, work, settle, lambda event: None, batch_bytes=20).run([made])
    assert closed[0] is True  # after "small", while "big" was still running
    assert closed[-1] is True
    assert second.is_set()


def test_a_failure_names_its_node() -> None:
    [node] = nodes("numpy")
    error = node_failure(node, FetchError("the channel answered 404", hint="look again"))
    assert isinstance(error, BuildError)
    [diagnostic] = error.diagnostics
    assert "numpy" in diagnostic.detail
    assert diagnostic.hint == "look again"


def test_a_bug_is_not_dressed_up_as_a_failure() -> None:
    [node] = nodes("numpy")
    with pytest.raises(ZeroDivisionError):
        node_failure(node, ZeroDivisionError("division by zero"))


def test_a_parallel_map_runs_side_by_side_and_keeps_the_order() -> None:
    both = threading.Barrier(2, timeout=30)

    def work(item: int) -> int:
        if item < 2:
            both.wait()  # passes only when two run at once
        return item * 10

    assert ParallelMap(2)(work, range(5)) == [0, 10, 20, 30, 40]
    assert ParallelMap(8)(work, []) == []


def test_a_parallel_map_ends_with_the_first_error_and_starts_nothing_more() -> None:
    started: list[int] = []
    failed = threading.Event()

    def work(item: int) -> int:
        started.append(item)
        if item == 0:
            failed.set()
            raise FetchError("gone")
        failed.wait(30)
        return item

    with pytest.raises(FetchError, match="gone"):
        ParallelMap(1)(work, range(100))
    assert started == [0]
    started.clear()
    failed.clear()
    with pytest.raises(FetchError, match="gone"):
        ParallelMap(2)(work, range(10_000))
    assert len(started) < 10_000


def test_what_is_apart_fails_alone_and_takes_down_only_what_stands_on_it() -> None:
    ran: list[str] = []

    def work(node: Node) -> None:
        ran.append(node.name)
        if node.name == "step":
            raise BuildError("exit code 7")

    step, other = nodes("step", "other")
    image, index, fine = (
        Node(node_key("test", {"name": name}), "image", name, needs)
        for name, needs in (("image", (step.key,)), ("index", ()), ("fine", (other.key,)))
    )
    index = Node(index.key, "image-index", "index", (image.key, fine.key))
    apart = Executor(
        1, work, lambda close: None, lambda event: None, apart=lambda node: node.name == "step"
    )
    outcome = apart.run([[step, other], [image, fine], [index]])
    assert ran == ["step", "other", "fine"]
    assert set(outcome.failed) == {step.key}
    assert set(outcome.skipped) == {image.key, index.key}
    assert not outcome.whole


def test_a_bug_in_what_is_apart_still_ends_all() -> None:
    def work(node: Node) -> None:
        if node.name == "step":
            raise ValueError("a bug")

    step, other = nodes("step", "other")
    apart = Executor(1, work, lambda close: None, lambda event: None, apart=lambda node: True)
    outcome = apart.run([[step], [other]])
    assert set(outcome.skipped) == {other.key}
