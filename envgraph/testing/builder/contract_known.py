"""Layers that the host has already: a memo that saves work and never changes a byte."""

from __future__ import annotations

import dataclasses
import threading

from envgraph.api import (
    CAN_KNOWN_LAYERS,
    Builder,
    BuildRequest,
    BuildResult,
    Digest,
    Layer,
    LayerSource,
    Platform,
)
from envgraph.testing.builder.contract_base import Abilities, Built, whole
from envgraph.testing.builder.material import EPOCH, Events, steps

_FILES = {"big.bin": bytes(range(256)) * 400, "small": b"1"}


class RememberedLayers:
    """A host's memo in memory. ``given`` are the layers that it answered."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._layers: dict[LayerSource, Layer] = {}
        self._sources: dict[tuple[Digest, str], Digest] = {}
        self._lock = threading.Lock()
        self.given: list[Layer] = []

    def layer(self, source: LayerSource) -> Layer | None:
        """The layer that was made of it."""
        with self._lock:
            found = self._layers.get(source)
            if found is not None:
                self.given.append(found)
            return found

    def source(self, diff_id: Digest, rule: str) -> Digest | None:
        """What it was made of."""
        with self._lock:
            return self._sources.get((diff_id, rule))

    def take(self, result: BuildResult) -> None:
        """Remember what a build said."""
        layers = {layer.diff_id: layer for layer in result.layers}
        with self._lock:
            for diff_id, source in result.sources:
                if diff_id in layers:
                    self._layers[source] = layers[diff_id]
                self._sources[diff_id, source.rule] = source.digest


class KnownContract(Abilities):
    """Of a builder with ``known-layers``; of another one that it is not disturbed."""

    def _request(self, platform: Platform, small: bytes, epoch: int = EPOCH) -> BuildRequest:
        recipe = steps(None, "COPY big.bin /big", f"COPY small /small-{len(small)}")
        return self.request_of(platform, recipe, _FILES | {"small": small}, epoch=epoch)

    def _with(
        self, builder: Builder, request: BuildRequest, known: RememberedLayers
    ) -> tuple[BuildResult, dict[Digest, bytes]]:
        """A build that may leave out what is known; the layers that can be read."""
        known.given.clear()
        blobs: dict[Digest, bytes] = {}
        asked = dataclasses.replace(request, known=known)
        with builder.build(asked, Events(), threading.Event()) as result:
            for layer in result.layers:
                if layer not in known.given:
                    with result.open(layer.diff_id) as stream:
                        blobs[layer.diff_id] = stream.read()
        return result, blobs

    def _same(self, result: BuildResult, plain: Built) -> None:
        assert result.layers == plain.result.layers
        assert result.config == plain.result.config

    def test_what_a_layer_was_made_of_is_said(self, builder: Builder, platform: Platform) -> None:
        able = CAN_KNOWN_LAYERS in builder.capabilities().features
        known = RememberedLayers()
        result, _ = self._with(builder, self._request(platform, b"1"), known)
        named = {diff_id for diff_id, _ in result.sources}
        assert named == ({layer.diff_id for layer in result.layers} if able else set())

    def test_known_layers_are_the_same_layers(self, builder: Builder, platform: Platform) -> None:
        known = RememberedLayers()
        one, two = self._request(platform, b"1"), self._request(platform, b"22")
        plain = whole(builder, two)
        first, _ = self._with(builder, one, known)
        known.take(first)
        result, blobs = self._with(builder, two, known)
        self._same(result, plain)
        if CAN_KNOWN_LAYERS in builder.capabilities().features:
            assert first.layers[0] in known.given
            assert list(blobs) == [result.layers[1].diff_id]
        assert all(Digest.of(data) == digest for digest, data in blobs.items())

    def test_nothing_is_known_of_another_epoch(self, builder: Builder, platform: Platform) -> None:
        known = RememberedLayers()
        first, _ = self._with(builder, self._request(platform, b"1"), known)
        known.take(first)
        other = self._request(platform, b"1", EPOCH - 86_400)
        result, blobs = self._with(builder, other, known)
        self._same(result, whole(builder, other))
        assert set(blobs) == {layer.diff_id for layer in result.layers}

    def test_an_empty_memo_changes_nothing(self, builder: Builder, platform: Platform) -> None:
        request = self._request(platform, b"1")
        result, blobs = self._with(builder, request, RememberedLayers())
        self._same(result, whole(builder, request))
        assert set(blobs) == {layer.diff_id for layer in result.layers}
