"""An image that was built as the base of the next build, as the host hands it over."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from envgraph.api import OCI_CONFIG, OCI_IMAGE_MANIFEST, Base, Descriptor, Digest
from envgraph.testing.builder.contract_base import Built


def base_of(below: Base, built: Built) -> Base:
    layers = (*below.layers, *built.result.layers)
    blobs = {
        layer.descriptor.digest: blob
        for layer, blob in zip(built.result.layers, built.blobs, strict=True)
    }
    config = Descriptor(OCI_CONFIG, Digest.of(built.result.config), len(built.result.config))
    blobs[config.digest] = built.result.config
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.descriptor.to_json() for layer in layers],
    }
    data = json.dumps(document).encode()
    manifest = Descriptor(OCI_IMAGE_MANIFEST, Digest.of(data), len(data))
    blobs[manifest.digest] = data

    @contextmanager
    def open_blob(digest: Digest) -> Iterator[BinaryIO]:
        if digest in blobs:
            yield io.BytesIO(blobs[digest])
            return
        assert below.open_blob is not None
        with below.open_blob(digest) as stream:
            yield stream

    return Base("made", manifest, layers, "", open_blob)
