"""What is known of a version from its documents: in the store, or brought along."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from envgraph.diff.pictures import Picture
from envgraph.diff.versions import Side
from envgraph.errors import EnvgraphError
from envgraph.history.foundimage import picture_layers, picture_settings
from envgraph.lock.pins import Pins
from envgraph.model.locked import BaseLayer, LockedBase, LockedEnvironment
from envgraph.model.oci import DOCUMENT_LIMIT, Index, read_config, read_document
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError


@dataclass(frozen=True, slots=True)
class VersionDocuments:
    """A version's documents: out of the store, or brought along."""

    store: Store
    pins: Pins
    more: Mapping[Digest, bytes] = field(default_factory=dict)

    def side(
        self,
        record: VersionRecord,
        platform: str,
        title: str = "",
        lock: LockedEnvironment | None = None,
    ) -> Side:
        """A version on a platform."""
        lock = lock or self.pins.read(record.locks[platform].record)
        image = record.images.get(platform)
        return Side(
            title or f"{record.environment}:{record.version}",
            lock,
            record.locks[platform].identity,
            record.definition,
            self.canonical(record.definition),
            record.runtime,
            self.canonical(record.runtime),
            image,
            record.image_keys.get(platform, ""),
            {
                "kind": record.kind,
                "description": record.description,
                **{f"tags.{key}": value for key, value in record.tags.items()},
                **{f"properties.{key}": value for key, value in record.properties.items()},
            },
            self.base_labels(lock),
            None if image is None else self._layers(image),
        )

    def picture(self, record: VersionRecord, platform: str, title: str) -> Picture:
        """A version as a picture: its image where that is here, its lock in any case."""
        lock = self.pins.read(record.locks[platform].record)
        plain = replace(of_lock(title, platform, lock), image=record.images.get(platform))
        manifest = None if plain.image is None else self._bytes(plain.image)
        if plain.image is None or manifest is None:
            note = f"{title}: its image is not in the store (`envgraph pull` or apply brings it)"
            return replace(plain, unknown=(note,))
        try:
            document = read_document(manifest, "", title)
            if isinstance(document, Index):
                return plain
            data = self._bytes(document.config.digest)
            if data is None:
                return plain
            config = read_config(data, title)
        except EnvgraphError:
            return plain
        layers = tuple(
            BaseLayer(layer.media_type, layer.digest, layer.size, diff_id)
            for layer, diff_id in zip(document.layers, config.diff_ids, strict=False)
        )
        described = LockedBase(title, plain.image, "", document.config.digest, layers)
        return replace(
            plain,
            layers=picture_layers(described, config),
            settings=picture_settings(config),
            created=str(config.document.get("created") or ""),
        )

    def layers_of(self, image: Digest) -> tuple[Digest, ...] | None:
        """What the layers of an image of ours unpack to; None where that is not here."""
        found = self._json(image)
        try:
            config = self._json(Digest(found["config"]["digest"]))
            return tuple(Digest(text) for text in config["rootfs"]["diff_ids"])
        except (TypeError, KeyError, ValueError):
            return None

    def _bytes(self, digest: Digest) -> bytes | None:
        if digest in self.more:
            return self.more[digest]
        try:
            return self.store.blobs.read(digest, limit=DOCUMENT_LIMIT)
        except StoreError:
            return None

    def _json(self, digest: Digest) -> Any:
        data = self._bytes(digest)
        try:
            return None if data is None else json.loads(data)
        except ValueError:
            return None

    def canonical(self, digest: Digest) -> Mapping[str, Any] | None:
        """A canonical document by its digest, without its schema; None when it is not here."""
        found = self._json(digest)
        return found[1] if isinstance(found, list) and len(found) == 2 else None

    def base_labels(self, lock: LockedEnvironment) -> Mapping[str, str] | None:
        """The labels of a lock's base; None where its config is not here."""
        if lock.base.is_scratch:
            return {}
        found = None if lock.base.config is None else self._json(lock.base.config)
        config = found.get("config") if isinstance(found, dict) else None
        if found is None or not isinstance(config, dict | None):
            return None
        return {str(k): str(v) for k, v in ((config or {}).get("Labels") or {}).items()}

    def _layers(self, image: Digest) -> tuple[tuple[Digest, int], ...] | None:
        found = self._json(image)
        try:
            return tuple((Digest(item["digest"]), int(item["size"])) for item in found["layers"])
        except (TypeError, KeyError, ValueError):
            return None


def of_lock(title: str, platform: str, lock: LockedEnvironment) -> Picture:
    """What a lock alone says of the image that it makes."""
    return Picture(title, platform, packages=lock.packages, exact=True, base=lock.base)
