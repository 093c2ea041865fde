"""The cases of the distribution spec's conformance suite, against two registries.

Each test runs against Debian's docker-registry and against the scripted one, which has a
referrers API, pages and cancels as the spec says.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from envgraph.api import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    Descriptor,
    Digest,
    RegistryError,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.testing.registry.scripted import ScriptedRegistry
from envgraph_oci.registry import OciRegistry
from envgraph_oci.repository import OciRepository
from tests.oci import (
    CONFIG,
    LAYER,
    REPORT,
    code_of,
    described,
    entry,
    index_of,
    manifest,
    opened,
    push,
    read,
    report_on,
)
from tests.registries import docker_registry

KINDS = ["docker-registry", "scripted"]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.url


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "scripted":
        with ScriptedRegistry() as server:
            yield server.url
        return
    yield request.getfixturevalue("real")


@pytest.fixture
def registry(url: str) -> Iterator[OciRegistry]:
    with opened(url) as found:
        yield found


@pytest.fixture
def repository(registry: OciRegistry) -> OciRepository:
    return registry.repository(f"cases/{os.urandom(8).hex()}")


def test_ping(registry: OciRegistry) -> None:
    registry.check()


@pytest.mark.parametrize("data", [b"", b"{}", b"x" * 100_000], ids=["empty", "{}", "100 kB"])
@pytest.mark.parametrize("upload", ["whole", "single", "chunked", "auto"])
def test_a_blob_by_each_kind_of_upload(url: str, data: bytes, upload: str) -> None:
    with opened(url, upload=upload, chunk_size=30_000) as registry:
        repository = registry.repository(f"uploads/{os.urandom(8).hex()}")
        assert repository.missing([Digest.of(data)]) == {Digest.of(data)}
        push(repository, data)
        assert repository.missing([Digest.of(data)]) == frozenset()
        assert read(repository, data) == data
        push(repository, data)


def test_a_blob_that_is_not_there(repository: OciRepository) -> None:
    with pytest.raises(NotFoundError), repository.open_blob(Digest.of(b"none"), 4):
        pass


@pytest.mark.parametrize("offset", [1, 4095, 4096, 99_999])
def test_ranges(repository: OciRepository, offset: int) -> None:
    data = os.urandom(100_000)
    push(repository, data)
    assert read(repository, data, offset) == data[offset:]


def test_a_range_beyond_the_end(repository: OciRepository) -> None:
    push(repository, b"short")
    with (
        pytest.raises(RegistryError) as caught,
        repository.open_blob(Digest.of(b"short"), 100, 50),
    ):
        pass
    assert code_of(caught.value) == "registry-unsupported"
    assert read(repository, b"short") == b"short"


@pytest.mark.parametrize("upload", ["whole", "single", "chunked"])
@pytest.mark.parametrize("size", [5, 10])
def test_a_source_with_other_bytes(url: str, upload: str, size: int) -> None:
    with opened(url, upload=upload, chunk_size=4) as registry:
        repository = registry.repository(f"wrong/{os.urandom(8).hex()}")
        wrong = Descriptor(LAYER, Digest.of(b"other"), size)
        for data in (b"right", b"rightright", b"", b"r", b"rightrightright"):
            with pytest.raises(IntegrityError):
                repository.push_blob(wrong, lambda data=data: io.BytesIO(data))
            assert len(repository.missing([wrong.digest, Digest.of(data)])) == 2


def test_mounts(registry: OciRegistry, repository: OciRepository) -> None:
    data = os.urandom(100)
    push(repository, data)
    other = registry.repository(repository.name + "-other")
    assert other.mount(Digest.of(data), repository.name) is True
    assert read(other, data) == data
    assert other.mount(Digest.of(b"none"), repository.name) is False
    assert other.mount(Digest.of(data), "no/where") is False or read(other, data) == data


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_manifests_keep_their_bytes(repository: OciRepository, by: str) -> None:
    data = manifest(repository, unknown={"b": [1, 2.50], "a": None}, annotations={"x": "é\u2028"})
    reference = "1.0_x-Y" if by == "tag" else str(Digest.of(data))
    assert repository.put_manifest(reference, data, OCI_IMAGE_MANIFEST) == Digest.of(data)
    for name in {reference, str(Digest.of(data))}:
        found = repository.get_manifest(name)
        assert (found.data, found.media_type) == (data, OCI_IMAGE_MANIFEST)
        assert found.digest == Digest.of(data)
        assert repository.resolve(name) == found.descriptor
    assert list(repository.tags()) == (["1.0_x-Y"] if by == "tag" else [])


def as_artifact(repository: OciRepository) -> tuple[bytes, str]:
    return manifest(repository, artifactType=REPORT), OCI_IMAGE_MANIFEST


def with_data_field(repository: OciRepository) -> tuple[bytes, str]:
    config = {**entry(push(repository, b"{}", CONFIG)), "data": "e30="}
    return manifest(repository, config=config), OCI_IMAGE_MANIFEST


def as_docker(repository: OciRepository) -> tuple[bytes, str]:
    return manifest(repository, mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST


def as_index(repository: OciRepository) -> tuple[bytes, str]:
    inner = manifest(repository)
    repository.put_manifest(str(Digest.of(inner)), inner, OCI_IMAGE_MANIFEST)
    return index_of(inner, annotations={"a": "b"}), OCI_IMAGE_INDEX


def as_docker_index(repository: OciRepository) -> tuple[bytes, str]:
    inner, _ = as_docker(repository)
    repository.put_manifest(str(Digest.of(inner)), inner, DOCKER_MANIFEST)
    part = {**entry(described(inner, DOCKER_MANIFEST))}
    part["platform"] = {"os": "linux", "architecture": "amd64"}
    return index_of(mediaType=DOCKER_INDEX, manifests=[part]), DOCKER_INDEX


def nested(repository: OciRepository) -> tuple[bytes, str]:
    inner, _ = as_index(repository)
    repository.put_manifest(str(Digest.of(inner)), inner, OCI_IMAGE_INDEX)
    part = entry(described(inner, OCI_IMAGE_INDEX))
    return index_of(manifests=[part]), OCI_IMAGE_INDEX


def empty_index(repository: OciRepository) -> tuple[bytes, str]:
    del repository
    return index_of(), OCI_IMAGE_INDEX


@pytest.mark.parametrize(
    "make",
    [as_artifact, with_data_field, as_docker, as_index, as_docker_index, nested, empty_index],
    ids=lambda make: make.__name__,
)
def test_every_kind_of_manifest(repository: OciRepository, make: Any) -> None:
    data, media_type = make(repository)
    repository.put_manifest("t", data, media_type)
    found = repository.get_manifest("t")
    assert (found.data, found.media_type) == (data, media_type)


def test_a_manifest_that_is_not_there(repository: OciRepository) -> None:
    assert repository.resolve("none") is None
    assert repository.resolve(str(Digest.of(b"none"))) is None
    for reference in ("none", str(Digest.of(b"none"))):
        with pytest.raises(NotFoundError):
            repository.get_manifest(reference)


def test_a_manifest_whose_blob_is_missing(repository: OciRepository) -> None:
    data = manifest(repository, layers=[entry(described(b"never pushed"))])
    with pytest.raises(RegistryError) as caught:
        repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
    assert code_of(caught.value) == "registry-answer"
    assert "BLOB_UNKNOWN" in str(caught.value)
    assert caught.value.retryable  # it may only have lost sight of it: see faults.py
    assert repository.resolve("1") is None


def test_a_manifest_of_4_mib_and_more(repository: OciRepository) -> None:
    data = manifest(repository, annotations={"a": "x" * ((4 << 20) - 2000)})
    assert len(data) < 4 << 20
    repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
    assert repository.get_manifest("1").data == data
    more = manifest(repository, annotations={"a": "x" * (4 << 20)})
    with pytest.raises(IntegrityError):
        repository.put_manifest("1", more, OCI_IMAGE_MANIFEST)


def test_a_tag_moves(repository: OciRepository) -> None:
    first, second = manifest(repository, b"1"), manifest(repository, b"2")
    for data in (first, second):
        repository.put_manifest("latest", data, OCI_IMAGE_MANIFEST)
        assert repository.get_manifest("latest").data == data
    assert repository.get_manifest(str(Digest.of(first))).data == first


def test_tags(registry: OciRegistry, repository: OciRepository) -> None:
    assert list(repository.tags()) == []
    data = manifest(repository)
    names = {f"t{number}" for number in range(12)}
    for name in names:
        repository.put_manifest(name, data, OCI_IMAGE_MANIFEST)
    listed = list(repository.tags())
    assert len(listed) == len(set(listed))
    assert set(listed) == names
    assert repository.name in list(registry.list("cases/"))
    assert list(registry.list("nothing")) == []


def test_referrers(repository: OciRepository) -> None:
    subject = manifest(repository)
    repository.put_manifest("1", subject, OCI_IMAGE_MANIFEST)
    digest = Digest.of(subject)
    assert repository.referrers(digest) == ()
    reports = [report_on(repository, subject, "a"), report_on(repository, subject, "b", "other/x")]
    for data in (*reports, reports[0]):
        repository.put_manifest(str(Digest.of(data)), data, OCI_IMAGE_MANIFEST)
    found = repository.referrers(digest)
    assert {item.digest for item in found} == {Digest.of(data) for data in reports}
    assert len(found) == 2
    assert [item.digest for item in repository.referrers(digest, REPORT)] == [Digest.of(reports[0])]
    assert repository.referrers(digest, "none/x") == ()
    repository.delete(str(Digest.of(reports[0])))
    assert [item.digest for item in repository.referrers(digest)] == [Digest.of(reports[1])]


def test_referrers_of_what_is_not_there_yet(repository: OciRepository) -> None:
    """The subject may come later."""
    subject = manifest(repository, b"later")
    data = report_on(repository, subject, "early")
    repository.put_manifest(str(Digest.of(data)), data, OCI_IMAGE_MANIFEST)
    found = repository.referrers(Digest.of(subject))
    assert [(item.digest, item.size) for item in found] == [(Digest.of(data), len(data))]


def test_deletion(repository: OciRepository) -> None:
    data = manifest(repository)
    repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
    repository.delete(str(Digest.of(data)))
    assert repository.resolve("1") is None
    with pytest.raises(NotFoundError):
        repository.delete(str(Digest.of(data)))


@pytest.mark.parametrize(
    "reference",
    ["", "sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32,
     "sha512:" + "a" * 128, "a/b", "a b", "é", ".x", "a" * 129, "x\n", "../../_catalog", "a?b"],
)  # fmt: skip
def test_what_is_no_reference_is_asked_of_nobody(reference: str) -> None:
    with opened("http://127.0.0.1:9") as registry:
        repository = registry.repository("app")
        for call in (repository.resolve, repository.get_manifest, repository.delete):
            with pytest.raises(RegistryError) as caught:
                call(reference)
            assert code_of(caught.value) == "registry-options"


@pytest.mark.parametrize(
    "name", ["", "A", "a//b", "/a", "a/", "../x", "a b", "a" * 256, "é", "a%2f"]
)
def test_what_is_no_repository_is_asked_of_nobody(name: str) -> None:
    with opened("http://127.0.0.1:9") as registry, pytest.raises(RegistryError) as caught:
        registry.repository(name)
    assert code_of(caught.value) == "registry-options"


def test_a_manifest_must_be_what_it_says(repository: OciRepository) -> None:
    data = manifest(repository)
    for bad, media_type in (
        (data, OCI_IMAGE_INDEX),
        (b"\xef\xbb\xbf" + data, OCI_IMAGE_MANIFEST),
        (data + b"x", OCI_IMAGE_MANIFEST),
        (data.replace(b'"layers"', b'"layers": [], "layers"'), OCI_IMAGE_MANIFEST),
        (json.dumps({**json.loads(data), "manifests": []}).encode(), OCI_IMAGE_MANIFEST),
    ):
        with pytest.raises(IntegrityError):
            repository.put_manifest("1", bad, media_type)
    with pytest.raises(IntegrityError):
        repository.put_manifest(str(Digest.of(b"x")), data, OCI_IMAGE_MANIFEST)
    assert list(repository.tags()) == []
