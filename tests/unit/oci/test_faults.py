"""Registries that misbehave in any answer: refusals, repairs, never an endless wait."""

from __future__ import annotations

import json
import os
import tracemalloc

import pytest

from envgraph.api import (
    OCI_IMAGE_MANIFEST,
    Digest,
    RegistryError,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.testing.registry.scripted import Reply, ScriptedRegistry
from envgraph_oci.repository import OciRepository
from tests.oci import (
    DATA,
    Clock,
    code_of,
    manifest,
    opened,
    push,
    read,
)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "registry-answer", False),
        (401, "registry-denied", False),
        (403, "registry-denied", False),
        (405, "registry-unsupported", False),
        (408, "registry-down", True),
        (418, "registry-answer", False),
        (429, "registry-down", True),
        (500, "registry-down", True),
        (501, "registry-unsupported", False),
        (502, "registry-down", True),
        (503, "registry-down", True),
        (504, "registry-down", True),
    ],
)
def test_statuses(
    server: ScriptedRegistry, repository: OciRepository, status: int, code: str, retryable: bool
) -> None:
    server.script("*", "", Reply(status), always=True)
    calls = (
        lambda: repository.missing([Digest.of(b"")]),
        lambda: repository.get_manifest("1"),
        lambda: push(repository, b"data"),
        lambda: list(repository.tags()),
        lambda: repository.open_blob(Digest.of(b"data"), 4).__enter__(),
    )
    for call in calls:
        with pytest.raises(RegistryError) as caught:
            call()
        assert (code_of(caught.value), caught.value.retryable) == (code, retryable)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 400, None),
    ],
)
def test_retry_after(
    server: ScriptedRegistry, status: int, said: str, seconds: float | None
) -> None:
    server.script("GET", "/manifests/", Reply(status, {"Retry-After": said}))
    server.script("PUT", "/blobs/uploads/", Reply(status, {"Retry-After": said}))
    with opened(server.url, wall=lambda: 100.0) as registry:
        repository = registry.repository("app")
        for call in (lambda: repository.get_manifest("1"), lambda: push(repository, b"data")):
            with pytest.raises(RegistryError) as caught:
                call()
            assert caught.value.retryable
            assert caught.value.retry_after == seconds
        push(repository, b"data")


@pytest.mark.parametrize("fault", ["reset", "half"])
def test_connection_faults_may_be_tried_again(
    server: ScriptedRegistry, repository: OciRepository, fault: str
) -> None:
    server.script("GET", "/manifests/", Reply(200, body=b"x" * 100, fault=fault))  # type: ignore[arg-type]
    with pytest.raises(RegistryError) as caught:
        repository.get_manifest("1")
    assert (code_of(caught.value), caught.value.retryable) == ("registry-down", True)


def test_nobody_listens() -> None:
    with opened("http://127.0.0.1:1") as registry, pytest.raises(RegistryError) as caught:
        registry.check()
    assert (code_of(caught.value), caught.value.retryable) == ("registry-down", True)


def test_a_server_that_hangs_is_given_up(server: ScriptedRegistry) -> None:
    server.script("GET", "/manifests/", Reply(fault="hang"))
    with opened(server.url, read_timeout=1) as registry, pytest.raises(RegistryError) as caught:
        registry.repository("app").get_manifest("1")
    assert (code_of(caught.value), caught.value.retryable) == ("registry-down", True)


def test_a_connection_is_used_again(server: ScriptedRegistry, repository: OciRepository) -> None:
    server.script("HEAD", "/blobs/", Reply(404), Reply(200))
    repository.put_manifest("1", manifest(repository), OCI_IMAGE_MANIFEST)
    assert read(repository, b"layer") == b"layer"
    repository.missing([Digest.of(str(number).encode()) for number in range(20)])
    with pytest.raises(NotFoundError):
        repository.get_manifest("none")
    list(repository.tags())
    assert {seen.connection for seen in server.requests} == {1}
    assert len(server.requests) > 25


def test_a_refusal_before_the_body_was_read(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    """The status is found, though the body could not be sent."""
    server.script("PUT", "/blobs/uploads/", Reply(413, fault="early"), always=True)
    data = os.urandom(8 << 20)
    with pytest.raises(RegistryError) as caught:
        push(repository, data)
    assert code_of(caught.value) in ("registry-answer", "registry-down")
    if code_of(caught.value) == "registry-answer":
        assert "chunked" in caught.value.diagnostics[0].hint


def test_html_is_said_to_be_html(server: ScriptedRegistry, repository: OciRepository) -> None:
    page = Reply(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Log in</html>")
    server.script("*", "/v2/", page, always=True)
    for call in (
        lambda: repository.get_manifest("1"),
        lambda: repository.resolve("1"),
        lambda: list(repository.tags()),
    ):
        with pytest.raises(RegistryError) as caught:
            call()
        assert code_of(caught.value) == "registry-answer"
        assert "login page" in caught.value.diagnostics[0].hint


def test_the_registry_s_own_words_are_kept(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    words = {"errors": [{"code": "NAME_INVALID", "message": "no such project"}]}
    server.script("GET", "/manifests/", Reply(400, body=json.dumps(words).encode()))
    with pytest.raises(RegistryError) as caught:
        repository.get_manifest("1")
    assert "NAME_INVALID" in str(caught.value)
    assert caught.value.diagnostics[0].detail == "no such project"


def test_a_registry_that_lost_sight_of_a_blob_is_asked_again(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    """docker-registry 2.8.2 says so while somebody else pushes the same blob."""
    data = manifest(repository)
    words = {"errors": [{"code": "DIGEST_INVALID"}, {"code": "MANIFEST_BLOB_UNKNOWN"}]}
    server.script("PUT", "/manifests/", Reply(400, body=json.dumps(words).encode()))
    with pytest.raises(RegistryError) as caught:
        repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
    assert caught.value.retryable
    assert repository.put_manifest("1", data, OCI_IMAGE_MANIFEST) == Digest.of(data)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"errors": 3}', b'{"errors": [3, {}]}', b"[" * 60_000, b"\xff"]
)
def test_errors_that_are_none(
    server: ScriptedRegistry, repository: OciRepository, body: bytes
) -> None:
    server.script("GET", "/manifests/", Reply(400, body=body))
    with pytest.raises(RegistryError) as caught:
        repository.get_manifest("1")
    assert code_of(caught.value) == "registry-answer"


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("path", ["/manifests/", "/tags/", "/blobs/sha256"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate, gzip"])
def test_compressed_answers_are_refused(
    server: ScriptedRegistry, repository: OciRepository, status: int, path: str, encoding: str
) -> None:
    bomb = Reply(status, {"Content-Encoding": encoding}, b"\x1f\x8b" + b"x" * 1000)
    server.script("GET", path, bomb, always=True)
    for call in (
        {
            "/manifests/": lambda: repository.get_manifest("1"),
            "/tags/": lambda: list(repository.tags()),
            "/blobs/sha256": lambda: read(repository, DATA),
        }[path],
    ):
        with pytest.raises(RegistryError) as caught:
            call()
        assert code_of(caught.value) == "registry-answer"
    assert {seen.headers["accept-encoding"] for seen in server.requests} == {"identity"}


def test_endless_documents_are_bounded(server: ScriptedRegistry) -> None:
    server.script("GET", "", Reply(200, fault="endless"), always=True)
    tracemalloc.start()
    try:
        with opened(server.url) as registry:
            repository = registry.repository("app")
            with pytest.raises(IntegrityError):
                repository.get_manifest("1")
            with pytest.raises(RegistryError):
                list(repository.tags())
        assert tracemalloc.get_traced_memory()[1] < 128 << 20
    finally:
        tracemalloc.stop()


def test_a_document_that_drips_is_given_up(server: ScriptedRegistry) -> None:
    """The clock says that the body has taken an hour."""
    clock = Clock()

    def late() -> float:
        clock.now += 3600
        return clock.now

    server.script("GET", "/manifests/", Reply(200, {"Content-Type": OCI_IMAGE_MANIFEST}, b"{}"))
    with opened(server.url, clock=late) as registry, pytest.raises(RegistryError) as caught:
        registry.repository("app").get_manifest("1")
    assert caught.value.retryable
    assert "seconds" in str(caught.value)
