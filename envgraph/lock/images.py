"""Base images: from a reference to digests, and to the bytes behind them.

``scratch``, OCI layouts on disk (``oci:PATH[:NAME]``) and archives of ``docker
save`` (``docker-archive:PATH[:NAME]``) are read here. References to a registry
go to a :class:`RegistryResolver`, when one is given: :mod:`envgraph.lock.registry_bases`.

A base is read once, when it is locked (:func:`resolve_base`), and from then on
found by its manifest's digest (:func:`open_base`), whatever its name means by then.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from envgraph.errors import (
    Diagnostic,
    InputError,
    IntegrityError,
    PlatformError,
    ResolveError,
)
from envgraph.lock.archives import DockerArchive
from envgraph.lock.layouts import COPY_ALL, Blobs, OciLayout, choose_manifest
from envgraph.lock.manifests import read_image
from envgraph.lock.sources import FolderTree, TarTree, Tree, VerifyingReader
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.oci import Descriptor, ImageConfig, Platform, oci_platform, problem
from envgraph.model.reference import (
    BadReferenceError,
    LocalReference,
    RegistryReference,
    ScratchReference,
    parse_reference,
)
from envgraph_store.digest import Digest

_GONE: Final = "put that image back, or lock what is there now: `envgraph lock --update-base`"


@dataclass(frozen=True, slots=True)
class ResolvedBase:
    """A base with what is needed to copy it: its config, and its blobs by digest.

    ``sizes`` names every blob that an image on this base needs: manifest, config,
    layers. ``open`` gives one of them; the reader fails when bytes are wrong.
    ``documents`` are manifest and config of a base in a registry, by digest: the store
    keeps them with the lock. ``remarks`` are for the user.
    """

    locked: LockedBase
    config: ImageConfig | None = None
    sizes: Mapping[Digest, int] = field(default_factory=dict)
    source: Blobs | None = None
    title: str = "scratch"
    documents: Mapping[Digest, bytes] = field(default_factory=dict)
    remarks: tuple[Diagnostic, ...] = ()

    def open(self, digest: Digest) -> BinaryIO:
        """One blob; its last bytes come only when all of them were verified."""
        size = self.sizes.get(digest)
        if size is None or self.source is None:
            raise InputError(f"{self.title}: {digest} is no part of the base", code="base-image")
        reader = VerifyingReader(self.source.open(digest), digest, size, self.title)
        return io.BufferedReader(reader, 1 << 20)


class RegistryResolver(Protocol):
    """Bases in registries."""

    def resolve(self, reference: RegistryReference, platform: Platform) -> ResolvedBase:
        """The image that the reference means now."""

    def find(
        self, reference: RegistryReference, base: LockedBase, platform: Platform
    ) -> ResolvedBase:
        """The locked image by its digest, in the repository of the reference."""


def resolve_base(
    reference: str,
    image_path: str | None,
    platform: str,
    *,
    registry: RegistryResolver | None = None,
) -> ResolvedBase:
    """What ``reference`` means now, on a conda platform such as ``linux-64``.

    ``image_path`` is the absolute path behind an ``oci:`` or ``docker-archive:``
    reference. InputError: the reference or what lies there is wrong;
    ResolveError: no image of that name or platform; OfflineError: a registry would
    be asked that must not be; IntegrityError: hostile or damaged documents. Everything
    but the layers' bytes has been verified then.
    """
    wanted = oci_platform(platform)
    if wanted is None:
        raise PlatformError(f"images are for Linux, and {platform} is not", code="image-platform")
    try:
        parsed = parse_reference(reference)
    except BadReferenceError as error:
        raise InputError(str(error), code="bad-reference") from error
    if isinstance(parsed, ScratchReference):
        return ResolvedBase(LockedBase(reference))
    if isinstance(parsed, RegistryReference):
        if registry is None:
            raise no_registry(parsed)
        return registry.resolve(parsed, wanted)
    blobs, found = _look_up(parsed, image_path, wanted)
    return _read_image(blobs, found, reference, wanted)


def open_base(
    base: LockedBase,
    image_path: str | None,
    platform: str,
    *,
    registry: RegistryResolver | None = None,
) -> ResolvedBase:
    """The blobs of a locked base, found by its manifest's digest.

    ResolveError when the folder or archive no longer holds it: the lock stays as
    it is, and the message says how to follow the base instead.
    """
    if base.manifest is None:
        return ResolvedBase(base)
    parsed = parse_reference(base.reference)
    wanted = oci_platform(platform)
    if isinstance(parsed, RegistryReference) and wanted is not None:
        if registry is None:
            raise no_registry(parsed)
        return registry.find(parsed, base, wanted)
    if wanted is None or not isinstance(parsed, LocalReference):
        raise InputError(f"{base.reference} holds no image for {platform}", code="base-image")
    tree = _tree(parsed, image_path, base)
    blobs: Blobs = _as_layout(parsed, tree) or DockerArchive(tree)
    size = blobs.size(base.manifest)
    if size is None:
        raise ResolveError(
            f"{tree.title} no longer holds the base that is locked ({base.manifest})",
            code="base-gone",
            hint=_GONE,
        )
    found = Descriptor(base.manifest_media_type, base.manifest, size)
    resolved = _read_image(blobs, found, base.reference, wanted)
    if resolved.locked != base:
        raise IntegrityError(f"{tree.title}: the base is not the one of the lock", code="lock-base")
    return resolved


def _look_up(
    parsed: LocalReference, image_path: str | None, wanted: Platform
) -> tuple[Blobs, Descriptor]:
    tree = _tree(parsed, image_path)
    layout = _as_layout(parsed, tree)
    if layout is not None:
        return layout, choose_manifest(layout, parsed.name, wanted)
    archive = DockerArchive(tree)
    return archive, archive.choose(parsed.name)


def _as_layout(parsed: LocalReference, tree: Tree) -> OciLayout | None:
    """The tree as an OCI layout; None for an archive of an older docker."""
    if parsed.kind == "oci" or tree.size("oci-layout") is not None:
        return OciLayout(tree)
    return None


def _tree(parsed: LocalReference, image_path: str | None, locked: LockedBase | None = None) -> Tree:
    path = Path(image_path if image_path is not None else parsed.path)
    if not path.exists() and locked is not None:
        raise ResolveError(
            f"the base image {path} is not there, and the store lacks parts of it",
            code="base-gone",
            detail=f"locked is {locked.manifest}",
            hint=_GONE,
        )
    if not path.exists():
        raise InputError(
            f"the base image {path} is not there",
            code="missing-image",
            detail="It is not locked yet as it is asked for now, so it has to be read.",
            hint="put it there (`skopeo copy --all`, `docker save`), or correct `image:`: "
            "a relative path starts at the file that names it",
        )
    if path.is_dir():
        if parsed.kind == "docker-archive":
            raise InputError(
                f"{path} is a folder, not an archive of `docker save`",
                code="base-image",
                hint=f"if it is an OCI layout, write oci:{parsed.path}",
            )
        return FolderTree(path)
    return TarTree(path)


def _read_image(blobs: Blobs, found: Descriptor, reference: str, wanted: Platform) -> ResolvedBase:
    image = read_image(blobs, found, reference, wanted, COPY_ALL)
    for layer in image.locked.layers:
        _check_layer(blobs, layer, f"{blobs.title}: manifest {found.digest}")
    return ResolvedBase(image.locked, image.config, image.sizes, blobs, blobs.title)


def _check_layer(blobs: Blobs, layer: BaseLayer, what: str) -> None:
    there = blobs.size(layer.digest)
    if there is None:
        raise InputError(
            f"{blobs.title}: the layer {layer.digest} is not there",
            code="base-image",
            hint="copy the whole image: foreign layers are not fetched",
        )
    if there != layer.size:
        raise problem(what, f"the layer {layer.digest} has {there} bytes, not {layer.size}")


def no_registry(reference: RegistryReference) -> ResolveError:
    """No plugin can ask a registry."""
    name = reference.repository.rsplit("/", 1)[-1]
    return ResolveError(
        f"{reference} lies in a registry, and no registry plugin is there to ask it",
        code="no-registry",
        detail="Registries come with a registry plugin. An image on disk works without one.",
        hint=f"skopeo copy --all docker://{reference} oci:bases/{name}"
        f" and write `image: oci:bases/{name}`",
    )
