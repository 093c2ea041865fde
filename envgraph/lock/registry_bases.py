"""Base images in registries: a tag becomes a digest, once, and all that it names is checked.

Manifest and config are read; of the layers nothing but what these two say. What was
asked is remembered until :meth:`RegistryBases.forget`, failures too: a thousand
environments on one tag ask once, and a registry that is down is waited for once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from envgraph.api.registry import ManifestBytes, RegistryError
from envgraph.errors import EnvgraphError, IntegrityError, NotFoundError, OfflineError, ResolveError
from envgraph.lock.images import ResolvedBase, no_registry
from envgraph.lock.manifests import (
    ReadImage,
    fitting,
    manifests_below,
    no_such_platform,
    read_image,
)
from envgraph.lock.repositories import (
    BaseRepository,
    again,
    explained,
    foreign_layers,
    gone,
    not_asked,
    not_there,
)
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.oci import (
    Descriptor,
    Index,
    NotAnImageError,
    Platform,
    read_config,
    read_document,
)
from envgraph.model.reference import RegistryReference, parse_registry_reference
from envgraph_store.digest import Digest, DigestError

if TYPE_CHECKING:
    from envgraph.registry.remotes import Remote, Remotes

_T = TypeVar("_T")
_PLATFORM_HINT: Final = "name an image that is there for every platform, or change `platforms:`"


class RegistryBases:
    """Resolves and finds bases in the registries that a workspace can reach. Thread-safe."""

    def __init__(self, remotes: Callable[[], Remotes]) -> None:
        """Bind; ``remotes`` is called at the first question."""
        self._remotes = remotes
        self._lock = threading.RLock()
        self._repositories: dict[tuple[str, str], BaseRepository] = {}
        self._known: dict[object, object] = {}
        self._down: dict[str, EnvgraphError] = {}

    def forget(self) -> None:
        """What was answered so far may have changed: the next question is asked anew."""
        with self._lock:
            self._repositories.clear()
            self._known.clear()
            self._down.clear()

    def resolve(self, reference: RegistryReference, platform: Platform) -> ResolvedBase:
        """The image that the reference means now; a digest beats the tag beside it.

        ResolveError: no such tag, no image for the platform; OfflineError; RegistryError:
        the registry cannot be asked; IntegrityError: what it says is wrong.
        """
        return self._once(
            ("resolve", reference, platform), lambda: self._resolve(reference, platform)
        )

    def _resolve(self, reference: RegistryReference, platform: Platform) -> ResolvedBase:
        meant = self._once(("meant", reference), lambda: self._ask(reference))
        with self._asking(reference) as place:
            what = f"{place.title}: {meant.digest}"
            document = read_document(meant.data, meant.media_type, what)
            index = None
            found = Descriptor(document.media_type, meant.digest, len(meant.data))
            if isinstance(document, Index):
                index, found = meant.digest, _choose(place, document, platform)
            image = read_image(place, found, str(reference), platform, _PLATFORM_HINT)
        return _as_resolved(place, image, replace(image.locked, index=index))

    def offered(self, reference: RegistryReference) -> tuple[Platform, ...]:
        """The platforms of the images that the reference means now; the errors of `resolve`."""
        meant = self._once(("meant", reference), lambda: self._ask(reference))
        with self._asking(reference) as place:
            what = f"{place.title}: {meant.digest}"
            document = read_document(meant.data, meant.media_type, what)
            if isinstance(document, Index):
                leaves = manifests_below(place, document.manifests)
                return tuple(leaf.platform for leaf in leaves if leaf.platform is not None)
            return (read_config(place.document(document.config), f"{what}: config").platform,)

    def _ask(self, reference: RegistryReference) -> ManifestBytes:
        with self._asking(reference) as place:
            return place.manifest(_wanted(reference))

    def find(
        self, reference: RegistryReference, base: LockedBase, platform: Platform
    ) -> ResolvedBase:
        """The locked image, by its digest: whatever its tag means by now.

        ResolveError when the registry no longer has it, IntegrityError when its documents
        are not those of the lock.
        """
        if base.manifest is None:
            return ResolvedBase(base)
        with self._lock, self._asking(reference, base) as place:
            data = place.manifest(str(base.manifest)).data
            found = Descriptor(base.manifest_media_type, base.manifest, len(data))
            image = read_image(place, found, base.reference, platform, _PLATFORM_HINT)
        if image.locked != base:
            raise IntegrityError(
                f"{place.title}: the base {base.manifest} is not the one of the lock",
                code="lock-base",
            )
        return _as_resolved(place, image, base)

    def meant_now(self, reference: RegistryReference) -> Digest:
        """What the reference means now, an index or a manifest: one question, no body.

        ResolveError when the registry has no such tag; the other errors of :meth:`resolve`.
        """
        known = self._known.get(("meant", reference))
        if isinstance(known, ManifestBytes):
            return known.digest
        return self._once(("digest", reference), lambda: self._digest(reference))

    def _digest(self, reference: RegistryReference) -> Digest:
        with self._asking(reference) as place:
            found = place.repository.resolve(_wanted(reference))
            if found is None:
                raise NotFoundError(f"{place.title} has no {_wanted(reference)}")
            return found.digest

    @contextmanager
    def open_layer(self, base: LockedBase, layer: BaseLayer) -> Iterator[BinaryIO]:
        """The bytes of a layer: resumed where they break off, verified to their end."""
        reference = parse_registry_reference(base.reference)
        with (
            self._asking(reference, base) as place,
            place.repository.open_blob(layer.digest, layer.size) as body,
        ):
            yield body

    def _once(self, key: object, ask: Callable[[], _T]) -> _T:
        """Ask, or say again what was answered before; an error is an answer, too."""
        with self._lock:
            if key not in self._known:
                try:
                    self._known[key] = ask()
                except EnvgraphError as error:
                    self._known[key] = error
                    raise
            answer: _T | EnvgraphError = self._known[key]  # type: ignore[assignment]
        if isinstance(answer, EnvgraphError):
            raise again(answer)
        return answer

    @contextmanager
    def _asking(
        self, reference: RegistryReference, locked: LockedBase | None = None
    ) -> Iterator[BaseRepository]:
        """The reference's repository; what it fails with is said in terms of the base."""
        try:
            yield self._repository(reference)
        except NotFoundError as error:
            problem = not_there(reference) if locked is None else gone(reference, locked)
            raise problem from error
        except OfflineError as error:
            raise not_asked(reference, locked) from error
        except NotAnImageError as error:
            raise ResolveError(
                f"{reference} is not an image", code="base-artifact", detail=str(error),
                hint="name an image as `image:`",
            ) from error  # fmt: skip
        except RegistryError as error:
            found = explained(error, reference)
            if found.diagnostics[0].code == "registry-down":
                self._down[reference.domain] = error
            raise found from error

    def _repository(self, reference: RegistryReference) -> BaseRepository:
        key = (reference.domain, reference.repository)
        with self._lock:
            if reference.domain in self._down:
                raise again(self._down[reference.domain])
            if key not in self._repositories:
                remotes = self._remotes()
                if remotes.plugins.for_hosts() is None:
                    raise no_registry(reference)
                repository = remotes.for_host(reference.domain).repository(reference.repository)
                self._repositories[key] = BaseRepository(repository, "/".join(key))
            return self._repositories[key]


class KeptLayers:
    """The layers of bases as a registry of ours keeps them, with the images on them."""

    def __init__(self, remote: Callable[[], Remote | None], repository: str) -> None:
        """Bind; ``remote`` is called when a layer is asked for."""
        self._remote = remote
        self._repository = repository

    @contextmanager
    def open_layer(self, base: LockedBase, layer: BaseLayer) -> Iterator[BinaryIO]:
        """The bytes of a layer; NotFoundError where there is no registry, or no such layer."""
        remote = self._remote()
        if remote is None:
            raise NotFoundError("the workspace has no registry")
        repository = remote.repository(self._repository)
        with repository.open_blob(layer.digest, layer.size) as body:
            yield body


def _wanted(reference: RegistryReference) -> str:
    """The tag, or the text of the digest; ResolveError for one that is not sha256."""
    if not reference.digest:
        return reference.tag
    try:
        return str(Digest(reference.digest))
    except DigestError as error:
        raise ResolveError(
            f"{reference}: only sha256 digests are known here",
            code="bad-reference",
            hint="name the image by its tag, or by its sha256 digest",
        ) from error


def _choose(place: BaseRepository, index: Index, wanted: Platform) -> Descriptor:
    """The first manifest for the platform, as the image spec has it."""
    leaves = manifests_below(place, index.manifests)
    found = next(fitting(place, leaves, wanted), None)
    if found is None:
        raise no_such_platform(place, leaves, wanted, _PLATFORM_HINT)
    return found


def _as_resolved(place: BaseRepository, image: ReadImage, locked: LockedBase) -> ResolvedBase:
    documents: Mapping[Digest, bytes] = image.documents
    return ResolvedBase(
        locked,
        image.config,
        image.sizes,
        None,
        place.title,
        documents,
        foreign_layers(place.title, locked),
    )
