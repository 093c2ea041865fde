"""A base in BuildKit's own words, so that what BuildKit built is not sent back to it.

The layers of earlier steps lie with the host in normal form: BuildKit has never seen these, and
would fetch and unpack every one. It finds a layer that it has by its DiffID. So it is first
given a manifest that names the layers as it made them, whose bytes nobody here has. Where it
has lost one, it asks for it; then the same build is asked for with the host's own layers.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from envgraph.api import (
    OCI_CONFIG,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER,
    Base,
    BuildRequest,
    Descriptor,
    Digest,
    Layer,
    Steps,
)
from envgraph.errors import NotFoundError
from envgraph_buildkit.normal import rule

_LIMIT: Final = 4 << 20


class Lent:
    """A request on such a base. ``asked``: BuildKit wanted bytes of a layer that it lacks."""

    def __init__(self, request: BuildRequest, steps: Steps, base: Base) -> None:
        """``base``: the request's, with layers as BuildKit has them, and its documents."""
        self.asked = False
        self._own = base
        self._documents: dict[Digest, bytes] = {}
        layers = tuple(self._lent(request, layer) for layer in base.layers)
        self._new = {layer.descriptor.digest for layer in layers} - {
            layer.descriptor.digest for layer in base.layers
        }
        manifest = self._manifest(layers)
        made = dataclasses.replace(base, manifest=manifest, layers=layers, open_blob=self._open)
        self.request = dataclasses.replace(request, recipe=dataclasses.replace(steps, base=made))

    @property
    def differs(self) -> bool:
        """There is a layer that BuildKit made."""
        return bool(self._new)

    @staticmethod
    def _lent(request: BuildRequest, layer: Layer) -> Layer:
        assert request.known is not None
        source = request.known.source(layer.diff_id, rule(request.epoch))
        if source is None or source == layer.diff_id:  # it has the host's own
            return layer
        return Layer(Descriptor(OCI_LAYER, source, layer.descriptor.size), source)

    def _manifest(self, layers: tuple[Layer, ...]) -> Descriptor:
        """Manifest and config of the base with these layers."""
        assert self._own.open_blob is not None
        with self._own.open_blob(self._own.manifest.digest) as stream:
            manifest = json.loads(stream.read(_LIMIT))
        with self._own.open_blob(Digest(manifest["config"]["digest"])) as stream:
            config = json.loads(stream.read(_LIMIT))
        diff_ids = [str(layer.diff_id) for layer in layers]
        config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_MANIFEST,
            "config": self._keep(OCI_CONFIG, config).to_json(),
            "layers": [layer.descriptor.to_json() for layer in layers],
        }
        return self._keep(OCI_IMAGE_MANIFEST, document)

    def _keep(self, media_type: str, document: object) -> Descriptor:
        data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        self._documents[Digest.of(data)] = data
        return Descriptor(media_type, Digest.of(data), len(data))

    @contextmanager
    def _open(self, digest: Digest) -> Iterator[BinaryIO]:
        if digest in self._documents:
            yield io.BytesIO(self._documents[digest])
            return
        if digest in self._new:
            self.asked = True
            raise NotFoundError(f"{digest} was BuildKit's own layer")
        assert self._own.open_blob is not None
        with self._own.open_blob(digest) as stream:
            yield stream


def lent(request: BuildRequest, *, whole: bool) -> Lent | None:
    """The request on such a base; None where that would be the same, or is not to be had."""
    steps = request.recipe
    if not whole or request.known is None or not isinstance(steps, Steps):
        return None
    if steps.base is None or steps.base.open_blob is None:
        return None
    found = Lent(request, steps, steps.base)
    return found if found.differs else None
