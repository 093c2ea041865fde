"""The image that came back, checked against what was asked for, as a BuildResult."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from envgraph.api import (
    OCI_LAYER,
    Base,
    BuilderError,
    BuildRequest,
    BuildResult,
    Descriptor,
    Digest,
    Layer,
    LayerSource,
    Steps,
)
from envgraph.errors import NotFoundError
from envgraph_buildkit.exported import Exported
from envgraph_buildkit.normal import Verified, normalise, rule

_CHUNK: Final = 1 << 20
_CONFIG_KEYS: Final = ("architecture", "os", "variant", "config")
_HISTORY_KEYS: Final = ("created_by", "author", "comment", "empty_layer")


def known_blob(request: BuildRequest, blob: Digest) -> bool:
    """The host has the layer that is made of this blob: it need not come."""
    known = request.known
    return known is not None and known.layer(LayerSource(blob, rule(request.epoch))) is not None


class _Members:
    """The layers of an image that came, and which of them the host has in normal form."""

    def __init__(self, exported: Exported, request: BuildRequest) -> None:
        self._known = request.known
        self._rule = rule(request.epoch)
        self._exported = exported
        self._found: dict[int, Layer | None] = {}
        self.diff_ids = [diff_id for _, diff_id in exported.members]

    def sources(self, index: int) -> list[LayerSource]:
        """What a layer is known by: the DiffID last."""
        digests = [self._exported.blobs[index], self.diff_ids[index]]
        return [LayerSource(each, self._rule) for each in dict.fromkeys(digests) if each]

    def known(self, index: int) -> Layer | None:
        """The host's layer; asked once."""
        if index not in self._found:
            answers = (self._known.layer(s) for s in self.sources(index) if self._known)
            self._found[index] = next(filter(None, answers), None)
        return self._found[index]

    def stand_on(self, base: Base) -> bool:
        """The lowest layers are those of the base, as they are or in normal form."""
        if len(base.layers) > len(self.diff_ids):
            return False
        return all(
            layer.diff_id == self.diff_ids[index]
            or ((known := self.known(index)) is not None and known.diff_id == layer.diff_id)
            for index, layer in enumerate(base.layers)
        )


def result_of(
    exported: Exported, request: BuildRequest, folder: Path, *, own: bool = False
) -> BuildResult:
    """The result; its new layers lie in ``folder``, as long as that is there.

    A layer that the host has is not read: it may not have come. ``own``: BuildKit knows the
    base by the host's own layers now. These are in normal form: each is made of itself.
    """
    members = _Members(exported, request)
    base = _base_of(members, request)
    below = len(base.layers) if base else 0
    layers: list[Layer] = []
    places: dict[Digest, Path] = {}
    sources: list[tuple[Digest, LayerSource]] = []
    for index, (name, diff_id) in enumerate(exported.members[below:], below):
        layer = members.known(index)
        if layer is None:
            path = folder / f"layer-{index}"
            with exported.open(name) as source, path.open("wb") as target:
                checked = exported.verified and exported.blobs[index] == diff_id
                digest, size = normalise(source, diff_id, target, request.epoch, verified=checked)
            layer = Layer(Descriptor(OCI_LAYER, digest, size), digest)
            places[digest] = path
        layers.append(layer)
        sources += [(layer.diff_id, source) for source in members.sources(index)]
    if own and base is not None:
        itself = [LayerSource(layer.diff_id, rule(request.epoch)) for layer in base.layers]
        sources += [(source.digest, source) for source in itself]
    kept = [layer.diff_id for layer in base.layers] if base else []
    made = [*kept, *(layer.diff_id for layer in layers)]
    config = _config(json.loads(exported.config), made, below, request.epoch)

    @contextmanager
    def open_layer(digest: Digest) -> Iterator[BinaryIO]:
        if digest not in places:
            raise NotFoundError(f"the build made no layer {digest}")
        with places[digest].open("rb", buffering=0) as stream:
            verified = Verified(cast("BinaryIO", stream), digest, "a layer on this machine's disk")
            yield cast("BinaryIO", io.BufferedReader(verified, _CHUNK))

    return BuildResult(base, tuple(layers), config, open_layer, tuple(sources))


def bases_of(request: BuildRequest) -> Iterable[Base]:
    """Those that the image may stand on."""
    recipe = request.recipe
    if isinstance(recipe, Steps):
        return (recipe.base,) if recipe.base else ()
    return recipe.bases.values()


def _base_of(members: _Members, request: BuildRequest) -> Base | None:
    """The base whose layers are the image's lowest: the one with the most of them."""
    found: Base | None = None
    for base in bases_of(request):
        more = len(base.layers) > len(found.layers if found else ())
        if more and members.stand_on(base):
            found = base
    if isinstance(request.recipe, Steps) and found is None:
        wanted = request.recipe.base
        if wanted is not None and wanted.layers:
            raise BuilderError(
                f"what BuildKit built does not stand on {wanted.reference}",
                code="builder-answer",
                detail=f"asked for {wanted.manifest.digest}",
            )
        return wanted
    return found


def _config(document: dict[str, Any], made: list[Digest], below: int, epoch: int) -> bytes:
    """The config with the new DiffIDs, and no time of the new history later than the epoch."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    history, layer = [], 0
    for entry in document.get("history") or []:
        if layer >= below:  # else it is of one of the base's layers
            said = str(entry.get("created") or created)
            entry = {key: entry[key] for key in _HISTORY_KEYS if entry.get(key)}
            entry["created"] = said if said[:19] < created[:19] else created
        history.append(entry)
        layer += not entry.get("empty_layer", False)
    new = {key: document[key] for key in _CONFIG_KEYS if document.get(key)}
    settings = new.get("config") or {}  # old servers write null where others write nothing
    new["config"] = {key: value for key, value in settings.items() if value is not None}
    new |= {
        "created": created,
        "history": history,
        "rootfs": {"type": "layers", "diff_ids": [str(each) for each in made]},
    }
    return json.dumps(new, sort_keys=True, separators=(",", ":")).encode()
