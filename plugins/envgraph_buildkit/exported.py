"""An image as BuildKit hands it over: blobs, an OCI layout in a tar, or a ``docker save``."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from envgraph.api import BuilderError, Digest, DigestError, Platform
from envgraph_buildkit.content import place_of

_DOCUMENT_LIMIT: Final = 4 << 20
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)

Opener = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a member by its name (``blobs/sha256/…``)."""


@dataclass(frozen=True, slots=True)
class Exported:
    """An image's config, and how to read its layers."""

    config: bytes
    members: tuple[tuple[str, Digest], ...]
    """Each layer's name, and its DiffID."""

    opener: Opener
    blobs: tuple[Digest | None, ...] = ()
    """Each layer's blob; None where it has no digest (``docker save``)."""

    verified: bool = False
    """The blobs were hashed when they came."""

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A layer as plain tar, whatever it is compressed with."""
        with self.opener(name) as stream:
            magic = stream.read(4)
            stream.seek(0)
            kind = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}.get(magic[:2], "")
            with plain(stream, kind) as data:
                yield data


@contextmanager
def plain(stream: BinaryIO, media_type: str) -> Iterator[BinaryIO]:
    """A layer's plain tar, by how its media type ends."""
    if media_type.endswith("gzip"):
        with gzip.open(stream) as data:
            yield cast("BinaryIO", data)
    elif media_type.endswith("zstd"):
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True) as data:
            yield cast("BinaryIO", data)
    else:
        yield stream


def wrong(text: str) -> BuilderError:
    """What came back is not what was asked for."""
    return BuilderError(
        f"BuildKit's answer is not the image that was asked for: {text}", code="builder-answer"
    )


@contextmanager
def read_blobs(folder: Path, manifest: str, platform: Platform) -> Iterator[Exported]:
    """The image whose blobs were sent to a folder; those of its bases need not be there."""

    @contextmanager
    def opener(name: str) -> Iterator[BinaryIO]:
        digest = Digest("sha256:" + name.removeprefix("blobs/sha256/"))
        try:
            stream = place_of(folder, digest).open("rb")
        except FileNotFoundError:
            raise wrong(f"{digest} was not sent") from None
        with stream:
            yield stream

    def image() -> Exported:
        found = _of_manifest(opener, {"digest": manifest, "mediaType": ""})
        return replace(found, verified=True)

    yield _checked(image, platform)


@contextmanager
def read_tar(path: Path, platform: Platform) -> Iterator[Exported]:
    """The one image in a tar."""
    try:
        with tarfile.open(path, "r:") as archive:
            names = set(archive.getnames())

            @contextmanager
            def opener(name: str) -> Iterator[BinaryIO]:
                try:
                    stream = archive.extractfile(name)
                except KeyError:
                    stream = None
                if stream is None:
                    raise wrong(f"no {name[:200]}")
                with stream:
                    yield cast("BinaryIO", stream)

            def image() -> Exported:
                if "index.json" not in names:
                    return _of_docker(opener)
                return _of_index(opener, json.loads(_read(opener, "index.json")))

            yield _checked(image, platform)
    except tarfile.TarError as error:
        raise wrong(f"it is no tar: {error}") from None


def _checked(image: Callable[[], Exported], platform: Platform) -> Exported:
    """The image, of that platform; BuilderError ``builder-answer`` when it makes no sense."""
    try:
        found = image()
        document = json.loads(found.config)
        offered = Platform(document["os"], document["architecture"], document.get("variant", ""))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, DigestError) as error:
        raise wrong(f"{type(error).__name__}: {error}") from None
    if (offered.os, offered.architecture) != (platform.os, platform.architecture):
        raise wrong(f"it is for {offered}, and {platform} was asked for")
    return found


def _read(opener: Opener, name: str) -> bytes:
    with opener(name) as stream:
        data = stream.read(_DOCUMENT_LIMIT + 1)
    if len(data) > _DOCUMENT_LIMIT:
        raise wrong(f"{name} has more than {_DOCUMENT_LIMIT} bytes")
    return data


def _blob(opener: Opener, descriptor: Any) -> bytes:
    digest = Digest(descriptor["digest"])
    data = _read(opener, _name(digest))
    if Digest.of(data) != digest:
        raise wrong(f"{digest} has other bytes")
    return data


def _name(digest: Digest) -> str:
    return "blobs/sha256/" + str(digest).removeprefix("sha256:")


def _of_index(opener: Opener, index: Any) -> Exported:
    """The one image of an index; attestations stand beside it."""
    (descriptor,) = [
        each
        for each in index["manifests"]
        if "vnd.docker.reference.type" not in (each.get("annotations") or {})
    ]
    return _of_manifest(opener, descriptor)


def _of_manifest(opener: Opener, descriptor: Any) -> Exported:
    manifest = json.loads(_blob(opener, descriptor))
    if manifest.get("mediaType") in _INDEXES:
        return _of_index(opener, manifest)
    config = _blob(opener, manifest["config"])
    diff_ids = [Digest(text) for text in json.loads(config)["rootfs"]["diff_ids"] or []]
    blobs = [Digest(layer["digest"]) for layer in manifest["layers"] or []]
    members = zip(map(_name, blobs), diff_ids, strict=True)
    return Exported(config, tuple(members), opener, tuple(blobs))


def _of_docker(opener: Opener) -> Exported:
    (entry,) = json.loads(_read(opener, "manifest.json"))
    config = _read(opener, entry["Config"])
    name = entry["Config"].rpartition("/")[2].removesuffix(".json")
    if hashlib.sha256(config).hexdigest() != name:
        raise wrong(f"the config {name} has other bytes")
    diff_ids = [Digest(text) for text in json.loads(config)["rootfs"]["diff_ids"] or []]
    members = tuple(zip(entry["Layers"] or [], diff_ids, strict=True))
    return Exported(config, members, opener, (None,) * len(members))
