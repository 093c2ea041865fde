"""Blobs of registries that misbehave: read, pushed, in chunks, mounted; never wrong bytes."""

from __future__ import annotations

import hashlib
import io
import tracemalloc

import pytest

from envgraph.api import (
    Descriptor,
    Digest,
    RegistryError,
)
from envgraph.errors import IntegrityError
from envgraph.testing.registry.scripted import Reply, ScriptedRegistry, Seen
from envgraph_oci.repository import OciRepository
from tests.oci import (
    DATA,
    LAYER,
    code_of,
    described,
    opened,
    patient,
    push,
    read,
)

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
