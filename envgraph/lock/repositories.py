"""A repository of base images as documents, and what its errors mean for a base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from envgraph.api.registry import ManifestBytes, RegistryError
from envgraph.errors import Diagnostic, EnvgraphError, OfflineError, ResolveError
from envgraph.lock.manifests import INDEX_TYPES, MANIFEST_TYPES, check_document_size
from envgraph.model.locked import LockedBase
from envgraph.model.oci import Descriptor, problem
from envgraph.model.reference import RegistryReference
from envgraph_store.digest import Digest

if TYPE_CHECKING:
    from envgraph.registry.retrying import RetryingRepository

_GOES_ON: Final = "what is pinned goes on working; something new has to be asked for"


class BaseRepository:
    """One repository; its documents are asked for once."""

    def __init__(self, repository: RetryingRepository, title: str) -> None:
        """Bind; asks nothing."""
        self.repository = repository
        self._title = title
        self._read: dict[Digest, bytes] = {}

    @property
    def title(self) -> str:
        """``host/name``."""
        return self._title

    def manifest(self, reference: str) -> ManifestBytes:
        """What a tag or digest names; NotFoundError when that is nothing."""
        found = self.repository.get_manifest(reference)
        self._read[found.digest] = found.data
        return found

    def document(self, descriptor: Descriptor) -> bytes:
        """A manifest, index or config, verified."""
        check_document_size(descriptor, self.title)
        data = self._read.get(descriptor.digest)
        if data is None:
            data = self._read[descriptor.digest] = self._fetch(descriptor)
        if len(data) != descriptor.size:
            raise problem(
                f"{self.title}: {descriptor.digest}",
                f"{len(data)} bytes, and its descriptor says {descriptor.size}",
            )
        return data

    def _fetch(self, descriptor: Descriptor) -> bytes:
        if descriptor.media_type in (*MANIFEST_TYPES, *INDEX_TYPES):
            return self.repository.get_manifest(str(descriptor.digest)).data
        with self.repository.open_blob(descriptor.digest, descriptor.size) as body:
            return body.read()


def not_there(reference: RegistryReference) -> ResolveError:
    """The registry answers, and has nothing of that name."""
    name = f"{reference.domain}/{reference.repository}"
    what = f"image {reference.digest}" if reference.digest else f"tag {reference.tag!r}"
    return ResolveError(
        f"{name} has no {what}",
        code="base-tag",
        hint="look up what the registry has, and correct `image:`; a private repository may"
        f" need `envgraph registry login {reference.domain}`",
    )


def gone(reference: RegistryReference, base: LockedBase) -> ResolveError:
    """The registry no longer has a part of what is locked."""
    return ResolveError(
        f"{reference.domain}/{reference.repository} no longer holds all of the base that is locked"
        f" ({base.manifest})",
        code="base-gone",
        hint="push that image again from a machine that has it, or take the base that the tag"
        " means now: `envgraph lock --update-base`",
    )


def not_asked(reference: RegistryReference, base: LockedBase | None) -> OfflineError:
    """--offline, and something is needed that only the registry has."""
    if base is None:
        return OfflineError(
            f"{reference} is not pinned yet, and --offline asks no registry",
            detail="What is pinned needs no registry to plan and build.",
            hint="run it once without --offline, or commit the lockfile of a machine that has it",
        )
    return OfflineError(
        f"parts of the base {reference} are not in the store, and --offline asks no registry",
        detail=f"needed is what belongs to {base.manifest}",
        hint="run it once without --offline: the store keeps what was fetched",
    )


def explained(error: RegistryError, reference: RegistryReference) -> RegistryError:
    """The registry's error, naming the base and saying what to do about it."""
    [first, *_] = error.diagnostics
    hints = {
        "registry-down": _GOES_ON,
        "registry-denied": f"`envgraph registry login {reference.domain}`; a repository that does"
        " not exist may look like this too",
    }
    hint = hints.get(first.code, "")
    return RegistryError(
        f"the base {reference} could not be had: {first.summary}",
        code=first.code,
        detail=first.detail,
        hint="; ".join(filter(None, [first.hint, hint])),
        retryable=error.retryable,
        retry_after=error.retry_after,
    )


def foreign_layers(title: str, base: LockedBase) -> tuple[Diagnostic, ...]:
    """One remark when the base has layers that its registry need not keep."""
    foreign = [
        layer
        for layer in base.layers
        if "foreign" in layer.media_type or "nondistributable" in layer.media_type
    ]
    if not foreign:
        return ()
    return (
        Diagnostic(
            "foreign-layers",
            f"{title}: {len(foreign)} of the base's layers are foreign",
            "their addresses elsewhere are not followed: where the registry does not hold them,"
            " the image can be built and shared, and not run or exported here",
            hint="use a base without foreign layers",
            severity="warning",
        ),
    )


def again(error: EnvgraphError) -> EnvgraphError:
    """The same error for another who asks: exceptions are not raised twice."""
    copy = type(error).__new__(type(error))
    copy.__dict__.update(error.__dict__)
    copy.args = error.args
    return copy
