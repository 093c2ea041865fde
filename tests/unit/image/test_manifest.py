"""Manifests and indexes."""

from __future__ import annotations

import json

import pytest

from envgraph.errors import PlatformError
from envgraph.image.manifest import Descriptor, image_index, image_manifest
from envgraph.model.locked import BaseLayer
from envgraph.model.oci import (
    DOCKER_LAYER,
    LAYER_TYPES,
    OCI_CONFIG,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    Index,
    Manifest,
    read_document,
)
from envgraph_store.digest import Digest

CONFIG = b"{}"


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def test_docker_layers_become_oci_layers_of_the_same_bytes() -> None:
    base = [BaseLayer(DOCKER_LAYER + ".gzip", digest("base"), 7, digest("raw"))]
    ours = [Descriptor(OCI_LAYER_ZSTD, digest("ours"), 9)]
    data = image_manifest(Descriptor.config(CONFIG), base, ours)
    assert json.loads(data) == {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": str(Digest.of(CONFIG)), "size": 2},
        "layers": [
            {"mediaType": OCI_LAYER_GZIP, "digest": str(digest("base")), "size": 7},
            {"mediaType": OCI_LAYER_ZSTD, "digest": str(digest("ours")), "size": 9},
        ],
    }
    manifest = read_document(data, OCI_IMAGE_MANIFEST, "ours")
    assert isinstance(manifest, Manifest)
    assert [layer.digest for layer in manifest.layers] == [digest("base"), digest("ours")]


def test_every_type_has_an_oci_type() -> None:
    assert all(kind.startswith("application/vnd.oci.image.layer.") for kind in LAYER_TYPES.values())
    with pytest.raises(ValueError, match="no layer"):
        image_manifest(Descriptor.config(CONFIG), [], [Descriptor("text/plain", digest("x"), 1)])


def test_index_is_sorted_by_platform() -> None:
    entries = [
        (Descriptor.manifest(digest(name), 5), name)
        for name in ("linux-aarch64", "linux-armv7l", "linux-64")
    ]
    data = image_index(entries)
    assert image_index(entries[::-1]) == data
    index = read_document(data, OCI_IMAGE_INDEX, "ours")
    assert isinstance(index, Index)
    assert [str(entry.platform) for entry in index.manifests] == [
        "linux/amd64",
        "linux/arm/v7",
        "linux/arm64",
    ]
    with pytest.raises(ValueError, match="once"):
        image_index([entries[0], entries[0]])
    with pytest.raises(PlatformError):
        image_index([(entries[0][0], "osx-arm64")])
