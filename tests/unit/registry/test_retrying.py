"""Retries, resumption and verification around a repository that misbehaves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pytest

from envgraph.api import Descriptor, Digest, RegistryError
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph.testing.registry.memory import MemoryRegistry, MemoryRepository

DATA = bytes(range(256)) * 1000
DIGEST = Digest.of(DATA)


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def policy(self, tries: int = 5) -> Policy:
        return Policy(tries, sleep=self.sleep, clock=lambda: self.now)


class Body(io.BytesIO):
    """Ends early, or takes its time."""

    def __init__(self, data: bytes, clock: Clock, seconds: float = 0) -> None:
        super().__init__(data)
        self.clock, self.seconds = clock, seconds

    def read(self, size: int | None = -1, /) -> bytes:
        self.clock.now += self.seconds
        return super().read(size)


class Odd(MemoryRepository):
    """Gives prepared bodies instead of the blob; an error among them is raised."""

    def __init__(self, bodies: list[BinaryIO | Exception]) -> None:
        super().__init__(MemoryRegistry(), "odd")
        self.bodies = bodies
        self.offsets: list[int] = []

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        self.offsets.append(offset)
        body = self.bodies.pop(0)
        if isinstance(body, Exception):
            raise body
        yield body


def read(repository: MemoryRepository, clock: Clock, tries: int = 5) -> bytes:
    wrapped = RetryingRepository(repository, clock.policy(tries))
    with wrapped.open_blob(DIGEST, len(DATA)) as body:
        return body.read()


def down() -> RegistryError:
    return RegistryError("down", code="registry-down", retryable=True)


def test_a_body_that_breaks_off_goes_on_where_it_ended() -> None:
    clock = Clock()
    odd = Odd([Body(DATA[:1000], clock), down(), Body(DATA[1000:], clock)])
    assert read(odd, clock) == DATA
    assert odd.offsets == [0, 1000, 1000]
    assert clock.pauses == [0.5, 1.0]


def test_without_ranges_it_begins_again_and_compares() -> None:
    clock = Clock()
    refusal = RegistryError("no ranges", code="registry-unsupported")
    odd = Odd([Body(DATA[:1000], clock), refusal, Body(DATA, clock)])
    assert read(odd, clock) == DATA
    assert odd.offsets == [0, 1000, 0]
    changed = b"x" + DATA[1:]
    with pytest.raises(IntegrityError, match="a moment ago"):
        read(Odd([Body(DATA[:1000], clock), refusal, Body(changed, clock)]), clock)


@pytest.mark.parametrize("body", [DATA[:-1] + b"x", DATA + b"x", b"<html>" + DATA[6:]])
def test_wrong_bytes_are_refused_before_the_end(body: bytes) -> None:
    clock = Clock()
    with pytest.raises(IntegrityError, match=str(DIGEST)):
        read(Odd([Body(body, clock)]), clock)


def test_short_bodies_end_after_the_last_try() -> None:
    clock = Clock()
    with pytest.raises(RegistryError, match="ended after 0 of"):
        read(Odd([Body(b"", clock) for _ in range(3)]), clock, tries=3)


def test_an_endless_trickle_is_broken_off() -> None:
    clock = Clock()

    class Trickle(Body):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(1)

    with pytest.raises(RegistryError, match="bytes came in"):
        read(Odd([Trickle(DATA, clock, seconds=60)]), clock)


def test_an_absent_blob_is_not_tried_again() -> None:
    clock = Clock()
    with pytest.raises(NotFoundError):
        read(MemoryRegistry().repository("empty"), clock)
    assert clock.pauses == []


def test_a_pause_that_the_registry_asks_for_is_kept_and_bounded() -> None:
    clock = Clock()
    answers = [RegistryError("busy", retryable=True, retry_after=s) for s in (7, 20)]

    def call() -> str:
        if answers:
            raise answers.pop(0)
        return "done"

    assert clock.policy().run(call) == "done"
    assert clock.pauses == [7, 20]
    answers = [RegistryError("busy", retryable=True, retry_after=3600)]
    with pytest.raises(RegistryError):
        clock.policy().run(call)
    assert clock.pauses == [7, 20]


def test_a_push_opens_its_source_for_each_try() -> None:
    clock = Clock()
    opened: list[io.BytesIO] = []

    class Flaky(MemoryRepository):
        def push_blob(self, descriptor: Descriptor, source: object) -> None:
            super().push_blob(descriptor, source)  # type: ignore[arg-type]
            if len(opened) < 3:
                raise down()

    def source() -> io.BytesIO:
        opened.append(io.BytesIO(DATA))
        return opened[-1]

    flaky = Flaky(MemoryRegistry(), "flaky")
    RetryingRepository(flaky, clock.policy()).push_blob(
        Descriptor("application/octet-stream", DIGEST, len(DATA)), source
    )
    assert len(opened) == 3
    assert all(body.closed for body in opened)
    assert flaky.missing([DIGEST]) == frozenset()


@pytest.mark.parametrize("fault", [KeyError("host"), AssertionError(), SystemExit(3)])
def test_a_fault_of_a_plugin_ends_what_was_asked_and_no_more(fault: BaseException) -> None:
    """RELIABILITY 79. It is told as the plugin's, and not tried again."""
    clock = Clock()

    class Faulty(MemoryRepository):
        def resolve(self, reference: str) -> Descriptor | None:
            raise fault

    faulty = RetryingRepository(Faulty(MemoryRegistry(), "faulty"), clock.policy())
    with pytest.raises(RegistryError, match="plugin failed") as caught:
        faulty.resolve("tag")
    assert caught.value.diagnostics[0].code == "plugin"
    assert clock.pauses == []
    with pytest.raises(RegistryError, match="plugin failed"):
        read(Odd([Broken(fault)]), clock)


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt(), MemoryError()])
def test_what_is_no_plugin_s_fault_passes(error: BaseException) -> None:
    def call() -> str:
        raise error

    with pytest.raises(type(error)):
        Clock().policy().run(call)


class Broken(io.BytesIO):
    """A body whose reading raises."""

    def __init__(self, fault: BaseException) -> None:
        super().__init__(DATA)
        self.fault = fault

    def read(self, size: int | None = -1, /) -> bytes:
        raise self.fault
