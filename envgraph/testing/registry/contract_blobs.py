"""The contract's part about blobs: exact bytes, offsets, mounts, sources that misbehave."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from envgraph.api import Digest, Registry, RegistryError, Repository
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.testing.registry.contract_base import Abilities
from envgraph.testing.registry.material import (
    Source,
    SourceError,
    assert_same,
    described,
    patterned,
    push,
    read_blob,
)

_ABSENT = Digest.of(b"nobody pushed this")
_SLACK = 64 << 20
"""Bytes that a registry may read of an endless source before it gives up."""


class BlobContract(Abilities):
    """``missing``, ``push_blob``, ``open_blob``, ``mount``."""

    @pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) + 1, 5 << 20])
    def test_a_blob_comes_back_as_it_was_pushed(self, repository: Repository, size: int) -> None:
        """Every byte, whatever the size, the empty blob too."""
        data = patterned(size, seed=size)
        source = Source(data)
        assert repository.missing([Digest.of(data)]) == {Digest.of(data)}
        repository.push_blob(described(data), source)
        assert repository.missing([Digest.of(data)]) == frozenset()
        assert_same(read_blob(repository, described(data)), data)
        assert source.all_closed

    def test_missing_answers_for_many_at_once(self, repository: Repository) -> None:
        """Any iterable is asked, also one that can be read only once and names some twice."""
        there = [push(repository, patterned(100, seed)).digest for seed in range(5)]
        absent = [Digest.of(b"%d" % number) for number in range(200)]

        def asked() -> Iterator[Digest]:
            yield from absent
            yield from there
            yield from absent[:10]

        assert repository.missing(asked()) == frozenset(absent)
        assert repository.missing([]) == frozenset()

    def test_a_repository_that_is_nowhere_is_empty(
        self, registry: Registry, repository: Repository, name: str
    ) -> None:
        """Nothing is there, and no question is an error."""
        assert repository.name == name
        assert repository.missing([_ABSENT]) == {_ABSENT}
        assert repository.resolve("latest") is None
        assert repository.resolve(str(_ABSENT)) is None
        assert list(repository.tags()) == []
        assert repository.referrers(_ABSENT) == ()
        assert repository.mount(_ABSENT, f"{name}-too") is False
        with pytest.raises(NotFoundError):
            repository.get_manifest("latest")
        with pytest.raises(NotFoundError):
            repository.get_manifest(str(_ABSENT))
        if self.lists:
            assert name not in set(registry.list())

    def test_an_absent_blob_is_not_found_on_entering(self, repository: Repository) -> None:
        """Not later, when somebody reads."""
        push(repository, b"another")
        with pytest.raises(NotFoundError):
            repository.open_blob(_ABSENT, 10).__enter__()

    @pytest.mark.parametrize("offset", [1, 1000, (1 << 20) - 1])
    def test_a_blob_is_read_from_an_offset(self, repository: Repository, offset: int) -> None:
        """From there on, or the registry says that it cannot."""
        data = patterned(1 << 20)
        descriptor = push(repository, data)
        if self.ranges:
            assert_same(read_blob(repository, descriptor, offset), data[offset:])
            return
        with pytest.raises(RegistryError) as caught:
            read_blob(repository, descriptor, offset)
        assert caught.value.diagnostics[0].code == "registry-unsupported"
        assert not caught.value.retryable

    def test_reading_may_end_early(self, repository: Repository) -> None:
        """Who read enough leaves; the next reader gets all of it."""
        data = patterned(3 << 20)
        descriptor = push(repository, data)
        with repository.open_blob(descriptor.digest, descriptor.size) as body:
            assert data.startswith(body.read(10))
        assert_same(read_blob(repository, descriptor), data)

    @pytest.mark.parametrize("error", [KeyError("x"), OSError(errno.ENOSPC, "the reader's disk")])
    def test_an_error_of_the_reader_stays_the_readers(
        self, repository: Repository, error: Exception
    ) -> None:
        """What is raised inside the ``with`` is not the registry's: it comes out as it is."""
        descriptor = push(repository, b"some bytes")
        with (
            pytest.raises(type(error)) as caught,
            repository.open_blob(descriptor.digest, descriptor.size),
        ):
            raise error
        assert caught.value is error

    @pytest.mark.parametrize("most", [1, 7, 4097])
    def test_a_source_may_give_little_at_a_time(self, repository: Repository, most: int) -> None:
        """A short read is not the end."""
        data = patterned(10_000, seed=most)
        source = Source(data, most=most)
        repository.push_blob(described(data), source)
        assert_same(read_blob(repository, described(data)), data)
        assert source.all_closed

    @pytest.mark.parametrize(
        "wrong",
        [
            pytest.param(lambda data: b"x" + data[1:], id="first byte"),
            pytest.param(lambda data: data[:-1] + b"x", id="last byte"),
            pytest.param(lambda data: data[:-1], id="short"),
            pytest.param(lambda data: b"", id="nothing"),
            pytest.param(lambda data: data + b"x", id="long"),
        ],
    )
    def test_other_bytes_than_the_descriptors_are_refused(
        self, repository: Repository, wrong: object
    ) -> None:
        """IntegrityError, and neither the right nor the wrong digest is there."""
        data = patterned(100_000)
        bad: bytes = wrong(data)  # type: ignore[operator]
        source = Source(bad)
        with pytest.raises(IntegrityError):
            repository.push_blob(described(data), source)
        both = {Digest.of(data), Digest.of(bad)}
        assert repository.missing(both) == both
        assert source.all_closed
        push(repository, data)
        assert_same(read_blob(repository, described(data)), data)

    def test_a_size_that_lies_is_refused(self, repository: Repository) -> None:
        """The digest is right, the size is not: readers would count on it."""
        data = patterned(1000)
        for size in (999, 1001):
            descriptor = described(data)
            lying = type(descriptor)(descriptor.media_type, descriptor.digest, size)
            with pytest.raises(IntegrityError):
                repository.push_blob(lying, Source(data))
            assert repository.missing([descriptor.digest]) == {descriptor.digest}

    def test_an_endless_source_is_given_up(self, repository: Repository) -> None:
        """Soon after the size that was announced."""
        data = patterned(1 << 20)
        source = Source(data, endless=True)
        with pytest.raises(IntegrityError):
            repository.push_blob(described(data), source)
        assert source.given <= len(data) + _SLACK
        assert source.all_closed
        assert repository.missing([Digest.of(data)]) == {Digest.of(data)}

    @pytest.mark.parametrize("after", [0, 1, 70_000, (1 << 20) - 1])
    @pytest.mark.parametrize("error", [SourceError("broke"), OSError(errno.EIO, "our own disk")])
    def test_a_source_that_raises_leaves_nothing(
        self, repository: Repository, after: int, error: Exception
    ) -> None:
        """Its error comes out as it is: the registry did nothing wrong."""
        data = patterned(1 << 20)
        source = Source(data, fails_after=after, error=error)
        with pytest.raises(type(error)) as caught:
            repository.push_blob(described(data), source)
        assert caught.value is error
        assert source.all_closed
        assert repository.missing([Digest.of(data)]) == {Digest.of(data)}
        with pytest.raises(NotFoundError):
            read_blob(repository, described(data))
        push(repository, data)
        assert_same(read_blob(repository, described(data)), data)

    def test_pushing_again_changes_nothing(self, repository: Repository) -> None:
        """Nor does it fail; the source need not even be opened."""
        data = patterned(1000)
        push(repository, data)
        source = Source(data)
        repository.push_blob(described(data), source)
        assert source.all_closed
        assert_same(read_blob(repository, described(data)), data)

    def test_a_mount_is_there_or_is_refused(
        self, registry: Registry, repository: Repository, name: str
    ) -> None:
        """True: the blob is here, too. False: it is not, and can be pushed."""
        data = patterned(200_000)
        other = registry.repository(f"{name}-other")
        descriptor = push(other, data)
        if repository.mount(descriptor.digest, other.name):
            assert repository.missing([descriptor.digest]) == frozenset()
        else:
            assert repository.missing([descriptor.digest]) == {descriptor.digest}
            push(repository, data)
        assert_same(read_blob(repository, descriptor), data)
        assert_same(read_blob(other, descriptor), data)
        assert repository.mount(_ABSENT, other.name) is False
        assert repository.missing([_ABSENT]) == {_ABSENT}

    def test_repositories_keep_their_blobs_apart(
        self, registry: Registry, repository: Repository, name: str
    ) -> None:
        """A blob of one is not one of the other before it is mounted or pushed."""
        descriptor = push(registry.repository(f"{name}-other"), patterned(500))
        assert repository.missing([descriptor.digest]) == {descriptor.digest}
        with pytest.raises(NotFoundError):
            read_blob(repository, descriptor)
