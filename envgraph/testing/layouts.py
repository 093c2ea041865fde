"""Small images on disk for tests: OCI layouts and archives of ``docker save``."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from envgraph.model.oci import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    OCI_LAYER,
    REF_NAME,
    Descriptor,
    Platform,
)
from envgraph_store.digest import Digest

Squeeze = Literal["", "gzip", "zstd"]

AMD64 = Platform("linux", "amd64")


def tar_bytes(files: Mapping[str, bytes | str], *, executable: Sequence[str] = ()) -> bytes:
    """A tar of regular files (bytes) and symbolic links (text: where they lead)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mtime = 315_532_800
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
                continue
            member.size = len(content)
            member.mode = 0o755 if name in executable else 0o644
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def squeeze(raw: bytes, how: Squeeze) -> bytes:
    """The layer's blob."""
    if how == "gzip":
        return gzip.compress(raw, mtime=0)
    if how == "zstd":
        from envgraph.image.compress import default_compression

        return default_compression("zstd").frame(raw)
    return raw


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image that was written: its manifest and what it holds."""

    manifest: Descriptor
    config: Digest
    layers: tuple[Digest, ...]
    diff_ids: tuple[Digest, ...]


class LayoutMaker:
    """Writes an OCI layout; images may share it. Nothing here checks anything."""

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
        self.folder = folder
        self._entries: list[dict[str, object]] = []
        (folder / "blobs/sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.write_index()

    def add_blob(self, data: bytes) -> Digest:
        """Write one blob."""
        digest = Digest.of(data)
        (self.folder / "blobs/sha256" / digest.hex).write_bytes(data)
        return digest

    def add_document(self, document: Mapping[str, Any], media_type: str) -> Descriptor:
        """Write a JSON blob."""
        data = json.dumps(document).encode()
        return Descriptor(media_type, self.add_blob(data), len(data))

    def add_image(
        self,
        tars: Sequence[bytes],
        *,
        compression: Squeeze = "gzip",
        docker: bool = False,
        platform: Platform = AMD64,
        config: Mapping[str, Any] | None = None,
        history: Sequence[Mapping[str, Any]] | None = None,
        created: str = "",
    ) -> MadeImage:
        """Write layers, config and manifest; nothing names it yet."""
        blobs = [squeeze(raw, compression) for raw in tars]
        kind = DOCKER_LAYER if docker else OCI_LAYER
        if compression:
            kind += f"{'.' if docker else '+'}{compression}"
        layers = [Descriptor(kind, self.add_blob(blob), len(blob)) for blob in blobs]
        diff_ids = tuple(Digest.of(raw) for raw in tars)
        document: dict[str, Any] = {
            **platform.to_json(),
            "config": dict(config or {}),
            "rootfs": {"type": "layers", "diff_ids": [str(d) for d in diff_ids]},
        }
        if history is not None:
            document["history"] = list(history)
        if created:
            document["created"] = created
        made = self.add_document(document, DOCKER_CONFIG if docker else OCI_CONFIG)
        media_type = DOCKER_MANIFEST if docker else OCI_IMAGE_MANIFEST
        manifest = self.add_document(
            {
                "schemaVersion": 2,
                "mediaType": media_type,
                "config": made.to_json(),
                "layers": [layer.to_json() for layer in layers],
            },
            media_type,
        )
        return MadeImage(manifest, made.digest, tuple(la.digest for la in layers), diff_ids)

    def add_index(
        self, images: Mapping[Platform, MadeImage], *, docker: bool = False
    ) -> Descriptor:
        """Write an index over images by platform."""
        media_type = DOCKER_INDEX if docker else OCI_IMAGE_INDEX
        entries = [
            image.manifest.to_json() | {"platform": platform.to_json()}
            for platform, image in images.items()
        ]
        return self.add_document(
            {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}, media_type
        )

    def name(self, descriptor: Descriptor, name: str = "", **extra: object) -> None:
        """Put an entry into ``index.json``; ``extra`` goes into its object."""
        entry = descriptor.to_json() | extra
        if name:
            entry["annotations"] = {REF_NAME: name}
        self._entries.append(entry)
        self.write_index()

    def write_index(self) -> None:
        """Write ``index.json``."""
        document = {"schemaVersion": 2, "manifests": self._entries}
        (self.folder / "index.json").write_text(json.dumps(document))


def docker_archive(
    path: Path,
    images: Mapping[str, Sequence[bytes]],
    *,
    compression: Squeeze = "",
) -> None:
    """Write what ``docker save`` (before 25) writes: names to their layers' tars."""
    files: dict[str, bytes | str] = {}
    listing = []
    for name, tars in images.items():
        layers = []
        for raw in tars:
            blob = squeeze(raw, compression)
            layers.append(f"{Digest.of(blob).hex}/layer.tar")
            files[layers[-1]] = blob
        config = json.dumps(
            {
                **AMD64.to_json(),
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(raw)) for raw in tars]},
            }
        ).encode()
        files[f"{Digest.of(config).hex}.json"] = config
        listing.append(
            {"Config": f"{Digest.of(config).hex}.json", "RepoTags": [name], "Layers": layers}
        )
    files["manifest.json"] = json.dumps(listing).encode()
    path.write_bytes(tar_bytes(files))
