"""Layers that builders made before, found again by what they were made of.

Two actions for each: source → layer, and layer → source. They need the layer's blob, so
they live and go with it. A memo and no truth: without them the layer is made again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Final

from envgraph.api.builder import Layer
from envgraph.api.known import LayerSource
from envgraph.image.compress import Compression
from envgraph.model.canonical import digest_of
from envgraph.model.locked import BaseLayer
from envgraph.model.oci import OCI_LAYER, Descriptor
from envgraph_store import Digest, Store, Transaction

KNOWN_SCHEMA: Final = "envgraph.known-layer/1"


class StoredLayers:
    """What the store has of one type of builder's layers, for one build. Safe for threads."""

    def __init__(self, store: Store, builder: str, compression: Compression) -> None:
        """Bind; nothing is read yet. ``builder``: the plugin's name."""
        self._store = store
        self._builder = builder
        self._compression = compression.key
        self._lock = threading.Lock()
        self._given: dict[Digest, BaseLayer] = {}
        self._answered: set[LayerSource] = set()

    def _key(self, what: str, digest: Digest, rule: str) -> str:
        parts = [what, self._builder, self._compression, str(digest), rule]
        return f"knownlayer1:{digest_of(KNOWN_SCHEMA, parts).hex}"

    def _read(self, key: str) -> dict[str, Any] | None:
        record = self._store.actions.get(key)
        return record if record is not None and record.get("schema") == KNOWN_SCHEMA else None

    def layer(self, source: LayerSource) -> Layer | None:
        """The layer that was made of it; its blob is in the store, by name."""
        record = self._read(self._key("layer", source.digest, source.rule))
        if record is None:
            return None
        try:
            diff_id, plain = Digest.from_hex(record["diff_id"]), int(record["plain_size"])
            stored = BaseLayer(
                record["media_type"], Digest(record["layer"]), record["size"], diff_id
            )
        except (KeyError, ValueError, TypeError):
            return None
        if not self._store.blobs.has(stored.digest):
            return None
        with self._lock:
            self._given[diff_id] = stored
            self._answered.add(source)
        return Layer(Descriptor(OCI_LAYER, diff_id, plain), diff_id)

    def source(self, diff_id: Digest, rule: str) -> Digest | None:
        """What a layer was made of by this rule."""
        record = self._read(self._key("source", diff_id, rule))
        try:
            return None if record is None else Digest.from_hex(record["source"])
        except (KeyError, ValueError, TypeError):
            return None

    def given(self, diff_id: Digest) -> BaseLayer | None:
        """A layer that :meth:`layer` answered, as it lies in the store."""
        with self._lock:
            return self._given.get(diff_id)

    def remember(
        self,
        sources: Iterable[tuple[Digest, LayerSource]],
        layers: Iterable[tuple[BaseLayer, int | None]],
        batch: Transaction,
    ) -> None:
        """Keep what layers were made of; their bytes were verified.

        ``layers``: each with the size of its plain tar; None where that is not known, since
        it is older than this build: then only what it is made of is kept. What a layer was
        made of is not in the store: it is named by bare hex.
        """
        sizes = {stored.diff_id: (stored, size) for stored, size in layers}
        for diff_id, source in sources:
            if diff_id not in sizes or source in self._answered:
                continue
            stored, plain_size = sizes[diff_id]
            shared = {"schema": KNOWN_SCHEMA, "builder": self._builder}
            shared["layer"] = str(stored.digest)
            if plain_size is not None:
                made: dict[str, object] = {
                    "media_type": stored.media_type,
                    "size": stored.size,
                    "diff_id": stored.diff_id.hex,
                    "plain_size": plain_size,
                }
                batch.put_action(self._key("layer", source.digest, source.rule), shared | made)
            batch.put_action(
                self._key("source", stored.diff_id, source.rule),
                shared | {"source": source.digest.hex},
            )
