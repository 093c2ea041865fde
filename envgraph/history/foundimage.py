"""An image that was found: what its manifest, config, history and layers tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from envgraph.diff.pictures import LABEL, VARIABLE, Picture, PictureLayer
from envgraph.history.inside import packages_in_layers, packages_of_history
from envgraph.lock.images import ResolvedBase
from envgraph.model.locked import LockedBase, LockedPackage
from envgraph.model.oci import ImageConfig
from envgraph_store import Digest, Store
from envgraph_store.digest import DigestError

_SETTINGS: Final = {
    "Entrypoint": "entrypoint", "Cmd": "command", "User": "user", "WorkingDir": "folder",
    "ExposedPorts": "ports", "Volumes": "volumes", "StopSignal": "stop signal",
    "Healthcheck": "health check", "Shell": "shell",
}  # fmt: skip
_BASE_NAME: Final = "org.opencontainers.image.base.name"
_BASE_DIGEST: Final = "org.opencontainers.image.base.digest"


@dataclass(frozen=True, slots=True)
class FoundImage:
    """One platform's image: what its documents say, and how its layers are read, if at all."""

    title: str
    platform: str
    described: LockedBase
    """Its manifest, config and layers."""

    config: ImageConfig
    documents: Mapping[Digest, bytes] = field(default_factory=dict)
    source: ResolvedBase | None = None
    store: Store | None = None

    @property
    def digest(self) -> Digest:
        """Of the manifest."""
        assert self.described.manifest is not None
        return self.described.manifest

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its config."""
        found = (self.config.document.get("config") or {}).get("Labels") or {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    def picture(self) -> Picture:
        """The image as its own documents tell it."""
        packages, unknown = self._packages()
        return Picture(
            self.title,
            self.platform,
            self.digest,
            picture_layers(self.described, self.config),
            picture_settings(self.config),
            packages,
            False,
            self._base(),
            str(self.config.document.get("created") or ""),
            tuple(f"{short_title(self.title)}: {text}" for text in unknown),
        )

    def _packages(self) -> tuple[tuple[LockedPackage, ...] | None, list[str]]:
        found, later = packages_of_history(self.config)
        if found is not None:
            note = "its packages are those that envgraph put there; what later steps did to them"
            return found, [f"{note} is not known"] if later else []
        if self.source is None and self.store is None:
            text = "its packages are not known: its layers lie in a registry and were not fetched"
            return None, [text]
        return packages_in_layers(self.described, self._open)

    def _open(self, digest: Digest) -> Any:
        if self.store is not None:
            return self.store.blobs.open(digest)
        assert self.source is not None
        return self.source.open(digest)

    def _base(self) -> LockedBase | None:
        labels = self.labels
        found = labels.get(_BASE_DIGEST) or labels.get("envgraph.base")
        if found is None:
            return None
        try:
            return LockedBase(labels.get(_BASE_NAME, ""), Digest(found))
        except DigestError:
            return None


def short_title(title: str) -> str:
    """A digest as short as people read it; every other title whole."""
    return title[:19] if title.startswith("sha256:") else title


def picture_layers(described: LockedBase, config: ImageConfig) -> tuple[PictureLayer, ...]:
    """The layers, each with the entry of the history that made it, where those fit."""
    entries = config.document.get("history") or []
    filled = [e for e in entries if not e.get("empty_layer")]
    titles = [str(e.get("created_by") or e.get("comment") or "") for e in filled]
    if len(titles) != len(described.layers):
        titles = [""] * len(described.layers)
    return tuple(
        PictureLayer(layer.digest, layer.size, layer.diff_id, title)
        for layer, title in zip(described.layers, titles, strict=True)
    )


def picture_settings(config: ImageConfig) -> dict[str, Any]:
    """What the image says of how it runs, by words for people; nothing that is empty.

    A value of a kind that no image has is shown as it is.
    """
    settings = config.document.get("config") or {}
    found: dict[str, Any] = {}
    lines = settings.get("Env") or []
    for line in lines if isinstance(lines, list) else [lines]:
        name, _, value = str(line).partition("=")
        found[VARIABLE + name] = value
    labels = settings.get("Labels") or {}
    if isinstance(labels, dict):
        found |= {f"{LABEL}{key}": str(value) for key, value in labels.items()}
    for key, word in _SETTINGS.items():
        said = settings.get(key)
        if said:
            is_set = isinstance(said, dict) and key in ("ExposedPorts", "Volumes")
            found[word] = sorted(said) if is_set else said
    return found
