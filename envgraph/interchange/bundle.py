"""Versions as one file: an OCI layout in a tar, for machines without a network.

What is in it lies as in a registry: images and records by the same names, each blob once;
so it is read by the code that pulls, and verified as strictly. Layers of bases in
registries, and package archives, are left out unless asked for. Equal versions give equal
bytes, whoever writes the file and when. skopeo reads its images, too.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

from envgraph.api.registry import BlobSource
from envgraph.errors import InputError, IntegrityError, NotFoundError
from envgraph.image.oci_export import write_layout_tar
from envgraph.interchange.catalogue import Catalogue
from envgraph.interchange.layoutregistry import LayoutRegistry
from envgraph.interchange.parcel import Parcel
from envgraph.lock.sources import TarTree
from envgraph.model.locked import LockedPackage
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    OCI_IMAGE_INDEX,
    OCI_IMAGE_MANIFEST,
    REF_NAME,
    Descriptor,
    Manifest,
    read_document,
)
from envgraph.registry.artifacts import environment_artifact
from envgraph.registry.names import catalogue_repository, version_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import Policy
from envgraph_store import Digest, Store, Transaction

NAME: Final = "bundle"
"""What the registry behind a bundle is called in messages."""

_CHUNK: Final = 1 << 20


class BundleWriter:
    """Gathers what belongs into one file."""

    def __init__(self, store: Store, *, with_base: bool, packages: bool) -> None:
        """Bind; reads nothing. ``with_base``: the store has every layer of the bases."""
        self._store = store
        self._with_base = with_base
        self._packages = packages
        self._blobs: dict[Digest, tuple[int, BlobSource]] = {}
        self._entries: dict[str, Descriptor] = {}

    def add(self, parcel: Parcel) -> None:
        """Take a version; NotFoundError when a part of it is not in the store."""
        record = parcel.record
        for platform, digest in record.images.items():
            base = parcel.contents.locks[platform].base
            left_out = set()
            if base.in_registry and not self._with_base:
                left_out = {layer.digest for layer in base.layers}
            data = self._document(digest)
            manifest = read_document(data, OCI_IMAGE_MANIFEST, f"image {digest}")
            assert isinstance(manifest, Manifest)
            for part in (manifest.config, *manifest.layers):
                if part.digest not in left_out:
                    self._blob(part.digest, parcel)
        media_type = OCI_IMAGE_MANIFEST if len(record.images) == 1 else OCI_IMAGE_INDEX
        image = self._document(record.image)
        described = Descriptor(media_type, record.image, len(image))
        self._name(record.image_name, version_tag(record.version, record.image), described)
        artifact = environment_artifact(parcel.contents)
        for data in (artifact.manifest, *artifact.blobs.values()):
            self._blobs[Digest.of(data)] = (len(data), partial(io.BytesIO, data))
        described = Descriptor(OCI_IMAGE_MANIFEST, artifact.digest, len(artifact.manifest))
        name = catalogue_repository(record.environment)
        self._name(name, version_tag(record.version), described)
        if self._packages:
            for lock in parcel.contents.locks.values():
                for package in lock.packages:
                    self._archive(package)

    def _name(self, repository: str, tag: str, described: Descriptor) -> None:
        name = f"{repository}:{tag}"
        self._entries[name] = Descriptor(
            described.media_type, described.digest, described.size, None, {REF_NAME: name}
        )

    def _document(self, digest: Digest) -> bytes:
        data = self._store.blobs.read(digest, DOCUMENT_LIMIT)
        self._blobs[digest] = (len(data), partial(io.BytesIO, data))
        return data

    def _blob(self, digest: Digest, parcel: Parcel) -> None:
        if not self._store.blobs.has(digest):
            raise NotFoundError(
                f"{parcel.title}: {digest} is not in the store",
                hint="`envgraph apply` makes it again, `envgraph pull` fetches it",
            )
        opened = partial(self._store.blobs.open, digest)
        self._blobs[digest] = (self._store.blobs.size(digest), opened)

    def _archive(self, package: LockedPackage) -> None:
        digest = package.sha256
        if not self._store.packages.has(digest):
            raise NotFoundError(
                f"the archive of {package.title} is not in the store",
                hint="leave --packages out: the image is whole without archives",
            )
        opened = partial(self._store.packages.open, digest)
        self._blobs[digest] = (self._store.packages.size(digest), opened)

    def write(self, path: Path) -> int:
        """Write the file, whole or not at all; the bytes of what is in it."""
        entries = [self._entries[name] for name in sorted(self._entries)]
        return write_layout_tar(path, entries, self._blobs)


class Bundle:
    """A bundle that was made, here or elsewhere: a registry that is only read."""

    def __init__(self, path: Path) -> None:
        """Open it; InputError or IntegrityError when it is no such file."""
        if not path.is_file():
            raise InputError(f"{path} is not there, or no file", code="no-bundle")
        try:
            self._registry = LayoutRegistry(TarTree(path))
        except (InputError, IntegrityError) as error:
            raise IntegrityError(
                f"{path} is no bundle, or a damaged one",
                code="bundle",
                detail=str(error),
                hint="nothing of it was kept; `envgraph bundle create` writes such files",
            ) from error
        self.remote = Remote(NAME, self._registry, Policy(tries=1))

    def versions(self) -> list[tuple[str, str]]:
        """Names and versions of the environments in it."""
        catalogue = Catalogue(self.remote)
        found = [
            (name, version) for name in catalogue.names() for version in catalogue.versions(name)
        ]
        if not found:
            raise IntegrityError(
                f"{self._registry.title} holds no environment",
                code="bundle",
                hint="`envgraph bundle create` writes such files",
            )
        return sorted(found)

    def copy_archives(
        self, store: Store, packages: Iterable[LockedPackage], batch: Transaction
    ) -> int:
        """Bring the archives that it holds and the store lacks; how many."""
        wanted = {package.sha256: package for package in packages}
        repository = self.remote.repository(NAME)
        there = wanted.keys() - repository.missing(wanted)
        copied = 0
        for digest in sorted(store.packages.missing(there)):
            size = wanted[digest].size
            with (
                batch.writer("packages", expect=digest, size=size) as writer,
                repository.open_blob(digest, size) as body,
            ):
                while data := body.read(_CHUNK):
                    writer.write(data)
                writer.finish()
            copied += 1
        return copied
