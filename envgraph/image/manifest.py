"""Image manifests and indexes: from descriptors to bytes. Pure.

The bytes depend on digests, sizes and types alone: no name, time or reference
enters them, so equal layers and configs are one image, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envgraph.errors import PlatformError
from envgraph.model.locked import BaseLayer
from envgraph.model.oci import (
    LAYER_TYPES,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    Descriptor,
    Platform,
    document_bytes,
    oci_platform,
)

__all__ = [
    "OCI_IMAGE_INDEX",
    "OCI_IMAGE_MANIFEST",
    "Descriptor",
    "image_index",
    "image_manifest",
    "platform_of",
]


def image_manifest(
    config: Descriptor,
    base_layers: Sequence[BaseLayer],
    layers: Sequence[Descriptor],
) -> bytes:
    """The manifest of ``layers`` on ``base_layers``, bottom first, as an OCI document.

    Docker media types of the base become the OCI types of the same bytes, so
    digests stay. ValueError when a layer's type is one that nobody reads.
    """
    below = [Descriptor(layer.media_type, layer.digest, layer.size) for layer in base_layers]
    return document_bytes(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_MANIFEST,
            "config": config.to_json(),
            "layers": [_layer(layer).to_json() for layer in (*below, *layers)],
        }
    )


def _layer(layer: Descriptor) -> Descriptor:
    media_type = LAYER_TYPES.get(layer.media_type)
    if media_type is None:
        raise ValueError(f"no layer is of the type {layer.media_type[:100]!r}")
    return Descriptor(media_type, layer.digest, layer.size)


def image_index(manifests: Sequence[tuple[Descriptor, str]]) -> bytes:
    """The index over one image for each conda platform, sorted by platform.

    ValueError when a platform is there twice.
    """
    entries = [replace(item, platform=platform_of(name)) for item, name in manifests]
    if len({str(entry.platform) for entry in entries}) != len(entries):
        raise ValueError("an index holds each platform once")
    return document_bytes(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_INDEX,
            "manifests": [
                entry.to_json() for entry in sorted(entries, key=lambda e: str(e.platform))
            ],
        }
    )


def platform_of(platform: str) -> Platform:
    """The OCI platform of a conda platform; PlatformError when images do not exist for it."""
    found = oci_platform(platform)
    if found is None:
        raise PlatformError(f"images are for Linux, and {platform} is not", code="image-platform")
    return found
