"""Images that a user names: in the store, on disk or in a registry, as they tell of themselves.

Of an image in a registry manifest and config are read, and no layer. Which packages an
image of envgraph's holds, its history says; of other images on disk the names below
``conda-meta`` are read, where the layers are not too large for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.errors import EnvgraphError, NotFoundError, OfflineError, ResolveError
from envgraph.history.foundimage import FoundImage
from envgraph.lock.images import ResolvedBase, resolve_base
from envgraph.lock.manifests import manifests_below, read_image
from envgraph.model.locked import LockedBase
from envgraph.model.oci import (
    DOCUMENT_LIMIT,
    Descriptor,
    Index,
    conda_platform,
    oci_platform,
    read_config,
    read_document,
)
from envgraph.model.reference import (
    BadReferenceError,
    LocalReference,
    RegistryReference,
    parse_reference,
    parse_registry_reference,
)
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError

if TYPE_CHECKING:
    from envgraph.lock.registry_bases import RegistryBases

DOCKER: Final = "docker://"
PLATFORMS: Final = ("linux-64", "linux-aarch64", "linux-ppc64le", "linux-s390x",
                    "linux-riscv64", "linux-32", "linux-armv7l", "linux-armv6l")  # fmt: skip


class Images:
    """Finds images by what a user writes; asks a registry only for one that lies there."""

    def __init__(self, store: Store, root: str, bases: Callable[[], RegistryBases]) -> None:
        """Bind; ``root`` is where paths start."""
        self._store = store
        self._root = root
        self._bases = bases

    def on_disk(self, text: str) -> dict[str, Callable[[], FoundImage]]:
        """``oci:PATH[:NAME]`` or ``docker-archive:PATH``, by platform."""
        reference = _parse(text)
        assert isinstance(reference, LocalReference)
        path = str(Path(self._root, Path(reference.path).expanduser()))
        if not Path(path).exists():
            raise NotFoundError(
                f"there is no image {path}",
                code="missing-image",
                detail=f"{text} is a path from the workspace folder",
            )
        found: dict[str, Callable[[], FoundImage]] = {}
        last: EnvgraphError | None = None
        for platform in PLATFORMS:
            try:
                image = resolve_base(str(reference), path, platform)
            except ResolveError as error:
                if error.diagnostics[0].code != "base-platform":
                    raise
                last = error
                continue
            found[platform] = lambda p=platform, i=image: self._resolved(text, p, i)  # type: ignore[misc]
        if not found and last is not None:
            raise last
        return found

    def in_registry(self, text: str) -> dict[str, Callable[[], FoundImage]]:
        """An image in a registry, by platform; manifests and configs are all that is read."""
        reference = registry_reference(text)
        bases = self._bases()
        try:
            offered = bases.offered(reference)
        except EnvgraphError as error:
            raise _about(error, text, reference) from error
        names = [name for name in map(conda_platform, offered) if name is not None]
        if not names:
            raise NotFoundError(
                f"{reference} holds no image for a platform that is known here",
                code="no-common-platform",
                detail=f"it is for {', '.join(map(str, offered)) or 'nothing'}",
            )

        def read(platform: str) -> FoundImage:
            wanted = oci_platform(platform)
            assert wanted is not None
            try:
                image = bases.resolve(reference, wanted)
            except EnvgraphError as error:
                raise _about(error, text, reference) from error
            assert image.config is not None
            documents = image.documents
            return FoundImage(text, platform, image.locked, image.config, documents)

        return {name: lambda p=name: read(p) for name in dict.fromkeys(names)}  # type: ignore[misc]

    def in_store(self, digest: Digest) -> dict[str, Callable[[], FoundImage]]:
        """An image by its digest, by platform; empty where the store has no such blob.

        NotFoundError for a blob that is no image.
        """
        if not self._store.blobs.has(digest):
            return {}
        source = _StoreDocuments(self._store)
        what = f"the store: {digest}"
        try:
            data = self._store.blobs.read(digest, limit=DOCUMENT_LIMIT)
            document = read_document(data, "", what)
        except (EnvgraphError, StoreError) as error:
            raise NotFoundError(
                f"{digest} is in the store, and it is no image",
                code="not-an-image",
                hint="a layer, a config or a record cannot be compared: name the image",
            ) from error
        own = Descriptor(document.media_type, digest, len(data))
        leaves = [own]
        if isinstance(document, Index):
            leaves = manifests_below(source, document.manifests)
        found: dict[str, Callable[[], FoundImage]] = {}
        for leaf in leaves:
            platform = self._platform(source, leaf)
            if platform is not None:
                found.setdefault(
                    platform,
                    lambda p=platform, d=leaf: self._stored(source, str(digest), p, d),  # type: ignore[misc]
                )
        return found

    def _platform(self, source: _StoreDocuments, leaf: Descriptor) -> str | None:
        if leaf.platform is not None and leaf.platform.os:
            return conda_platform(leaf.platform)
        what = f"the store: {leaf.digest}"
        manifest = read_document(source.document(leaf), leaf.media_type, what)
        if isinstance(manifest, Index):
            return None
        return conda_platform(read_config(source.document(manifest.config), what).platform)

    def _stored(
        self, source: _StoreDocuments, title: str, platform: str, leaf: Descriptor
    ) -> FoundImage:
        wanted = oci_platform(platform)
        assert wanted is not None
        image = read_image(source, leaf, title, wanted, "")
        return FoundImage(title, platform, image.locked, image.config, image.documents, None,
                          self._store)  # fmt: skip

    def _resolved(self, title: str, platform: str, image: ResolvedBase) -> FoundImage:
        assert image.config is not None
        return FoundImage(title, platform, image.locked, image.config, {}, image)


class _StoreDocuments:
    """Manifests and configs that lie in the store."""

    title = "the store"

    def __init__(self, store: Store) -> None:
        self._store = store

    def document(self, descriptor: Descriptor) -> bytes:
        if not self._store.blobs.has(descriptor.digest):
            raise NotFoundError(
                f"the store lacks a part of the image: {descriptor.digest}",
                code="image-gone",
                hint="`envgraph pull` or `envgraph apply` brings it back",
            )
        return self._store.blobs.read(descriptor.digest, limit=DOCUMENT_LIMIT)


def is_local_image(text: str) -> bool:
    """``oci:`` or ``docker-archive:``."""
    return text.startswith(("oci:", "docker-archive:"))


def is_registry_image(text: str) -> bool:
    """``docker://…``, or a reference that begins with a host: ``localhost/x``, ``a.b/x:1``."""
    if text.startswith(DOCKER):
        return True
    host, slash, rest = text.partition("/")
    if not (slash and rest) or text.lower().startswith("azureml:"):
        return False
    if host != "localhost" and "." not in host and ":" not in host:
        return False  # docker calls a word in capitals a host, too
    try:
        return parse_registry_reference(text).domain == host
    except BadReferenceError:
        return False


def registry_reference(text: str) -> RegistryReference:
    """The image in a registry that a text names; NotFoundError (``bad-reference``)."""
    try:
        return parse_registry_reference(text.removeprefix(DOCKER))
    except BadReferenceError as error:
        raise NotFoundError(f"{text!r}: {error}", code="bad-reference") from error


def _parse(text: str) -> object:
    try:
        return parse_reference(text)
    except BadReferenceError as error:
        raise NotFoundError(f"{text!r}: {error}", code="bad-reference") from error


def _about(error: EnvgraphError, text: str, reference: RegistryReference) -> EnvgraphError:
    """The error in terms of an image that is looked at, where it speaks of a base to lock."""
    [first, *_] = error.diagnostics
    if isinstance(error, OfflineError):
        return OfflineError(
            f"{reference} lies in a registry, and --offline asks none",
            hint="run it without --offline, or name the image by its digest where the store has it",
        )
    if first.code == "base-tag":
        return NotFoundError(
            first.summary,
            code="unknown-image",
            hint="look up what the registry has; a private repository may need"
            f" `envgraph registry login {reference.domain}`",
        )
    if first.code in ("base-artifact", "no-registry"):
        return NotFoundError(f"{text} is not an image that can be read", code="not-an-image",
                             detail=first.detail or first.summary)  # fmt: skip
    summary = first.summary.removeprefix("the base ")
    hint = first.hint.partition("; what is pinned goes on")[0]
    hint = "" if hint.startswith("what is pinned goes on") else hint
    copy = type(error).__new__(type(error))
    copy.__dict__.update(error.__dict__)
    EnvgraphError.__init__(copy, summary, code=first.code, detail=first.detail, hint=hint)
    return copy


def same_layers(described: LockedBase, wanted: Sequence[Digest]) -> bool:
    """The image's layers unpack to these."""
    return tuple(layer.diff_id for layer in described.layers) == tuple(wanted)
