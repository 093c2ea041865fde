"""Layers and a base become an image: its config and manifest, from values alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envgraph.image.activation import WRAPPER, activation_scripts, wrapper_text
from envgraph.image.config import image_config
from envgraph.image.content import LayerContent
from envgraph.image.fixedlayers import write_files_layer
from envgraph.image.manifest import Descriptor, image_manifest
from envgraph.image.options import LayerOptions
from envgraph.model.locked import LockedEnvironment
from envgraph_store.digest import Digest


@dataclass(frozen=True, slots=True)
class AssembledImage:
    """The two documents of an image and their digests."""

    config: bytes
    manifest: bytes
    layers: tuple[Digest, ...]
    wrapper: bytes = b""
    """The last, tiny layer with the entrypoint wrapper; empty when no package needs one."""

    @property
    def config_digest(self) -> Digest:
        """The digest of the config: what docker calls the image id."""
        return Digest.of(self.config)

    @property
    def digest(self) -> Digest:
        """The digest of the manifest: what a registry calls the image."""
        return Digest.of(self.manifest)


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer as its action record has it: which blob, and what is in it."""

    digest: Digest
    content: LayerContent
    paths: Digest
    title: str = ""
    """What a person calls it: ``numpy 2.4.6 py312h_0``, or several of them."""

    def to_json(self) -> dict[str, Any]:
        """The action record's result."""
        return {
            "digest": str(self.digest),
            "paths": str(self.paths),
            "title": self.title,
            "content": self.content.to_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StoredLayer:
        """The inverse of :meth:`to_json`."""
        return cls(
            Digest(document["digest"]),
            LayerContent.from_json(document["content"]),
            Digest(document["paths"]),
            document.get("title", ""),
        )


def assemble_image(
    lock: LockedEnvironment,
    runtime: Mapping[str, Any],
    layers: Sequence[StoredLayer],
    base_config: bytes | None,
    options: LayerOptions,
) -> AssembledImage:
    """Config and manifest of ``layers`` on the lock's base; the same values, the same bytes."""
    base = None if base_config is None else json.loads(base_config)
    contents = [(layer.digest, layer.content) for layer in layers]
    wrapper = bytearray()
    text = wrapper_text(activation_scripts(content for _, content in contents), options.prefix)
    if text:
        last = write_files_layer({WRAPPER: text}, options, wrapper.extend)
        contents.append((Digest.of(bytes(wrapper)), last))
    titles = [layer.title for layer in layers] + ["entrypoint"] * (len(contents) - len(layers))
    ours = [content for _, content in contents]
    config = image_config(lock, runtime, ours, base, options, titles)
    manifest = image_manifest(
        Descriptor.config(config),
        lock.base.layers,
        [Descriptor(content.media_type, digest, content.size) for digest, content in contents],
    )
    digests = tuple(digest for digest, _ in contents)
    return AssembledImage(config, manifest, digests, bytes(wrapper))
