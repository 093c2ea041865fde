"""Archives of ``docker save``: ``manifest.json``, configs, and layers as found.

Such an archive holds no OCI manifest. One is made of what it holds, by a fixed
rule (OCI media types, layers as they are in the archive), so that the same
archive has the same manifest digest everywhere.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from envgraph.errors import ResolveError
from envgraph.lock.layouts import read_blob
from envgraph.lock.sources import Tree, hash_file
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    OCI_CONFIG,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    Descriptor,
    document_bytes,
    problem,
    read_json,
)
from envgraph.model.reference import same_name
from envgraph_store.digest import Digest


@dataclass(frozen=True, slots=True)
class _Image:
    names: tuple[str, ...]
    config: str
    layers: tuple[str, ...]


class DockerArchive:
    """The images of one archive, as blobs."""

    def __init__(self, tree: Tree) -> None:
        """Read ``manifest.json`` and hash what it names: every layer is read once."""
        self._tree = tree
        self._files: dict[Digest, tuple[str, int]] = {}
        self._documents: dict[Digest, bytes] = {}
        hashed: dict[str, Descriptor] = {}
        self._images = [(image, self._add_manifest(image, hashed)) for image in _read_images(tree)]

    @property
    def title(self) -> str:
        """The archive's path."""
        return self._tree.title

    def document(self, descriptor: Descriptor) -> bytes:
        """The made manifest, or a config, verified."""
        return read_blob(self, descriptor)

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob, the made manifests included."""
        if digest in self._documents:
            return len(self._documents[digest])
        return self._files[digest][1] if digest in self._files else None

    def open(self, digest: Digest) -> BinaryIO:
        """A blob from its first byte."""
        if digest in self._documents:
            return io.BytesIO(self._documents[digest])
        return self._tree.open(self._files[digest][0])

    def choose(self, name: str) -> Descriptor:
        """The image of that name; without a name the only one."""
        fitting = {
            found.digest: found
            for image, found in self._images
            if not name or any(same_name(name, other) for other in image.names)
        }
        if len(fitting) == 1:
            return next(iter(fitting.values()))
        listed = sorted(n for image, _ in self._images for n in image.names)
        raise ResolveError(
            f"{self.title} holds {len(fitting) or 'no'} images"
            + (f" named {name!r}" if name else ""),
            code="base-name",
            detail=f"It holds: {', '.join(repr(n[:100]) for n in listed[:20]) or 'no names'}.",
            hint="name one of them: docker-archive:PATH:NAME",
        )

    def _add_manifest(self, image: _Image, hashed: dict[str, Descriptor]) -> Descriptor:
        config = self._add_file(image.config, hashed, OCI_CONFIG)
        layers = [self._add_file(layer, hashed, "") for layer in image.layers]
        data = document_bytes(
            {
                "schemaVersion": 2,
                "mediaType": OCI_IMAGE_MANIFEST,
                "config": config.to_json(),
                "layers": [layer.to_json() for layer in layers],
            }
        )
        self._documents[Digest.of(data)] = data
        return Descriptor(OCI_IMAGE_MANIFEST, Digest.of(data), len(data))

    def _add_file(self, name: str, hashed: dict[str, Descriptor], media_type: str) -> Descriptor:
        if name not in hashed:
            if not media_type:
                with self._tree.open(name) as file:
                    media_type = _layer_type(file.read(4))
            with self._tree.open(name) as file:
                digest, size = hash_file(file)
            self._files[digest] = (name, size)
            hashed[name] = Descriptor(media_type, digest, size)
        return hashed[name]


def _layer_type(magic: bytes) -> str:
    if magic.startswith(b"\x1f\x8b"):
        return OCI_LAYER_GZIP
    return OCI_LAYER_ZSTD if magic == b"\x28\xb5\x2f\xfd" else OCI_LAYER


def _read_images(tree: Tree) -> list[_Image]:
    what = f"{tree.title}/manifest.json"
    with tree.open("manifest.json") as file:
        items = read_json(file.read(DOCUMENT_LIMIT + 1), what)
    if not isinstance(items, list) or not items:
        raise problem(what, "not a list of images")
    return [_read_image(item, what) for item in items]


def _read_image(item: object, what: str) -> _Image:
    if not isinstance(item, Mapping):
        raise problem(what, "an image is not an object")
    config, layers = item.get("Config"), item.get("Layers")
    names: Any = item.get("RepoTags") or []
    if not isinstance(config, str) or not isinstance(layers, list) or not isinstance(names, list):
        raise problem(what, "an image without Config and Layers")
    if not all(isinstance(text, str) for text in [*layers, *names]):
        raise problem(what, "Layers and RepoTags are not text")
    return _Image(tuple(names), config, tuple(layers))
