"""Every fault of the kit meets the host's wrapper: it survives, or refuses, and says why."""

from __future__ import annotations

import pytest

from envgraph.api import Digest, Registry, RegistryError
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph.testing.registry import faults
from envgraph.testing.registry.contract import RegistryContract
from envgraph.testing.registry.faults import ALWAYS
from envgraph.testing.registry.faulty import Fault, FaultyRegistry
from envgraph.testing.registry.material import (
    OCI_IMAGE_MANIFEST,
    Source,
    described,
    image,
    patterned,
    push,
    read_blob,
)
from envgraph.testing.registry.memory import MemoryRegistry

DATA = patterned(300_000)
BLOB = described(DATA)


class TestWithoutFaults(RegistryContract):
    @pytest.fixture
    def registry(self) -> Registry:
        return FaultyRegistry(MemoryRegistry())


class TestWrapped(RegistryContract):
    """The host's wrapper keeps the contract of what it wraps."""

    @pytest.fixture
    def registry(self) -> Registry:
        class Wrapping(MemoryRegistry):
            def repository(self, name: str) -> RetryingRepository:  # type: ignore[override]
                return RetryingRepository(super().repository(name), Policy())

        return Wrapping()


class Scene:
    """A registry with one blob and one tag, faults before it, and a clock of its own."""

    def __init__(self, *spoiled: Fault, tries: int = 5) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.true = MemoryRegistry().repository("app")
        push(self.true, DATA)
        self.manifest = image(self.true, "first")
        self.true.put_manifest("1.0", self.manifest, OCI_IMAGE_MANIFEST)
        self.faulty = FaultyRegistry(self.true._registry, *spoiled)
        policy = Policy(tries, sleep=self.sleep, clock=lambda: self.now)
        self.repository = RetryingRepository(self.faulty.repository("app"), policy)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def wait(self, seconds: float) -> None:
        self.now += seconds


def code(caught: pytest.ExceptionInfo[RegistryError]) -> str:
    return caught.value.diagnostics[0].code


# -- bodies


@pytest.mark.parametrize(
    "spoiled",
    [
        [faults.cut(0)],
        [faults.cut(1000)],
        [faults.cut(1000), faults.cut(1000, at=2), faults.breaks(5, at=3)],
        [faults.breaks(0)],
        [faults.breaks(299_999)],
        [faults.down("open_blob", times=4)],
        [faults.busy("open_blob", 20)],
        [faults.denied("open_blob", expired=True)],
        [faults.breaks(1000), faults.no_ranges()],
        [faults.breaks(1000), faults.denied("open_blob", expired=True, at=2)],
    ],
)
def test_bodies_that_break_off_are_read_to_the_end(spoiled: list[Fault]) -> None:
    scene = Scene(*spoiled)
    assert read_blob(scene.repository, BLOB) == DATA
    assert scene.pauses


@pytest.mark.parametrize("size", [1, 65_536, 300_000])
def test_a_body_that_breaks_after_its_last_byte_is_whole(size: int) -> None:
    scene = Scene(faults.breaks(size))
    descriptor = push(scene.true, DATA[:size])
    assert read_blob(scene.repository, descriptor) == DATA[:size]
    assert scene.pauses == []


@pytest.mark.parametrize(
    "spoiled",
    [
        [faults.wrong_byte(0)],
        [faults.wrong_byte(299_999)],
        [faults.longer()],
        [faults.endless()],
        [faults.cut(1000), faults.wrong_byte(0, at=2)],
        [faults.breaks(1000), faults.endless(at=2)],
        [faults.breaks(1000), faults.no_ranges(at=2, times=1), faults.wrong_byte(0, at=3)],
    ],
)
def test_wrong_bytes_are_refused_and_not_tried_again(spoiled: list[Fault]) -> None:
    scene = Scene(*spoiled)
    with pytest.raises(IntegrityError, match=str(BLOB.digest)):
        read_blob(scene.repository, BLOB)
    assert scene.faulty.calls.count("open_blob") == len(spoiled)


@pytest.mark.parametrize(
    ("spoiled", "expected"),
    [
        (faults.cut(0, times=ALWAYS), "registry-down"),
        (faults.down("open_blob", times=ALWAYS), "registry-down"),
        (faults.denied("open_blob"), "registry-denied"),
        (faults.denied("open_blob", expired=True, times=ALWAYS), "registry-denied"),
        (faults.busy("open_blob", 3600), "registry-down"),
    ],
)
def test_what_does_not_get_better_is_given_up(spoiled: Fault, expected: str) -> None:
    scene = Scene(spoiled, tries=3)
    with pytest.raises(RegistryError) as caught:
        read_blob(scene.repository, BLOB)
    assert code(caught) == expected
    assert scene.faulty.calls.count("open_blob") <= 3


def test_a_trickle_is_broken_off_in_bounded_time() -> None:
    scene = Scene()
    scene.faulty.faults.append(faults.slow(scene.wait, 60, piece=1))
    with pytest.raises(RegistryError, match="bytes came in"):
        read_blob(scene.repository, BLOB)
    assert scene.now <= 180


def test_a_slow_body_that_gets_on_is_waited_for() -> None:
    scene = Scene()
    scene.faulty.faults.append(faults.slow(scene.wait, 10, piece=30_000))
    assert read_blob(scene.repository, BLOB) == DATA
    assert scene.now == 100


# -- manifests


@pytest.mark.parametrize("data", [b"<html>busy</html>", b"{}", b""])
def test_a_manifest_under_a_digest_that_is_not_its_own_is_refused(data: bytes) -> None:
    for reference in ("1.0", None):
        scene = Scene(faults.other_manifest(data))
        with pytest.raises(IntegrityError):
            scene.repository.get_manifest(reference or str(Digest.of(scene.manifest)))


def test_another_manifest_than_the_digest_asked_for_is_refused() -> None:
    scene = Scene()
    other = image(scene.true, "other")
    scene.faulty.faults.append(faults.other_manifest(other, honest=True))
    with pytest.raises(IntegrityError):
        scene.repository.get_manifest(str(Digest.of(scene.manifest)))


@pytest.mark.parametrize("method", ["resolve", "get_manifest"])
@pytest.mark.parametrize("fault", [faults.down, lambda method: faults.denied(method, expired=True)])
def test_questions_are_asked_again(method: str, fault: object) -> None:
    scene = Scene(fault(method))  # type: ignore[operator]
    getattr(scene.repository, method)("1.0")
    assert scene.faulty.calls == [method, method]


def test_a_tag_that_moves_between_two_questions_is_seen() -> None:
    scene = Scene()
    other = image(scene.true, "moved")
    planned = scene.repository.resolve("1.0")
    assert planned is not None
    scene.faulty.faults.append(
        faults.before(
            "get_manifest", lambda inner: inner.put_manifest("1.0", other, OCI_IMAGE_MANIFEST)
        )
    )
    assert scene.repository.get_manifest("1.0").digest != planned.digest
    assert scene.repository.get_manifest(str(planned.digest)).data == scene.manifest


def test_a_tag_that_vanishes_is_not_found_and_not_asked_for_again() -> None:
    scene = Scene(faults.before("get_manifest", lambda inner: inner.delete("1.0")))
    with pytest.raises(NotFoundError):
        scene.repository.get_manifest("1.0")
    assert scene.pauses == []


def test_a_size_that_lies_is_told_apart_from_the_bytes() -> None:
    """``resolve`` is a hint: who fetches compares with the bytes."""
    scene = Scene(faults.lying_size(7))
    said = scene.repository.resolve("1.0")
    assert said is not None
    assert said.size == 7
    assert scene.repository.get_manifest("1.0").descriptor.size == len(scene.manifest)


# -- pushes


@pytest.mark.parametrize(
    "spoiled",
    [
        [faults.half_push(1000)],
        [faults.half_push(0), faults.half_push(299_999, at=2)],
        [faults.down("push_blob", times=4)],
        [faults.done_but_down("push_blob")],
        [faults.denied("push_blob", expired=True)],
    ],
)
def test_a_push_that_breaks_off_is_made_again_from_the_first_byte(spoiled: list[Fault]) -> None:
    scene = Scene(*spoiled)
    data = patterned(300_000, seed=7)
    source = Source(data)
    scene.repository.push_blob(described(data), source)
    assert scene.repository.missing([Digest.of(data)]) == frozenset()
    assert read_blob(scene.repository, described(data)) == data
    assert source.all_closed
    assert scene.faulty.calls.count("push_blob") > 1


def test_a_lost_push_is_seen_by_who_asks() -> None:
    """A registry that lies about having kept a blob is found out by ``missing``."""
    scene = Scene(faults.lost_push())
    data = patterned(1000, seed=7)
    scene.repository.push_blob(described(data), Source(data))
    assert scene.repository.missing([Digest.of(data)]) == {Digest.of(data)}


@pytest.mark.parametrize("fault", [faults.down, faults.done_but_down])
def test_a_manifest_is_put_again(fault: object) -> None:
    scene = Scene(fault("put_manifest"))  # type: ignore[operator]
    other = image(scene.true, "other")
    digest = scene.repository.put_manifest("2.0", other, OCI_IMAGE_MANIFEST)
    assert digest == Digest.of(other)
    assert sorted(scene.repository.tags()) == ["1.0", "2.0"]


def test_a_registry_that_rewrites_a_manifest_is_refused() -> None:
    scene = Scene(faults.rewritten_manifest())
    with pytest.raises(IntegrityError, match="not as it was pushed"):
        scene.repository.put_manifest("2.0", image(scene.true, "other"), OCI_IMAGE_MANIFEST)


def test_a_lost_manifest_is_seen_by_who_asks() -> None:
    scene = Scene(faults.lost_manifest())
    scene.repository.put_manifest("2.0", image(scene.true, "other"), OCI_IMAGE_MANIFEST)
    assert scene.repository.resolve("2.0") is None


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("missing", ([BLOB.digest],)),
        ("mount", (BLOB.digest, "app")),
        ("tags", ()),
        ("referrers", (BLOB.digest,)),
        ("delete", ("1.0",)),
    ],
)
def test_every_other_method_is_tried_again_too(method: str, arguments: tuple[object, ...]) -> None:
    scene = Scene(faults.down(method, times=2))
    getattr(scene.repository, method)(*arguments)
    assert scene.faulty.calls == [method] * 3
    assert scene.pauses == [0.5, 1.0]


def test_a_deletion_whose_answer_was_lost_is_a_deletion() -> None:
    """The second try finds nothing: that is what was wanted."""
    scene = Scene(faults.done_but_down("delete"))
    scene.repository.delete("1.0")
    assert list(scene.true.tags()) == []
    with pytest.raises(NotFoundError):
        scene.repository.delete("1.0")


def test_opening_is_tried_again_before_the_first_read() -> None:
    scene = Scene(faults.down("open_blob", times=2))
    with scene.repository.open_blob(BLOB.digest, BLOB.size):
        assert scene.faulty.calls == ["open_blob"] * 3
    empty = described(b"")
    with pytest.raises(NotFoundError):
        scene.repository.open_blob(empty.digest, 0).__enter__()
