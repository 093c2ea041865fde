"""What the contract pushes: blobs, manifests, and sources that misbehave."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, cast

from envgraph.api import Descriptor, Digest, Repository
from envgraph.errors import EnvgraphError
from envgraph.model.oci import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER_GZIP,
    Platform,
)

OCTETS: Final = "application/octet-stream"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
AMD64: Final = Platform("linux", "amd64")
ARM64: Final = Platform("linux", "arm64", "v8")
ARTIFACT: Final = "application/vnd.example.report"

_TYPES: Final = {
    OCI_IMAGE_MANIFEST: (OCI_CONFIG, OCI_LAYER_GZIP),
    DOCKER_MANIFEST: (DOCKER_CONFIG, DOCKER_LAYER + ".gzip"),
}

__all__ = [
    "AMD64", "ARM64", "ARTIFACT", "DOCKER_INDEX", "DOCKER_MANIFEST", "EMPTY", "OCI_IMAGE_INDEX",
    "OCI_IMAGE_MANIFEST", "OCTETS", "Source", "SourceError", "artifact", "described", "image",
    "index", "patterned", "push", "read_blob", "refused", "spelled",
]  # fmt: skip


class SourceError(Exception):
    """What a source of the contract raises: no error that a registry could know."""


class Source:
    """Opens a blob again and again; ``opened`` are the bodies that were given out.

    ``most`` bytes come from one read. After ``fails_after`` bytes ``error`` is raised,
    and ``then`` is called once, before the read that passes ``pauses_at``. With
    ``endless`` the bytes begin again for ever.
    """

    def __init__(
        self,
        data: bytes,
        *,
        most: int = 1 << 20,
        fails_after: int | None = None,
        error: Exception | None = None,
        pauses_at: int | None = None,
        then: Callable[[], None] = lambda: None,
        endless: bool = False,
    ) -> None:
        """Bind; nothing is open yet."""
        self.data = data
        self.most = most
        self.fails_after = fails_after
        self.error: Exception = error or SourceError("the source broke")
        self.pauses_at = pauses_at
        self.then = then
        self.endless = endless
        self.opened: list[_Body] = []

    def __call__(self) -> BinaryIO:
        """A body from the first byte on."""
        body = _Body(self)
        self.opened.append(body)
        return cast(BinaryIO, body)

    @property
    def all_closed(self) -> bool:
        """Whether everything that was opened is closed again."""
        return all(body.closed for body in self.opened)

    @property
    def given(self) -> int:
        """Bytes that were read from all bodies."""
        return sum(body.done for body in self.opened)


class _Body(io.RawIOBase):
    """Cannot seek, and says no size: a registry must not need either."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.done = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        source = self._source
        if source.pauses_at is not None and self.done >= source.pauses_at:
            source.pauses_at = None
            source.then()
        most = min(len(buffer), source.most)
        if source.fails_after is not None:
            most = min(most, source.fails_after - self.done)
            if most <= 0:
                raise source.error
        start = self.done % len(source.data) if source.endless else self.done
        piece = source.data[start : start + most]
        buffer[: len(piece)] = piece
        self.done += len(piece)
        return len(piece)


def patterned(size: int, seed: int = 0) -> bytes:
    """``size`` bytes that differ from those of any other seed, when there are 8 or more."""
    unit = b"".join((seed * 1_000_003 + step).to_bytes(8, "big") for step in range(512))
    return (unit * (size // len(unit) + 1))[:size]


def described(data: bytes, media_type: str = OCTETS) -> Descriptor:
    """The descriptor of a blob."""
    return Descriptor(media_type, Digest.of(data), len(data))


def push(repository: Repository, data: bytes, media_type: str = OCTETS) -> Descriptor:
    """Push a blob whose bytes are here."""
    descriptor = described(data, media_type)
    repository.push_blob(descriptor, lambda: io.BytesIO(data))
    return descriptor


def image(
    repository: Repository,
    name: str = "",
    *,
    media_type: str = OCI_IMAGE_MANIFEST,
    subject: Descriptor | None = None,
    **fields: object,
) -> bytes:
    """Push a config and a layer of their own for ``name``; the manifest that names them."""
    config_type, layer_type = _TYPES[media_type]
    config = spelled(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"name": name}},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
    )
    layer = f"a layer for {name}".encode()
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": push(repository, config, config_type).to_json(),
        "layers": [push(repository, layer, layer_type).to_json()],
    }
    if subject is not None:
        document["subject"] = subject.to_json()
    return spelled(document | fields)


def artifact(
    repository: Repository, name: str, subject: Descriptor, artifact_type: str = ARTIFACT
) -> bytes:
    """An artifact about ``subject``: an empty config, one blob, a type of its own."""
    blob = push(repository, f"a report, {name}".encode(), "text/plain")
    empty = push(repository, b"{}", EMPTY)
    return spelled(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_MANIFEST,
            "artifactType": artifact_type,
            "config": empty.to_json(),
            "layers": [blob.to_json()],
            "subject": subject.to_json(),
            "annotations": {"org.example.name": name},
        }
    )


def index(*entries: Descriptor, media_type: str = OCI_IMAGE_INDEX, **fields: object) -> bytes:
    """An index of manifests that are there."""
    manifests = [entry.to_json() for entry in entries]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
    return spelled(document | fields)


def spelled(document: dict[str, object]) -> bytes:
    """JSON as no program of ours writes it: a registry must keep spaces and order."""
    return (
        json.dumps(document, indent=3, sort_keys=False, separators=(" ,", " : ")).encode() + b"\n"
    )


def assert_same(found: bytes, expected: bytes) -> None:
    """Fail where they differ, by the first byte that does.

    An ``assert`` on the bytes would let pytest explain megabytes, which takes minutes.
    """
    if found != expected:
        pairs = zip(found, expected, strict=False)
        shorter = min(len(found), len(expected))
        at = next((place for place, (one, other) in enumerate(pairs) if one != other), shorter)
        raise AssertionError(f"{len(found)} of {len(expected)} bytes, and byte {at} is another")


def read_blob(repository: Repository, descriptor: Descriptor, offset: int = 0) -> bytes:
    """The bytes that a registry gives for a blob."""
    with repository.open_blob(descriptor.digest, descriptor.size, offset) as body:
        return _all_of(body)


def _all_of(body: BinaryIO) -> bytes:
    pieces: list[bytes] = []
    while piece := body.read(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


@contextmanager
def refused() -> Iterator[None]:
    """The body must end in an error of envgraph's, of whatever kind."""
    try:
        yield
    except EnvgraphError:
        return
    raise AssertionError("it was not refused")
