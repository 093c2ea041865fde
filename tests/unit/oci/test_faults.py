"""Registries that misbehave: refusals and repairs, never wrong bytes, never an endless wait."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tracemalloc
from collections.abc import Iterator

import pytest

from envgraph.api import (
    DOCKER_MANIFEST,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    Descriptor,
    Digest,
    RegistryError,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph.testing.registry.scripted import Reply, ScriptedRegistry, Seen
from envgraph_oci.repository import OciRepository
from tests.oci import (
    LAYER,
    REPORT,
    Clock,
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

DATA = random.Random(0).randbytes(200_000)
GONE = str(Digest.of(b"other"))


@pytest.fixture
def server() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as found:
        yield found


@pytest.fixture
def repository(server: ScriptedRegistry) -> Iterator[OciRepository]:
    with opened(server.url) as registry:
        yield registry.repository("team/app")


def patient(repository: OciRepository) -> RetryingRepository:
    """The repository as the host uses it; no time passes."""
    return RetryingRepository(repository, Policy(sleep=lambda seconds: None, clock=lambda: 0.0))


# Statuses and connections


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


# Blobs


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(200, body=DATA), "registry-unsupported"),
        (Reply(416, {"Content-Range": f"bytes */{len(DATA)}"}, DATA), "registry-unsupported"),
        (Reply(206, body=DATA[1000:]), "registry-unsupported"),
        (Reply(206, {"Content-Range": "bytes 0-199999/200000"}, DATA), "registry-unsupported"),
        (
            Reply(206, {"Content-Range": "bytes 1000-1999/200000"}, DATA[1000:2000]),
            "registry-unsupported",
        ),
        (
            Reply(206, {"Content-Range": "bytes 1000-199999/300000"}, DATA[1000:]),
            "registry-unsupported",
        ),
        (Reply(206, {"Content-Range": "1000-199999/200000"}, DATA[1000:]), "registry-unsupported"),
        (Reply(500), "registry-down"),
    ],
)
def test_answers_to_a_range_that_are_none(
    server: ScriptedRegistry, repository: OciRepository, reply: Reply, code: str
) -> None:
    push(repository, DATA)
    server.script("GET", "/blobs/", reply)
    with pytest.raises(RegistryError) as caught:
        read(repository, DATA, 1000)
    assert code_of(caught.value) == code
    assert read(repository, DATA, 1000) == DATA[1000:]


def test_a_range_may_leave_the_total_open(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    span = {"Content-Range": f"bytes 1000-{len(DATA) - 1}/*"}
    server.script("GET", "/blobs/", Reply(206, span, DATA[1000:]))
    assert read(repository, DATA, 1000) == DATA[1000:]


@pytest.mark.parametrize(
    "then",
    [
        [],
        [Reply(200, body=DATA)],
        [Reply(416)],
        [Reply(206, {"Content-Range": "bytes 5-199999/200000"}, DATA[5:])],
        [Reply(503, {"Retry-After": "1"}), Reply(fault="reset")],
    ],
    ids=["range", "200", "416", "another range", "503 and a reset"],
)
def test_a_body_that_breaks_off_is_gone_on_with(
    server: ScriptedRegistry, repository: OciRepository, then: list[Reply]
) -> None:
    push(repository, DATA)
    server.script("GET", "/blobs/", Reply(200, body=DATA, fault="half"), *then)
    with patient(repository).open_blob(Digest.of(DATA), len(DATA)) as body:
        assert body.read() == DATA


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, body=DATA[:-1] + b"x"),
        Reply(200, body=DATA[:-1]),
        Reply(200, body=DATA + b"x"),
        Reply(200, fault="endless"),
        Reply(200, {"Content-Length": "5"}, b"xxxxx"),
    ],
    ids=["wrong", "short", "long", "endless", "another length"],
)
def test_blobs_that_lie(server: ScriptedRegistry, repository: OciRepository, reply: Reply) -> None:
    server.script("GET", "/blobs/", reply, always=True)
    with (
        pytest.raises(IntegrityError),
        patient(repository).open_blob(Digest.of(DATA), len(DATA)) as body,
    ):
        body.read()


# Uploads


@pytest.mark.parametrize("status", [200, 202, 204])
def test_only_201_completes_a_blob(
    server: ScriptedRegistry, repository: OciRepository, status: int
) -> None:
    server.script("PUT", "/blobs/uploads/", Reply(status))
    with pytest.raises(RegistryError) as caught:
        push(repository, DATA)
    assert code_of(caught.value) == "registry-answer"


def test_a_lost_upload_is_begun_anew(server: ScriptedRegistry, repository: OciRepository) -> None:
    server.script("PUT", "/blobs/uploads/", Reply(404), Reply(404))
    patient(repository).push_blob(described(DATA), lambda: io.BytesIO(DATA))
    assert server.count("POST") == 3
    assert read(repository, DATA) == DATA


@pytest.mark.parametrize("request_number", [1, 2])
def test_a_push_that_breaks_off_completes_the_next_time(
    server: ScriptedRegistry, repository: OciRepository, request_number: int
) -> None:
    method = {1: "POST", 2: "PUT"}[request_number]
    server.script(method, "/blobs/uploads/", Reply(fault="reset"))
    opened_sources: list[io.BytesIO] = []

    def source() -> io.BytesIO:
        opened_sources.append(io.BytesIO(DATA))
        return opened_sources[-1]

    patient(repository).push_blob(described(DATA), source)
    assert len(opened_sources) == request_number
    assert all(one.closed for one in opened_sources)
    assert read(repository, DATA) == DATA


def test_locations_are_kept_exactly_and_may_be_relative(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    """Escapes in lower case, empty values, no order: some registries sign what they wrote."""
    push(repository, DATA)
    (put,) = [seen for seen in server.requests if seen.method == "PUT"]
    assert put.target.endswith(f"?sig=a%2fb%3D==&state=0&digest=sha256%3A{Digest.of(DATA).hex}")
    assert put.headers["content-length"] == str(len(DATA))
    assert "transfer-encoding" not in put.headers
    assert hashlib.sha256(put.body).hexdigest() == Digest.of(DATA).hex


@pytest.mark.parametrize(
    "location", ["", "file:///etc/passwd", "gopher://x/", "http://user:pw@127.0.0.1:1/x"]
)
def test_locations_that_are_none(
    server: ScriptedRegistry, repository: OciRepository, location: str
) -> None:
    server.script("POST", "/blobs/uploads/", Reply(202, {"Location": location} if location else {}))
    with pytest.raises(RegistryError) as caught:
        push(repository, DATA)
    assert code_of(caught.value) == "registry-answer"
    assert "pw" not in str(caught.value)
    assert server.count("PUT") == 0


def test_a_wrong_digest_in_the_answer(server: ScriptedRegistry, repository: OciRepository) -> None:
    said = {"Docker-Content-Digest": str(Digest.of(b"other"))}
    server.script("PUT", "/blobs/uploads/", Reply(201, said))
    with pytest.raises(IntegrityError):
        push(repository, DATA)
    server.script(
        "PUT", "/blobs/uploads/", Reply(201, {"Docker-Content-Digest": "sha512:" + "a" * 128})
    )
    push(repository, DATA)


def test_a_broken_source_cancels_the_upload(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    wrong = Descriptor(LAYER, Digest.of(b"other"), len(DATA))
    with pytest.raises(IntegrityError):
        repository.push_blob(wrong, lambda: io.BytesIO(DATA))
    assert server.contents.uploads == {}
    assert server.contents.blobs == {}


# Chunks


def chunks_of(server: ScriptedRegistry) -> list[str]:
    return [seen.headers["content-range"] for seen in server.requests if seen.method == "PATCH"]


@pytest.mark.parametrize(
    ("upload", "minimum", "sizes"),
    [
        ("whole", "150000", []),
        ("auto", "", []),
        ("auto", "150000", ["0-149999", "150000-199999"]),
        ("chunked", "", ["0-79999", "80000-159999", "160000-199999"]),
        ("chunked", "100000", ["0-99999", "100000-199999"]),
        ("auto", "lots", []),
    ],
)
def test_chunks_only_when_asked_for(
    server: ScriptedRegistry, upload: str, minimum: str, sizes: list[str]
) -> None:
    def begin(seen: Seen) -> Reply:
        good = server.answer(seen)
        least = {"OCI-Chunk-Min-Length": minimum} if minimum else {}
        return Reply(202, {**good.headers, **least})

    server.script("POST", "/blobs/uploads/", begin)
    with opened(server.url, upload=upload, chunk_size=80_000) as registry:
        push(registry.repository("app"), DATA)
        assert chunks_of(server) == sizes
        assert read(registry.repository("app"), DATA) == DATA
    if sizes:
        states = [seen.target.partition("state=")[2] for seen in server.requests]
        assert [s for s in states if s and "digest" not in s][1:] == [
            size.partition("-")[0] for size in sizes[1:]
        ]


def test_a_chunk_that_came_only_in_part(server: ScriptedRegistry) -> None:
    """The registry kept half of a chunk and says 416: it is asked how far it is."""

    def half(seen: Seen) -> Reply:
        server.answer(
            Seen(seen.method, seen.target, seen.headers, b"", 0)
        )  # the address must be the newest
        name = seen.path.rpartition("/")[2]
        server.contents.uploads[name] += DATA[80_000:100_000]
        return Reply(416, {"Location": seen.target})

    with opened(server.url, upload="chunked", chunk_size=80_000) as registry:
        server.script("PATCH", "state=80000", half)
        push(registry.repository("app"), DATA)
        assert chunks_of(server) == ["0-79999", "80000-159999", "100000-159999", "160000-199999"]
        assert read(registry.repository("app"), DATA) == DATA


@pytest.mark.parametrize("status", [404, 416])
def test_lost_chunks_begin_anew(server: ScriptedRegistry, status: int) -> None:
    def lose(seen: Seen) -> Reply:
        server.contents.uploads.clear()
        return Reply(status)

    with opened(server.url, upload="chunked", chunk_size=80_000) as registry:
        server.script("PATCH", "state=80000", lose)
        repository = registry.repository("app")
        patient(repository).push_blob(described(DATA), lambda: io.BytesIO(DATA))
        assert read(repository, DATA) == DATA


def test_chunks_hold_one_chunk_in_memory(server: ScriptedRegistry) -> None:
    class Zeros(io.RawIOBase):
        left = 64 << 20

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            size = min(len(buffer), self.left)
            buffer[:size] = bytes(size)
            self.left -= size
            return size

    found = hashlib.sha256()
    for _ in range(64):
        found.update(bytes(1 << 20))
    descriptor = Descriptor(LAYER, Digest.from_hex(found.hexdigest()), 64 << 20)
    server.script("PATCH", "", drop := _Dropping(), always=True)
    server.script("PUT", "/blobs/uploads/", Reply(201))
    with opened(server.url, upload="chunked", chunk_size=2 << 20) as registry:
        tracemalloc.start()
        try:
            registry.repository("app").push_blob(descriptor, lambda: Zeros())  # type: ignore[arg-type,return-value]
            assert tracemalloc.get_traced_memory()[1] < 24 << 20
        finally:
            tracemalloc.stop()
    assert drop.count == 32


class _Dropping:
    """Takes chunks and keeps none."""

    count = 0

    def __call__(self, seen: Seen) -> Reply:
        self.count += 1
        return Reply(202, {"Location": seen.target})


# Mounts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_a_refused_mount_is_none(
    server: ScriptedRegistry, repository: OciRepository, status: int
) -> None:
    server.script("POST", "mount=", Reply(status))
    assert repository.mount(Digest.of(DATA), "other") is False


def test_a_mount_that_becomes_an_upload_is_cancelled(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    assert repository.mount(Digest.of(DATA), "other") is False
    assert server.count("DELETE", "/blobs/uploads/") == 1
    assert server.contents.uploads == {}


@pytest.mark.parametrize(
    ("said", "there", "mounted"),
    [
        (str(Digest.of(DATA)), True, True),
        (str(Digest.of(b"other")), True, False),
        ("", True, True),
        ("", False, False),
        ("sha512:" + "a" * 128, True, False),
    ],
)
def test_a_mount_is_verified(
    server: ScriptedRegistry, repository: OciRepository, said: str, there: bool, mounted: bool
) -> None:
    server.script("POST", "mount=", Reply(201, {"Docker-Content-Digest": said} if said else {}))
    server.script("HEAD", "/blobs/", Reply(200 if there else 404))
    assert repository.mount(Digest.of(DATA), "other") is mounted


def test_a_mount_that_the_registry_cannot_answer_now(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    server.script("POST", "mount=", Reply(503))
    with pytest.raises(RegistryError) as caught:
        repository.mount(Digest.of(DATA), "other")
    assert caught.value.retryable


# Manifests

IMAGE = json.dumps({"schemaVersion": 2, "mediaType": OCI_IMAGE_MANIFEST, "layers": []}).encode()


def of(data: bytes, media_type: str = OCI_IMAGE_MANIFEST, digest: str = "") -> Reply:
    said = {"Docker-Content-Digest": digest} if digest else {}
    return Reply(200, {"Content-Type": media_type, **said}, data)


@pytest.mark.parametrize(
    "reply",
    [
        of(IMAGE, OCI_IMAGE_INDEX),
        of(IMAGE, DOCKER_MANIFEST),
        of(IMAGE, digest=GONE),
        of(b"\xef\xbb\xbf" + IMAGE),
        of(IMAGE + b"{}"),
        of(IMAGE[:-1] + b', "layers": []}'),
        of(IMAGE[:-1] + b', "manifests": []}'),
        of(b"[]"),
        of(b""),
        of(b" " * (4 << 20) + IMAGE),
        of(IMAGE[:-1] + b', "Layers": []}'),
        Reply(200, {"Content-Type": OCI_IMAGE_MANIFEST, "Content-Length": "99999999"}, IMAGE),
    ],
    ids=["index", "docker", "digest", "bom", "trailing", "twice", "both", "list", "empty", "large",
         "case", "announced as large"],
)  # fmt: skip
def test_manifests_that_lie(
    server: ScriptedRegistry, repository: OciRepository, reply: Reply
) -> None:
    server.script("GET", "/manifests/", reply)
    with pytest.raises(IntegrityError):
        repository.get_manifest("1")


def test_a_manifest_asked_for_by_digest_is_that(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    """Whatever the header says."""
    server.script("GET", "/manifests/", of(IMAGE, digest=GONE), of(IMAGE))
    for _ in range(2):
        with pytest.raises(IntegrityError):
            repository.get_manifest(GONE)


@pytest.mark.parametrize("media_type", [OCI_IMAGE_MANIFEST + "; charset=utf-8", ""])
def test_content_types_in_other_spellings(
    server: ScriptedRegistry, repository: OciRepository, media_type: str
) -> None:
    server.script("GET", "/manifests/", of(IMAGE, media_type))
    found = repository.get_manifest("1")
    assert (found.data, found.media_type) == (IMAGE, OCI_IMAGE_MANIFEST)


def test_schema_1_is_named(server: ScriptedRegistry, repository: OciRepository) -> None:
    old = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    server.script("GET", "/manifests/", of(b"{}", old))
    with pytest.raises(RegistryError, match="schema 1"):
        repository.get_manifest("1")


def test_all_four_types_are_accepted(server: ScriptedRegistry, repository: OciRepository) -> None:
    repository.resolve("1")
    with pytest.raises(NotFoundError):
        repository.get_manifest("1")
    for seen in server.requests:
        assert len(set(seen.headers["accept"].split(", "))) == 4


@pytest.mark.parametrize(
    "head",
    [
        Reply(200, {"Content-Type": OCI_IMAGE_MANIFEST, "Content-Length": "5"}),
        Reply(200, {"Docker-Content-Digest": GONE}),
        Reply(
            200,
            {"Content-Type": OCI_IMAGE_MANIFEST, "Docker-Content-Digest": "sha512:" + "a" * 128},
        ),
        Reply(405),
    ],
    ids=["no digest", "no type", "sha512", "no HEAD"],
)
def test_a_head_that_says_too_little(
    server: ScriptedRegistry, repository: OciRepository, head: Reply
) -> None:
    data = manifest(repository)
    repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
    server.script("HEAD", "/manifests/", head)
    assert repository.resolve("1") == described(data, OCI_IMAGE_MANIFEST)


@pytest.mark.parametrize("status", [200, 202])
def test_only_201_keeps_a_manifest(
    server: ScriptedRegistry, repository: OciRepository, status: int
) -> None:
    server.script("PUT", "/manifests/", Reply(status))
    with pytest.raises(RegistryError):
        repository.put_manifest("1", IMAGE, OCI_IMAGE_MANIFEST)


def test_a_manifest_kept_as_another_one(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    server.script("PUT", "/manifests/", Reply(201, {"Docker-Content-Digest": GONE}))
    with pytest.raises(IntegrityError):
        repository.put_manifest("1", IMAGE, OCI_IMAGE_MANIFEST)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, None), (202, None), (204, None), (400, "registry-unsupported"),
     (405, "registry-unsupported"), (403, "registry-denied"), (404, "not-found")],
)  # fmt: skip
@pytest.mark.parametrize("reference", ["1", GONE])
def test_deletions(
    server: ScriptedRegistry,
    repository: OciRepository,
    status: int,
    expected: str | None,
    reference: str,
) -> None:
    server.script("DELETE", "/manifests/", Reply(status))
    if expected is None:
        repository.delete(reference)
        return
    with pytest.raises((RegistryError, NotFoundError)) as caught:
        repository.delete(reference)
    assert code_of(caught.value) == expected  # type: ignore[arg-type]


# Lists


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_tags_in_pages(server: ScriptedRegistry, repository: OciRepository, page: int) -> None:
    server.contents.page = page
    data = manifest(repository)
    for number in range(7):
        repository.put_manifest(f"t{number}", data, OCI_IMAGE_MANIFEST)
    server.forget()
    assert list(repository.tags()) == [f"t{number}" for number in range(7)]
    assert server.count("GET", "/tags/list") == -(-7 // page)
    assert server.count("GET", r"\?n=1000$") == 1


def tags(*names: str, link: str = "") -> Reply:
    said = {"Link": link} if link else {}
    return Reply(200, said, json.dumps({"name": "app", "tags": list(names)}).encode())


def test_tags_are_told_once(server: ScriptedRegistry, repository: OciRepository) -> None:
    more = '</v2/team/app/tags/list?n=2&last=b>; rel="next"'
    server.script("GET", "/tags/", tags("a", "b", link=more), tags("b", "c", "c"))
    assert list(repository.tags()) == ["a", "b", "c"]


def test_no_tags(server: ScriptedRegistry, repository: OciRepository) -> None:
    server.script("GET", "/tags/", Reply(200, body=b'{"name": "app", "tags": null}'))
    assert list(repository.tags()) == []


def test_a_list_without_end(server: ScriptedRegistry, repository: OciRepository) -> None:
    again = '</v2/team/app/tags/list?n=1000>; rel="next"'
    server.script("GET", "/tags/", tags("a", link=again), always=True)
    with pytest.raises(RegistryError, match="no end"):
        list(repository.tags())


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_registry_that_does_not_list(server: ScriptedRegistry, status: int) -> None:
    server.script("GET", "/_catalog", Reply(status))
    with opened(server.url) as registry, pytest.raises(RegistryError) as caught:
        list(registry.list())
    assert code_of(caught.value) == "registry-unsupported"


def test_repositories_by_prefix(server: ScriptedRegistry) -> None:
    more = '</v2/_catalog?n=2&last=ml/b>; rel="next"'
    server.script(
        "GET", "/_catalog",
        Reply(200, {"Link": more}, b'{"repositories": ["a", "ml/a"]}'),
        Reply(200, {}, b'{"repositories": ["ml/ab", "ml/b", "mlx"]}'),
    )  # fmt: skip
    with opened(server.url + "/ml") as registry:
        assert list(registry.list("a")) == ["a", "ab"]


# Referrers


@pytest.fixture
def old() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry(referrers=False) as found:
        yield found


def test_the_fallback_tag(old: ScriptedRegistry) -> None:
    with opened(old.url) as registry:
        repository = registry.repository("app")
        subject = manifest(repository)
        tag = str(Digest.of(subject)).replace(":", "-")
        theirs = {
            **entry(described(b"foreign", OCI_IMAGE_MANIFEST)),
            "artifactType": "x/y",
            "odd": 1,
        }
        repository.put_manifest(tag, index_of(manifests=[theirs]), OCI_IMAGE_INDEX)
        data = report_on(repository, subject, "a")
        for _ in range(2):
            repository.put_manifest("report", data, OCI_IMAGE_MANIFEST)
        kept = json.loads(repository.get_manifest(tag).data)["manifests"]
        assert kept[0] == theirs
        assert [item["digest"] for item in kept[1:]] == [str(Digest.of(data))]
        assert kept[1]["artifactType"] == REPORT
        assert [d.digest for d in repository.referrers(Digest.of(subject), REPORT)] == [
            Digest.of(data)
        ]
        assert len(repository.referrers(Digest.of(subject))) == 2


def test_no_fallback_where_the_registry_lists(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    subject = manifest(repository)
    data = report_on(repository, subject, "a")
    repository.put_manifest("report", data, OCI_IMAGE_MANIFEST)
    assert list(repository.tags()) == ["report"]
    assert server.count("GET", "/manifests/") == 0


@pytest.mark.parametrize("applied", [True, False])
def test_the_filter_is_applied_here_where_it_is_not_there(
    server: ScriptedRegistry, repository: OciRepository, applied: bool
) -> None:
    first, second = described(b"1", OCI_IMAGE_MANIFEST), described(b"2", OCI_IMAGE_MANIFEST)
    entries = [{**entry(first), "artifactType": REPORT}, {**entry(first), "artifactType": REPORT}]
    if not applied:
        entries.append({**entry(second), "artifactType": "other/x"})
    said = {"OCI-Filters-Applied": "artifactType"} if applied else {}
    server.script("GET", "/referrers/", Reply(200, said, index_of(manifests=entries)))
    assert repository.referrers(Digest.of(b"s"), REPORT) == (first,)
    assert "artifactType=application%2Fvnd.example.report" in server.requests[-1].target


@pytest.mark.parametrize(
    "entries",
    [3, [3], [{"digest": str(Digest.of(b""))}], [{**entry(described(b"")), "size": -1}],
     [{**entry(described(b"")), "size": "1"}], [{**entry(described(b"")), "mediaType": 1}]],
)  # fmt: skip
def test_lists_of_referrers_that_are_none(
    server: ScriptedRegistry, repository: OciRepository, entries: object
) -> None:
    server.script("GET", "/referrers/", Reply(200, {}, index_of(manifests=entries)))
    with pytest.raises(IntegrityError):
        repository.referrers(Digest.of(b"s"))


def test_layers_from_elsewhere_are_not_fetched(
    server: ScriptedRegistry, repository: OciRepository
) -> None:
    """A layer's ``urls`` mean nothing to a registry (CVE-2020-15157)."""
    foreign = {**entry(described(DATA)), "urls": [server.url + "/evil"]}
    server.script(
        "GET", "/manifests/", of(json.dumps({**json.loads(IMAGE), "layers": [foreign]}).encode())
    )
    repository.get_manifest("1")
    with pytest.raises(NotFoundError):
        read(repository, DATA)
    assert server.count(pattern="evil") == 0
