"""The contract fails registries that break it: each of these does so in one way."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pytest
from _pytest.outcomes import Failed

from envgraph.api import BlobSource, Descriptor, Digest, ManifestBytes, RegistryError
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.testing.registry.contract import RegistryContract
from envgraph.testing.registry.memory import MemoryRegistry, MemoryRepository


class Unverified(MemoryRepository):
    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        with source() as body:
            self._make().blobs[descriptor.digest] = body.read()


class Early(MemoryRepository):
    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        self._make().blobs[descriptor.digest] = b""
        super().push_blob(descriptor, source)


class OneRead(MemoryRepository):
    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        with source() as body:
            data = body.read(descriptor.size + 1)
        super().push_blob(descriptor, lambda: io.BytesIO(data))


class LeavesOpen(MemoryRepository):
    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        body = source()
        data = b"".join(iter(lambda: body.read(1000), b""))
        super().push_blob(descriptor, lambda: io.BytesIO(data))


class BlamesItself(MemoryRepository):
    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        try:
            super().push_blob(descriptor, source)
        except IntegrityError:
            raise
        except Exception as error:
            raise RegistryError("failed") from error


class BelievesSizes(MemoryRepository):
    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        with source() as body:
            data = b"".join(iter(lambda: body.read(1000), b""))
        true = Descriptor(descriptor.media_type, descriptor.digest, len(data))
        super().push_blob(true, lambda: io.BytesIO(data))


class Lazy(MemoryRepository):
    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        yield io.BytesIO(self._here.blobs.get(digest, b"")[offset:])


class FromTheFirstByte(MemoryRepository):
    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        with super().open_blob(digest, size, 0) as body:
            yield body


class TakesReadersErrors(MemoryRepository):
    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        try:
            with super().open_blob(digest, size, offset) as body:
                yield body
        except OSError as error:
            raise RegistryError("failed") from error


class AsksTwice(MemoryRepository):
    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        return frozenset(digests) and super().missing(digests)


class SaysMounted(MemoryRepository):
    def mount(self, digest: Digest, from_repository: str) -> bool:
        return True


class OneForAll(MemoryRepository):
    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        everywhere = [item.blobs.keys() for item in self._registry.contents.values()]
        return frozenset(digests) - frozenset().union(*everywhere)


class Rewrites(MemoryRepository):
    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        data = json.dumps(json.loads(data)).encode()
        return super().put_manifest(reference, data, media_type)


class GuessesTypes(MemoryRepository):
    def get_manifest(self, reference: str) -> ManifestBytes:
        found = super().get_manifest(reference)
        kind = json.loads(found.data).get("mediaType", "application/json")
        return ManifestBytes(kind, found.data, found.digest)


class Lenient(MemoryRepository):
    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        try:
            return super().put_manifest(reference, data, media_type)
        except IntegrityError:
            digest = Digest.of(data)
            self._make().manifests[digest] = ManifestBytes(media_type, data, digest)
            self._make().tags[reference] = digest
            return digest


class TagFirst(MemoryRepository):
    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        self._make().tags[reference] = Digest.of(data)
        return super().put_manifest(reference, data, media_type)


class FoldsCase(MemoryRepository):
    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        return super().put_manifest(reference.lower(), data, media_type)


class TagsStay(MemoryRepository):
    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        before = self._here.tags.get(reference)
        digest = super().put_manifest(reference, data, media_type)
        if before is not None:
            self._make().tags[reference] = before
        return digest


class OnePage(MemoryRepository):
    def tags(self) -> Iterator[str]:
        return iter(list(super().tags())[:100])


class AnyReferrer(MemoryRepository):
    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        return super().referrers(digest)


class NeedsSubjects(MemoryRepository):
    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        there = digest in self._here.manifests
        return super().referrers(digest, artifact_type) if there else ()


class DeletesTooMuch(MemoryRepository):
    def delete(self, reference: str) -> None:
        found = self.resolve(reference)
        super().delete(reference if found is None else str(found.digest))


class DeletesAnything(MemoryRepository):
    def delete(self, reference: str) -> None:
        with suppress(NotFoundError):
            super().delete(reference)


class LeavesTags(MemoryRepository):
    def delete(self, reference: str) -> None:
        before = dict(self._here.tags)
        super().delete(reference)
        self._make().tags.update({tag: named for tag, named in before.items() if tag != reference})


class RaisesForAbsent(MemoryRepository):
    def resolve(self, reference: str) -> Descriptor | None:
        return self.get_manifest(reference).descriptor


def broken(kind: type[MemoryRepository]) -> MemoryRegistry:
    class Broken(MemoryRegistry):
        def repository(self, name: str) -> MemoryRepository:
            return kind(self, super().repository(name).name)

    return Broken()


class AnyName(MemoryRegistry):
    def repository(self, name: str) -> MemoryRepository:
        return MemoryRepository(self, name)


class NoPrefix(MemoryRegistry):
    def list(self, prefix: str = "") -> Iterator[str]:
        return super().list()


class WholeParts(MemoryRegistry):
    def list(self, prefix: str = "") -> Iterator[str]:
        whole = prefix.rstrip("/") + "/"
        return (name for name in super().list(prefix) if f"{name}/".startswith(whole))


def failed(registry: MemoryRegistry, only: str = "test_") -> set[str]:
    """The names of the contract's tests that fail, each run with every set of its parameters."""
    contract = RegistryContract()
    found = set()
    for name, test in inspect.getmembers(RegistryContract, inspect.isfunction):
        if not name.startswith(only) or name in SLOW:
            continue
        for number, given in enumerate(parameters(test)):
            names = {"registry": registry, "name": f"{name.replace('_', '-')}/{number}"}
            names["repository"] = registry.repository(str(names["name"]))
            wanted = {key: names[key] for key in inspect.signature(test).parameters if key in names}
            try:
                test(contract, **wanted, **given)
            except (Exception, Failed):
                found.add(name)
                break
    return found


SLOW = {"test_half_a_push_is_invisible", "test_an_endless_source_is_given_up"}
"""They hold threads or memory for long where they fail; they are tried below by themselves."""


def parameters(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """What pytest would give it, one set after the other."""
    sets: list[dict[str, Any]] = [{}]
    for mark in getattr(test, "pytestmark", []):
        names, rows = mark.args
        names = [names] if isinstance(names, str) else names
        wanted = []
        for row in rows:
            values = row.values if hasattr(row, "values") and not isinstance(row, dict) else row
            values = values if isinstance(values, tuple) else (values,)
            wanted.append(dict(zip(names, values, strict=True)))
        sets = [one | other for one in sets for other in wanted]
    yield from sets


def test_a_registry_that_keeps_the_contract_fails_nothing() -> None:
    assert failed(MemoryRegistry()) == set()


KINDS = {
    Unverified: "test_other_bytes_than_the_descriptors_are_refused",
    Early: "test_a_source_that_raises_leaves_nothing",
    OneRead: "test_a_source_may_give_little_at_a_time",
    LeavesOpen: "test_a_blob_comes_back_as_it_was_pushed",
    BlamesItself: "test_a_source_that_raises_leaves_nothing",
    BelievesSizes: "test_a_size_that_lies_is_refused",
    Lazy: "test_an_absent_blob_is_not_found_on_entering",
    FromTheFirstByte: "test_a_blob_is_read_from_an_offset",
    TakesReadersErrors: "test_an_error_of_the_reader_stays_the_readers",
    AsksTwice: "test_missing_answers_for_many_at_once",
    SaysMounted: "test_a_mount_is_there_or_is_refused",
    OneForAll: "test_repositories_keep_their_blobs_apart",
    Rewrites: "test_a_manifest_is_kept_to_the_byte",
    GuessesTypes: "test_a_manifest_that_does_not_say_its_type_keeps_the_given_one",
    Lenient: "test_what_is_no_strict_manifest_is_refused",
    TagFirst: "test_what_is_no_strict_manifest_is_refused",
    FoldsCase: "test_tags_at_the_limits_of_the_grammar_stay_apart",
    TagsStay: "test_a_tag_moves",
    OnePage: "test_many_tags_are_all_told",
    AnyReferrer: "test_referrers_are_found_by_subject_and_type",
    NeedsSubjects: "test_a_subject_may_come_later_or_never",
    DeletesTooMuch: "test_a_deleted_tag_leaves_the_manifest",
    DeletesAnything: "test_absent_things_are_told_apart_from_there",
    LeavesTags: "test_a_deleted_manifest_takes_its_tags_along",
    RaisesForAbsent: "test_a_repository_that_is_nowhere_is_empty",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_repository_fails(kind: type[MemoryRepository]) -> None:
    assert KINDS[kind] in failed(broken(kind), KINDS[kind])


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        (AnyName(), "test_what_is_no_name_is_refused"),
        (NoPrefix(), "test_repositories_are_listed_by_prefix"),
        (WholeParts(), "test_repositories_are_listed_by_prefix"),
    ],
)
def test_a_broken_registry_fails(registry: MemoryRegistry, expected: str) -> None:
    assert expected in failed(registry, expected)


def test_half_a_push_that_is_visible_fails() -> None:
    registry = broken(Early)
    with pytest.raises(AssertionError):
        RegistryContract().test_half_a_push_is_invisible(registry.repository("app"))
