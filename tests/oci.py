"""What the tests of the OCI plugin share: open registries, and material to push."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from envgraph.api import (
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    Credentials,
    Descriptor,
    Digest,
    Registry,
    RegistryError,
    Repository,
)
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph_oci.options import OciOptions
from envgraph_oci.registry import OciRegistry
from envgraph_oci.wire import Wire

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
REPORT = "application/vnd.example.report"
DATA = random.Random(1).randbytes(200_000)
GONE = str(Digest.of(b"other"))


class Logins:
    """The user's logins by host; remembers for whom it was asked."""

    def __init__(self, logins: Mapping[str, Credentials] | None = None) -> None:
        self.logins = dict(logins or {})
        self.asked: list[tuple[str, str]] = []

    def __call__(self, host: str, scope: str) -> Credentials | None:
        self.asked.append((host, scope))
        return self.logins.get(host)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def opened(
    url: str,
    *,
    lookup: Callable[[str, str], Credentials | None] | None = None,
    environ: Mapping[str, str] | None = None,
    clock: Callable[[], float] | None = None,
    wall: Callable[[], float] | None = None,
    **options: Any,
) -> Iterator[OciRegistry]:
    """A registry, without the user's setup unless a test gives one."""
    registry = OciRegistry(
        Wire(
            OciOptions(url, **options),
            root="/",
            lookup=lookup or Logins(),
            environ=environ or {},
            clock=clock or Clock(),
            wall=wall or (lambda: 0.0),
        )
    )
    try:
        yield registry
    finally:
        registry.close()


def patient(repository: Repository) -> RetryingRepository:
    """The repository as the host uses it; no time passes."""
    return RetryingRepository(repository, Policy(sleep=lambda seconds: None, clock=lambda: 0.0))


def described(data: bytes, media_type: str = LAYER) -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))


def push(repository: Repository, data: bytes, media_type: str = LAYER) -> Descriptor:
    descriptor = described(data, media_type)
    repository.push_blob(descriptor, lambda: io.BytesIO(data))
    return descriptor


def read(repository: Repository, data: bytes, offset: int = 0) -> bytes:
    """The blob whose bytes should be ``data``, as the registry gives it."""
    with repository.open_blob(Digest.of(data), len(data), offset) as body:
        return b"".join(iter(lambda: body.read(1 << 16), b""))


def entry(descriptor: Descriptor) -> dict[str, object]:
    return descriptor.to_json()


def manifest(repository: Repository, layer: bytes = b"layer", **more: object) -> bytes:
    """A manifest whose blobs have been pushed; spaces and order are its own."""
    blob, config = push(repository, layer), push(repository, b"{}", CONFIG)
    document = {
        "layers": [entry(blob)],
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_MANIFEST,
        "config": entry(config),
        **more,
    }
    return json.dumps(document, indent=3).encode()


def report_on(repository: Repository, subject: bytes, text: str, kind: str = REPORT) -> bytes:
    """A manifest that refers to another one."""
    described_subject = Descriptor(OCI_IMAGE_MANIFEST, Digest.of(subject), len(subject))
    return manifest(repository, text.encode(), artifactType=kind, subject=entry(described_subject))


def index_of(*manifests: bytes, **more: object) -> bytes:
    entries = [entry(Descriptor(OCI_IMAGE_MANIFEST, Digest.of(m), len(m))) for m in manifests]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_INDEX,
        "manifests": entries,
        **more,
    }
    return json.dumps(document, indent=1).encode()


def code_of(error: RegistryError) -> str:
    return error.diagnostics[0].code


def ask_everything(registry: Registry, name: str = "team/app") -> None:
    """Each kind of request once."""
    repository = registry.repository(name)
    data = manifest(repository)
    repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
    assert repository.get_manifest("1").data == data
    assert repository.resolve("1") is not None
    assert list(repository.tags()) == ["1"]
    assert read(repository, b"layer") == b"layer"
    assert repository.missing([Digest.of(b"layer"), Digest.of(b"none")]) == {Digest.of(b"none")}
    assert repository.referrers(Digest.of(data)) == ()
