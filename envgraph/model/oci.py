"""OCI and Docker image documents: media types, platforms, descriptors, strict reading.

Every reader takes bytes that may be hostile and gives a value or raises
:class:`~envgraph.errors.IntegrityError` (code ``image-document``). Refused are
duplicate keys, keys that differ from a known one in case only (Go reads those as
the known one), a byte order mark, floats that are no number, documents above
:data:`DOCUMENT_LIMIT`, documents that are manifest and index at once
(CVE-2021-41190), and digests that are not sha256 (CVE-2024-3727).

Sources: OCI image-spec 1.1, Docker image manifest version 2 schema 2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from envgraph.errors import IntegrityError
from envgraph_store.digest import Digest, DigestError

OCI_IMAGE_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_IMAGE_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD: Final = OCI_LAYER + "+zstd"
OCI_FOREIGN: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
REF_NAME: Final = "org.opencontainers.image.ref.name"

DOCUMENT_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of a manifest, index or config; registries refuse larger manifests too."""

_MAX_SIZE: Final = 1 << 50
_MAX_LAYERS: Final = 1000

LAYER_TYPES: Final[Mapping[str, str]] = {
    OCI_LAYER: OCI_LAYER,
    OCI_LAYER_GZIP: OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD: OCI_LAYER_ZSTD,
    OCI_FOREIGN: OCI_FOREIGN,
    OCI_FOREIGN + "+gzip": OCI_FOREIGN + "+gzip",
    OCI_FOREIGN + "+zstd": OCI_FOREIGN + "+zstd",
    DOCKER_LAYER: OCI_LAYER,
    DOCKER_LAYER + ".gzip": OCI_LAYER_GZIP,
    DOCKER_LAYER + ".zstd": OCI_LAYER_ZSTD,
    DOCKER_FOREIGN: OCI_FOREIGN,
    DOCKER_FOREIGN + ".gzip": OCI_FOREIGN + "+gzip",
}
"""Every layer type that is read, with the OCI type of the same bytes."""


@dataclass(frozen=True, slots=True)
class Platform:
    """An OCI platform; ``variant`` is empty where there is none."""

    os: str
    architecture: str
    variant: str = ""

    def to_json(self) -> dict[str, str]:
        """The object of an index entry."""
        document = {"architecture": self.architecture, "os": self.os}
        return document | ({"variant": self.variant} if self.variant else {})

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


_PLATFORMS: Final[Mapping[str, Platform]] = {
    "linux-64": Platform("linux", "amd64"),
    "linux-32": Platform("linux", "386"),
    "linux-aarch64": Platform("linux", "arm64"),
    "linux-armv6l": Platform("linux", "arm", "v6"),
    "linux-armv7l": Platform("linux", "arm", "v7"),
    "linux-ppc64le": Platform("linux", "ppc64le"),
    "linux-riscv64": Platform("linux", "riscv64"),
    "linux-s390x": Platform("linux", "s390x"),
}
_DEFAULT_VARIANTS: Final = {"amd64": "v1", "arm64": "v8"}


def oci_platform(platform: str) -> Platform | None:
    """The OCI platform of a conda platform such as ``linux-64``; None if it has none."""
    return _PLATFORMS.get(platform)


def conda_platform(platform: Platform) -> str | None:
    """The conda platform of an OCI platform; None if it has none."""
    return next((name for name, p in _PLATFORMS.items() if same_platform(p, platform)), None)


def same_platform(wanted: Platform, offered: Platform) -> bool:
    """Whether an image for ``offered`` is one for ``wanted`` (arm64 and arm64/v8 are one)."""
    default = _DEFAULT_VARIANTS.get(wanted.architecture, "")
    return (wanted.os, wanted.architecture, wanted.variant or default) == (
        offered.os,
        offered.architecture,
        offered.variant or default,
    )


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob as a document names it."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def config(cls, data: bytes) -> Descriptor:
        """The descriptor of an image config that was just made."""
        return cls(OCI_CONFIG, Digest.of(data), len(data))

    @classmethod
    def manifest(cls, digest: Digest, size: int) -> Descriptor:
        """The descriptor of an image manifest."""
        return cls(OCI_IMAGE_MANIFEST, digest, size)

    def to_json(self) -> dict[str, object]:
        """The descriptor's object; empty parts are left out."""
        document: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.platform is not None:
            document["platform"] = self.platform.to_json()
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: one config and layers from the bottom to the top."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """An image index or manifest list."""

    media_type: str
    manifests: tuple[Descriptor, ...]


def document_bytes(document: Mapping[str, object]) -> bytes:
    """The one way in which image documents are written: sorted keys, no space, UTF-8."""
    return _json(document)


def list_bytes(documents: Sequence[Mapping[str, object]]) -> bytes:
    """A list of documents (docker's ``manifest.json`` is one), written in the same way."""
    return _json(documents)


def _json(value: object) -> bytes:
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    ).encode()


class NotAnImageError(IntegrityError):
    """A well-formed manifest of something else: an SBOM, a signature, a chart."""


def problem(what: str, why: str) -> IntegrityError:
    """The error of every reader here: ``what`` names the document, ``why`` its fault."""
    return IntegrityError(f"{what}: {why}", code="image-document")


def read_json(data: bytes, what: str) -> Any:
    """Strict JSON: UTF-8 without a mark, no key twice, no lone surrogate, bounded."""
    if len(data) > DOCUMENT_LIMIT:
        raise problem(what, f"larger than {DOCUMENT_LIMIT} bytes")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise problem(what, f"the key {twice[:80]!r} is there twice")
        return result

    def refuse(text: str) -> Any:
        raise problem(what, f"{text} is no number of JSON")

    try:
        text = data.decode("utf-8")
        document = json.loads(text, object_pairs_hook=pairs, parse_constant=refuse)
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise problem(what, f"not a JSON document ({str(error)[:100]})") from error
    return document


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """Strict JSON that is one object."""
    document = read_json(data, what)
    if not isinstance(document, dict):
        raise problem(what, "not a JSON object")
    return document


_DOCUMENT_KEYS: Final = (
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests",
    "subject", "annotations", "fsLayers", "signatures",
)  # fmt: skip
_DESCRIPTOR_KEYS: Final = (
    "mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform",
)  # fmt: skip
_PLATFORM_KEYS: Final = ("architecture", "os", "variant", "os.version", "os.features")


def check_case(document: Mapping[str, Any], known: Iterable[str], what: str) -> None:
    """Refuse a key that is a known one in other letters: readers disagree about it."""
    lowered = {key.lower(): key for key in known}
    for key in document:
        if lowered.get(key.lower(), key) != key:
            raise problem(what, f"the key {key[:80]!r} must be {lowered[key.lower()]!r}")


def read_document(data: bytes, media_type: str, what: str) -> Manifest | Index:
    """A manifest or an index; its own ``mediaType`` must agree with ``media_type``.

    ``media_type`` is what the descriptor (or a Content-Type header) said; empty
    when nothing said anything.
    """
    document = read_object(data, what)
    check_case(document, _DOCUMENT_KEYS, what)
    said = document.get("mediaType", "")
    if not isinstance(said, str):
        raise problem(what, "mediaType is not text")
    if said and media_type and said != media_type:
        raise problem(what, f"it says {said!r}, and what names it says {media_type!r}")
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise problem(what, "a Docker schema 1 manifest, which nothing here reads: copy the image")
    if document.get("schemaVersion") != 2 or document.get("schemaVersion") is True:
        raise problem(what, "schemaVersion is not 2")
    has_layers = "layers" in document or "config" in document
    if has_layers and "manifests" in document:
        raise problem(what, "it is a manifest and an index at once")
    kind = said or media_type or (OCI_IMAGE_MANIFEST if has_layers else OCI_IMAGE_INDEX)
    if kind in (OCI_IMAGE_MANIFEST, DOCKER_MANIFEST) and has_layers:
        return _read_manifest(document, kind, what)
    if kind in (OCI_IMAGE_INDEX, DOCKER_INDEX) and "manifests" in document:
        entries = _objects(document["manifests"], "manifests", what)
        return Index(kind, tuple(_read_descriptor(entry, what) for entry in entries))
    raise problem(what, f"neither a manifest nor an index (its type is {kind[:100]!r})")


def _read_manifest(document: Mapping[str, Any], kind: str, what: str) -> Manifest:
    config = document.get("config")
    if not isinstance(config, dict):
        raise problem(what, "config is not an object")
    layers = _objects(document.get("layers"), "layers", what)
    if len(layers) > _MAX_LAYERS:
        raise problem(what, f"more than {_MAX_LAYERS} layers")
    manifest = Manifest(
        kind,
        _read_descriptor(config, what),
        tuple(_read_descriptor(layer, what) for layer in layers),
    )
    if manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        raise NotAnImageError(
            f"{what}: an artifact of type {manifest.config.media_type[:100]!r}, not an image",
            code="image-document",
        )
    for layer in manifest.layers:
        if layer.media_type not in LAYER_TYPES:
            raise problem(what, f"a layer of the unknown type {layer.media_type[:100]!r}")
    return manifest


def _objects(value: object, name: str, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise problem(what, f"{name} is not a list of objects")
    return value


def _read_descriptor(document: Mapping[str, Any], what: str) -> Descriptor:
    check_case(document, _DESCRIPTOR_KEYS, what)
    media_type, size = document.get("mediaType"), document.get("size")
    if not isinstance(media_type, str):
        raise problem(what, "a descriptor without mediaType")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise problem(what, f"a descriptor's size is {str(size)[:40]!r}")
    annotations = document.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(
        isinstance(value, str) for value in annotations.values()
    ):
        raise problem(what, "a descriptor's annotations are not a map of text")
    return Descriptor(
        media_type,
        read_digest(document.get("digest"), what),
        size,
        _read_platform(document.get("platform"), what),
        annotations,
    )


def read_digest(value: object, what: str) -> Digest:
    """A digest out of a document; anything but sha256 in lower case is refused."""
    try:
        return Digest(value)  # type: ignore[arg-type]  # Digest checks the type itself
    except (DigestError, TypeError) as error:
        raise problem(what, f"{str(value)[:100]!r} is no sha256 digest") from error


def _read_platform(value: object, what: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise problem(what, "a platform is not an object")
    check_case(value, _PLATFORM_KEYS, what)
    parts = [value.get(name, "") for name in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) for part in parts):
        raise problem(what, "a platform's parts are not text")
    return Platform(*parts)


_CONFIG_KEYS: Final = ("architecture", "os", "variant", "config", "rootfs", "history", "created")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's config: its platform, the DiffIDs of its layers, and all of it as read."""

    platform: Platform
    diff_ids: tuple[Digest, ...]
    document: Mapping[str, Any]


def read_config(data: bytes, what: str) -> ImageConfig:
    """An image config, with the parts checked that every reader relies on."""
    document = read_object(data, what)
    check_case(document, _CONFIG_KEYS, what)
    parts = [document.get(name) or "" for name in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) for part in parts):
        raise problem(what, "os and architecture are not text")
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict):
        raise problem(what, "no rootfs, so not an image's config")
    check_case(rootfs, ("type", "diff_ids"), what)
    diff_ids = rootfs.get("diff_ids") or []
    if rootfs.get("type") != "layers" or not isinstance(diff_ids, list):
        raise problem(what, "rootfs is not a list of layers")
    _objects(document.get("history") or [], "history", what)
    if not isinstance(document.get("config") or {}, dict):
        raise problem(what, "config is not an object")
    return ImageConfig(
        Platform(*parts), tuple(read_digest(item, what) for item in diff_ids), document
    )
