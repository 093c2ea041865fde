"""The contract's part about many at once: threads, writers of one tag, half pushes.

Nothing here waits for time to pass: a source is held at a point, and let go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from envgraph.api import Digest, Registry, Repository
from envgraph.errors import NotFoundError
from envgraph.testing.registry.contract_base import Abilities
from envgraph.testing.registry.contract_manifests import keep, there
from envgraph.testing.registry.material import (
    OCI_IMAGE_MANIFEST,
    Source,
    artifact,
    assert_same,
    described,
    image,
    patterned,
    push,
    read_blob,
)

_WORKERS: Final = 8
_LONG: Final = 60.0
"""Seconds after which a test that hangs is broken off; none takes that long."""


def together(*calls: Callable[[], object]) -> list[object]:
    """Make all calls at the same time; their answers, or the first error."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], object]) -> object:
        barrier.wait(_LONG)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(_LONG) for future in [pool.submit(begin, call) for call in calls]]


class CrowdContract(Abilities):
    """Safe for threads, and for other writers."""

    def test_many_threads_push_the_same_and_other_blobs(self, repository: Repository) -> None:
        """All are there, whole."""
        blobs = [patterned(100_000 + seed, seed) for seed in range(12)]
        sources = [Source(data) for data in blobs]

        def work(start: int) -> Callable[[], None]:
            def pushes() -> None:
                for step in range(len(blobs)):
                    chosen = (start + step) % len(blobs)
                    repository.push_blob(described(blobs[chosen]), sources[chosen])

            return pushes

        together(*(work(number % 3) for number in range(_WORKERS)))
        assert repository.missing([Digest.of(data) for data in blobs]) == frozenset()
        for data, source in zip(blobs, sources, strict=True):
            assert_same(read_blob(repository, described(data)), data)
            assert source.all_closed

    def test_many_threads_begin_one_repository(self, registry: Registry, name: str) -> None:
        """Whoever is first: every tag and every referrer is there."""
        subject = described(b"somewhere", OCI_IMAGE_MANIFEST)
        reports: list[Digest] = []

        def work(number: int) -> Callable[[], None]:
            def puts() -> None:
                repository = registry.repository(name)
                tag = f"t{number}"
                keep(repository, image(repository, tag), OCI_IMAGE_MANIFEST, tag)
                report = artifact(repository, tag, subject)
                reports.append(keep(repository, report, OCI_IMAGE_MANIFEST).digest)

            return puts

        together(*(work(number) for number in range(_WORKERS)))
        repository = registry.repository(name)
        tags = [f"t{number}" for number in range(_WORKERS)]
        assert set(tags) <= set(repository.tags())
        for tag in tags:
            assert repository.resolve(tag) is not None
        found = sorted(item.digest for item in repository.referrers(subject.digest))
        assert found == sorted(reports)

    def test_two_writers_move_one_tag_and_readers_see_one_of_both(
        self, repository: Repository
    ) -> None:
        """Never none, never half, and at the end what one of them put last."""
        manifests = [image(repository, f"version {number}") for number in range(10)]
        known = {Digest.of(data): data for data in manifests}
        keep(repository, manifests[0], OCI_IMAGE_MANIFEST, "moving")
        writing = threading.Semaphore(0)

        def writer(mine: list[bytes]) -> Callable[[], None]:
            def moves() -> None:
                try:
                    for data in mine:
                        repository.put_manifest("moving", data, OCI_IMAGE_MANIFEST)
                finally:
                    writing.release()

            return moves

        def reads() -> int:
            done = count = 0
            while done < 2:
                done += writing.acquire(blocking=False)
                found = repository.get_manifest("moving")
                assert_same(found.data, known[found.digest])
                resolved = repository.resolve("moving")
                assert resolved is not None
                assert resolved.digest in known
                assert list(repository.tags()) == ["moving"]
                count += 1
            return count

        evens, odds = manifests[::2], manifests[1::2]
        together(writer(evens), writer(odds), reads)
        last = repository.get_manifest("moving")
        assert last.data in (evens[-1], odds[-1])

    def test_half_a_push_is_invisible(self, repository: Repository) -> None:
        """While a blob is on its way nobody sees it, and another push of it is not disturbed."""
        data = patterned(3 << 20)
        descriptor = described(data)
        halfway, go_on = threading.Event(), threading.Event()

        def pause() -> None:
            halfway.set()
            assert go_on.wait(_LONG)

        slow = Source(data, pauses_at=1 << 20, then=pause)
        with ThreadPoolExecutor(1) as pool:
            pushing = pool.submit(repository.push_blob, descriptor, slow)
            pushing.add_done_callback(lambda _: halfway.set())
            try:
                assert halfway.wait(_LONG)
                assert not pushing.done(), pushing.result()
                assert repository.missing([descriptor.digest]) == {descriptor.digest}
                with pytest.raises(NotFoundError):
                    read_blob(repository, descriptor)
                push(repository, data)
                assert_same(read_blob(repository, descriptor), data)
            finally:
                go_on.set()
            pushing.result(_LONG)
        assert slow.all_closed
        assert_same(read_blob(repository, descriptor), data)

    def test_readers_share_a_blob(self, repository: Repository) -> None:
        """Each has a place of its own in it."""
        data = patterned(2 << 20)
        descriptor = push(repository, data)
        answers = together(*[lambda: read_blob(repository, descriptor)] * _WORKERS)
        assert all(answer == data for answer in answers)

    def test_a_tag_put_by_many_is_there_once(self, repository: Repository) -> None:
        """The same manifest, the same tag, at the same time."""
        data = image(repository)
        together(*[lambda: repository.put_manifest("same", data, OCI_IMAGE_MANIFEST)] * _WORKERS)
        there(repository, "same", data, OCI_IMAGE_MANIFEST)
        assert list(repository.tags()) == ["same"]
