"""Several servers as one builder: who builds what, and what happens when one is down."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from envgraph.api import Builder, BuilderError, BuildRequest, Capabilities, Event, Platform
from envgraph.apply.pool import PATIENCE, Pool
from envgraph.apply.servers import Server, rank
from envgraph.errors import EnvgraphError, PlatformError
from envgraph.testing.builder.copying import CopyingBuilder
from envgraph.testing.builder.material import MemoryContext, steps

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
COPY = BuildRequest(AMD64, steps(None, "COPY a /a"), MemoryContext({"a": b"A"}))


def request(affinity: str = "", platform: Platform = AMD64) -> BuildRequest:
    return BuildRequest(platform, COPY.recipe, COPY.context, affinity=affinity)


def down(name: str) -> BuilderError:
    return BuilderError(
        f"nothing answers at {name}", code="builder-down", hint=f"start {name}", retryable=True
    )


class Fake(CopyingBuilder):
    """Builds, unless ``fails`` has something to raise: before it begins, or in the middle."""

    def __init__(self, name: str, *platforms: Platform) -> None:
        super().__init__()
        self.title = f"fake at {name}"
        self.name = name
        self.platforms = platforms or (AMD64,)
        self.asked = 0
        self.tries = 0
        self.is_down = False
        self.dies = 0
        self.fails: Exception | None = None
        self.during: Callable[[], None] = lambda: None

    def capabilities(self) -> Capabilities:
        self.asked += 1
        if self.is_down:
            raise down(self.name)
        return Capabilities(self.platforms, frozenset(), "1")

    @contextmanager
    def build(self, request: BuildRequest, on_event: Any, cancel: Any) -> Iterator[Any]:
        self.tries += 1
        if self.is_down:
            raise down(self.name)
        if self.fails is not None:
            raise self.fails
        self.during()
        if self.dies:
            self.dies -= 1
            on_event(Event("start", "0", "builder-step", "COPY a /a"))
            raise down(self.name)
        with super().build(request, on_event, cancel) as result:
            yield result


@dataclass
class Bench:
    """A pool of fakes with a clock of its own."""

    fakes: list[Fake]
    now: float = 0.0
    pauses: list[float] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    halt: threading.Event = field(default_factory=threading.Event)
    in_pause: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        def wait(halt: Any, seconds: float) -> None:
            self.pauses.append(seconds)
            self.now += seconds
            self.in_pause()

        servers = [Server(fake, fake.title) for fake in self.fakes]
        self.pool = Pool("fake", servers, PATIENCE, lambda: self.now, wait)

    def build(self, wanted: BuildRequest = COPY) -> str:
        """Build; the name of the server that did it."""
        cancel = threading.Event()
        with self.pool.run(wanted, self.events.append, cancel, self.halt) as (server, result):
            assert len(result.layers) == 1
            assert isinstance(server.builder, Fake)
            return server.builder.name

    def failure(self, wanted: BuildRequest = COPY) -> BuilderError:
        with pytest.raises(BuilderError) as caught:
            self.build(wanted)
        return caught.value

    @property
    def tries(self) -> list[int]:
        return [fake.tries for fake in self.fakes]

    def at_rest(self) -> bool:
        return all(server.running == 0 for server in self.pool.servers)


def bench(*names: str) -> Bench:
    return Bench([Fake(name) for name in names])


# Affinity


def test_a_server_more_or_less_moves_only_its_share() -> None:
    keys = [f"environment {number}" for number in range(1000)]
    before = {key: rank(key, ["a", "b", "c"]) for key in keys}
    shares = Counter(order[0] for order in before.values())
    assert all(250 < share < 420 for share in shares.values())
    after = {key: rank(key, ["c", "d", "b", "a"])[0] for key in keys}
    moved = [key for key in keys if after[key] != before[key][0]]
    assert {after[key] for key in moved} == {"d"}
    assert 150 < len(moved) < 350
    without = {key: rank(key, ["a", "c"])[0] for key in keys}
    assert all(without[key] == next(n for n in before[key] if n != "b") for key in keys)


def test_the_order_of_servers_is_the_same_for_ever() -> None:
    assert rank("train", ["tcp://a:1", "tcp://b:1", "tcp://c:1"]) == [
        "tcp://a:1",
        "tcp://b:1",
        "tcp://c:1",
    ]


def test_equal_affinity_is_one_server_and_others_are_spread() -> None:
    desk = bench("a", "b", "c")
    first = {str(n): desk.build(request(str(n))) for n in range(30)}
    assert set(first.values()) == {"a", "b", "c"}
    assert {key: desk.build(request(key)) for key in first} == first
    again = bench("c", "a", "b")
    assert {key: again.build(request(key)) for key in first} == first


def test_affinity_is_no_part_of_what_is_built() -> None:
    assert request("a") == request("b")


def test_builds_run_on_several_servers_at_once() -> None:
    desk = bench("a", "b")
    both = threading.Barrier(2, timeout=60)
    for fake in desk.fakes:
        fake.during = lambda: (both.wait(), None)[1]
    threads = [threading.Thread(target=desk.build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert desk.tries == [1, 1]
    assert desk.at_rest()


def test_a_server_that_is_much_busier_than_another_is_passed_over() -> None:
    desk = bench("a", "b")
    best, other = (f"fake at {n.split()[-1]}" for n in rank("x", [f.title for f in desk.fakes]))
    busy = {server.title: server for server in desk.pool.servers}
    busy[best].running = 3
    assert f"fake at {desk.build(request('x'))}" == best
    busy[best].running = 4
    assert f"fake at {desk.build(request('x'))}" == other
    busy[other].running = 1
    assert f"fake at {desk.build(request('x'))}" == best


# One that is down


def test_another_server_goes_on() -> None:
    desk = bench("a", "b")
    order = rank("x", [fake.title for fake in desk.fakes])
    one, two = sorted(desk.fakes, key=lambda fake: order.index(fake.title))
    one.is_down = True
    assert desk.build(request("x")) == two.name
    assert one.asked == 1
    assert desk.build(request("x")) == two.name
    assert one.asked == 1, "it is left alone for a while"
    desk.now += 1000
    assert desk.build(request("x")) == two.name
    assert one.asked == 2
    one.is_down = False
    desk.now += 1000
    assert desk.build(request("x")) == one.name
    assert desk.pauses == []
    assert desk.pool.remarks() == ()
    assert any("nothing answers at" in event.text for event in desk.events)


def test_one_that_goes_away_in_the_middle() -> None:
    desk = bench("a", "b")
    first = rank("x", ["fake at a", "fake at b"])[0]
    one = next(f for f in desk.fakes if f.title == first)
    one.dies = 1
    assert f"fake at {desk.build(request('x'))}" != first
    assert desk.tries == [1, 1]
    assert desk.at_rest()
    [remark] = desk.pool.remarks()
    assert (remark.code, remark.severity) == ("builder-down", "warning")
    assert remark.summary == f"{first} went away while it ran 1 build"


def test_a_failed_step_is_an_answer() -> None:
    desk = bench("a", "b")
    for fake in desk.fakes:
        fake.fails = BuilderError("exit code 3", code="step-failed", status=3)
    assert desk.failure().status == 3
    assert sum(desk.tries) == 1
    assert desk.pauses == []
    assert desk.at_rest()


@pytest.mark.parametrize("error", [OSError("vanished"), EnvgraphError("of the context")])
def test_what_is_not_of_the_builder_comes_out_as_it_is(error: Exception) -> None:
    desk = bench("a", "b")
    for fake in desk.fakes:
        fake.fails = error
    with pytest.raises(type(error)) as caught:
        desk.build()
    assert caught.value is error
    assert sum(desk.tries) == 1
    assert desk.at_rest()


def test_an_error_while_the_result_is_used_is_not_tried_again() -> None:
    desk = bench("a", "b")
    with (
        pytest.raises(BuilderError),
        desk.pool.build(COPY, desk.events.append, threading.Event()),
    ):
        raise down("the host")
    assert sum(desk.tries) == 1
    assert desk.at_rest()


def test_when_none_answers_each_has_its_own_reason() -> None:
    desk = bench("a", "b")
    for fake in desk.fakes:
        fake.is_down = True
    error = desk.failure()
    assert (error.code, error.retryable) == ("builder-down", True)
    [problem] = error.diagnostics
    assert problem.summary == "none of the 2 servers of fake can be used"
    assert problem.detail.splitlines() == [
        "fake at a: nothing answers at a",
        "fake at b: nothing answers at b",
    ]
    assert "start a" in problem.hint
    assert desk.pauses == [1, 2, 4, 8, 16]
    assert [fake.asked for fake in desk.fakes] == [6, 6]
    desk.failure()
    assert [fake.asked for fake in desk.fakes] == [7, 7], "the next build waits for nothing"
    assert len(desk.pauses) == 5
    desk.fakes[0].is_down = False
    assert desk.build() == "a"


def test_one_address_that_starts_anew() -> None:
    desk = bench("a")
    [fake] = desk.fakes
    fake.dies = 1
    desk.in_pause = lambda: setattr(fake, "is_down", len(desk.pauses) < 3)

    def once() -> None:
        fake.is_down = fake.dies == 1

    fake.during = once
    assert desk.build() == "a"
    assert desk.pauses == [1, 2, 4]
    fake.dies = 1  # it has answered: now it is waited for as before
    desk.pauses.clear()
    assert desk.build() == "a"
    assert desk.pauses == [1, 2, 4]


def test_one_address_that_never_comes_back() -> None:
    desk = bench("a")
    desk.fakes[0].is_down = True
    error = desk.failure()
    assert error.diagnostics[0].summary == "nothing answers at a"
    assert desk.pauses == [1, 2, 4, 8, 16]


def test_the_end_of_the_pause_is_now_when_the_user_ends_it() -> None:
    desk = bench("a")
    desk.fakes[0].is_down = True
    desk.in_pause = desk.halt.set
    assert desk.failure().code == "builder-down"
    assert desk.pauses == [1]
    assert desk.fakes[0].asked == 1
    assert desk.failure().code == "builder-down"
    assert desk.pauses == [1], "nothing is waited for any longer"


def test_the_pause_ends_with_the_event() -> None:
    fake = Fake("a")
    fake.is_down = True
    halt = threading.Event()

    def on_event(event: Event) -> None:
        halt.set()

    pool = Pool("fake", [Server(fake, fake.title)], PATIENCE)
    with (
        pytest.raises(BuilderError, match="nothing answers"),
        pool.run(COPY, on_event, threading.Event(), halt),
    ):
        pass
    assert fake.asked == 1


def test_a_build_that_was_given_up_is_not_tried_elsewhere() -> None:
    desk = bench("a", "b")
    cancel = threading.Event()
    for fake in desk.fakes:
        fake.dies = 1
        fake.during = cancel.set
    with (
        pytest.raises(BuilderError),
        desk.pool.run(COPY, desk.events.append, cancel, desk.halt),
    ):
        pass
    assert sum(desk.tries) == 1


def test_a_build_that_kills_each_server_is_given_up() -> None:
    desk = bench("a", "b", "c", "d", "e")
    for fake in desk.fakes:
        fake.dies = 9
    error = desk.failure()
    assert sum(desk.tries) == 3
    assert (error.code, error.retryable) == ("builder-down", False)
    assert "3 times while this was built" in error.diagnostics[0].summary
    assert "memory" in error.diagnostics[0].hint


# What a server can do


def test_a_request_goes_where_its_platform_is() -> None:
    desk = Bench([Fake("a", AMD64), Fake("b", ARM64), Fake("c", AMD64)])
    assert {desk.build(request(str(n), ARM64)) for n in range(9)} == {"b"}
    assert {desk.build(request(str(n))) for n in range(20)} == {"a", "c"}
    assert desk.pool.capabilities().platforms == (AMD64, ARM64)
    desk = Bench([Fake("a"), Fake("b")])
    error = desk.failure(request(platform=ARM64))
    assert error.code == "builder-lacks"
    assert not error.retryable
    [problem] = error.diagnostics
    assert problem.detail.splitlines() == [
        "fake at a: it does not build for linux/arm64, but for linux/amd64",
        "fake at b: it does not build for linux/arm64, but for linux/amd64",
    ]
    assert desk.tries == [0, 0]


def test_the_only_one_of_a_platform_is_waited_for() -> None:
    desk = Bench([Fake("a", AMD64), Fake("b", ARM64)])
    desk.pool.ask(map)
    desk.fakes[1].dies = 1
    assert desk.build(request(platform=ARM64)) == "b"
    assert desk.pauses == [1]


def test_one_that_never_answered_is_not_waited_for_where_the_others_cannot() -> None:
    desk = Bench([Fake("a", AMD64), Fake("b", ARM64)])
    desk.fakes[1].is_down = True
    desk.pool.ask(map)
    error = desk.failure(request(platform=ARM64))
    assert (error.code, error.retryable) == ("builder-lacks", False)
    assert error.diagnostics[0].detail.splitlines() == [
        "fake at a: it does not build for linux/arm64, but for linux/amd64",
        "fake at b: nothing answers at b",
    ]
    assert desk.pauses == []
    desk.fakes[1].is_down = False
    assert desk.build(request(platform=ARM64)) == "b", "it is tried, though"


def test_what_one_server_lacks_another_may_have() -> None:
    desk = bench("a", "b")
    desk.fakes[0].fails = BuilderError("it is too old", code="builder-lacks")
    assert {desk.build(request(str(n))) for n in range(9)} == {"b"}
    alone = bench("a")
    alone.fakes[0].fails = desk.fakes[0].fails
    assert alone.failure() is desk.fakes[0].fails


def test_all_are_asked_at_first_and_those_that_answer_are_enough() -> None:
    desk = bench("a", "b", "c")
    desk.fakes[1].is_down = True
    desk.pool.ask(map)
    assert desk.pool.title == "fake, 2 of 3 servers answer"
    assert [server.describe() for server in desk.pool.servers] == [
        "fake at a: 1, linux/amd64",
        "fake at b: nothing answers at b",
        "fake at c: 1, linux/amd64",
    ]
    assert {desk.build(request(str(n))) for n in range(20)} == {"a", "c"}
    assert desk.fakes[1].asked == 1
    assert desk.pool.remarks() == ()


def test_a_server_that_refuses_is_never_asked_again() -> None:
    class Closed(Fake):
        def capabilities(self) -> Capabilities:
            self.asked += 1
            raise BuilderError("the certificate is strange", code="builder-refused")

    desk = Bench([Closed("a"), Fake("b")])
    desk.pool.ask(map)
    desk.now += 1000
    assert {desk.build(request(str(n))) for n in range(9)} == {"b"}
    assert desk.fakes[0].asked == 1


def test_a_fault_of_a_plugin_is_one_servers_fault() -> None:
    class Wrong(Fake):
        def capabilities(self) -> Capabilities:
            raise KeyError("no")

    desk = Bench([Wrong("a"), Fake("b")])
    desk.pool.ask(map)
    assert "KeyError" in desk.pool.servers[0].describe()
    alone = Bench([Wrong("a")])
    with pytest.raises(PlatformError, match="a plugin failed"):
        alone.pool.ask(map)


def test_a_pool_is_a_builder() -> None:
    builder: Builder = bench("a").pool
    assert builder.title == "fake at a"
    assert builder.capabilities().version == "1"
