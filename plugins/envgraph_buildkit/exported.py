"""An image as BuildKit hands it over: an OCI layout in a tar, or what ``docker save`` gives."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

from envgraph.api import BuilderError, Digest, DigestError, Platform

_DOCUMENT_LIMIT: Final = 4 << 20
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True)
class Exported:
    """Config and layers, as members of a tar."""

    archive: tarfile.TarFile
    config: bytes
    members: tuple[tuple[str, Digest], ...]
    """Each layer's place in the tar, and its DiffID."""

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A layer as plain tar, whatever it is compressed with."""
        with _member(self.archive, name) as stream:
            magic = stream.read(4)
            stream.seek(0)
            if magic[:2] == b"\x1f\x8b":
                with gzip.open(stream) as plain:
                    yield cast("BinaryIO", plain)
            elif magic == b"\x28\xb5\x2f\xfd":
                import zstandard

                with zstandard.ZstdDecompressor().stream_reader(
                    stream, read_across_frames=True
                ) as z:
                    yield cast("BinaryIO", z)
            else:
                yield stream


def _wrong(text: str) -> BuilderError:
    return BuilderError(
        f"BuildKit's answer is not the image that was asked for: {text}", code="builder-answer"
    )


@contextmanager
def _member(archive: tarfile.TarFile, name: str) -> Iterator[BinaryIO]:
    try:
        stream = archive.extractfile(name)
    except (KeyError, tarfile.TarError):
        stream = None
    if stream is None:
        raise _wrong(f"no {name[:200]}")
    with stream:
        yield cast("BinaryIO", stream)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    with _member(archive, name) as stream:
        data = stream.read(_DOCUMENT_LIMIT + 1)
    if len(data) > _DOCUMENT_LIMIT:
        raise _wrong(f"{name} has more than {_DOCUMENT_LIMIT} bytes")
    return data


def _blob(archive: tarfile.TarFile, descriptor: Any) -> bytes:
    digest = Digest(descriptor["digest"])
    data = _read(archive, _place(digest))
    if Digest.of(data) != digest:
        raise _wrong(f"{digest} has other bytes")
    return data


def _place(digest: Digest) -> str:
    return "blobs/sha256/" + str(digest).removeprefix("sha256:")


def read_exported(archive: tarfile.TarFile, platform: Platform) -> Exported:
    """The one image in the tar; BuilderError ``builder-answer`` when it is none, or another."""
    try:
        found = _docker(archive) if _is_docker(archive) else _oci(archive)
        document = json.loads(found.config)
        offered = Platform(document["os"], document["architecture"], document.get("variant", ""))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, DigestError) as error:
        raise _wrong(f"{type(error).__name__}: {error}") from None
    if (offered.os, offered.architecture) != (platform.os, platform.architecture):
        raise _wrong(f"it is for {offered}, and {platform} was asked for")
    return found


def _is_docker(archive: tarfile.TarFile) -> bool:
    try:
        archive.getmember("index.json")
    except KeyError:
        return True
    return False


def _oci(archive: tarfile.TarFile) -> Exported:
    index = json.loads(_read(archive, "index.json"))
    for _ in range(3):
        (descriptor,) = [
            each
            for each in index["manifests"]
            if "vnd.docker.reference.type" not in (each.get("annotations") or {})
        ]
        index = json.loads(_blob(archive, descriptor))
        if descriptor["mediaType"] not in _INDEXES:
            break
    config = _blob(archive, index["config"])
    diff_ids = [Digest(text) for text in json.loads(config)["rootfs"]["diff_ids"] or []]
    names = [_place(Digest(layer["digest"])) for layer in index["layers"] or []]
    return Exported(archive, config, tuple(zip(names, diff_ids, strict=True)))


def _docker(archive: tarfile.TarFile) -> Exported:
    (entry,) = json.loads(_read(archive, "manifest.json"))
    config = _read(archive, entry["Config"])
    name = entry["Config"].rpartition("/")[2].removesuffix(".json")
    if hashlib.sha256(config).hexdigest() != name:
        raise _wrong(f"the config {name} has other bytes")
    diff_ids = [Digest(text) for text in json.loads(config)["rootfs"]["diff_ids"] or []]
    return Exported(archive, config, tuple(zip(entry["Layers"] or [], diff_ids, strict=True)))
