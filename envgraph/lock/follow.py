"""Bases that move: a lock on another base, and what a workspace does about moved tags.

``base_images: freeze`` asks nobody. ``follow`` takes what a tag means now, with the same
packages, as a planned change; ``ask`` only says so. Each tag is asked for once, without a
body; one that has not moved costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, Protocol

from envgraph.errors import Diagnostic, EnvgraphError, OfflineError
from envgraph.model.locked import LockedBase, LockedEnvironment, Move
from envgraph.model.reference import RegistryReference, parse_reference
from envgraph_store.digest import Digest

if TYPE_CHECKING:
    from envgraph.lock.images import RegistryResolver, ResolvedBase
    from envgraph.model.oci import Platform
    from envgraph.model.spec import EnvironmentSpec

Mode = Literal["freeze", "follow", "ask"]
_NOT_ASKED: Final = Diagnostic(
    "base-not-asked",
    "--offline: no registry was asked whether base tags have moved",
    "what is pinned is used as it is",
    hint="plan without --offline to follow them",
    severity="warning",
)


class MovingBases(Protocol):
    """Registries that can be asked what a tag means now, and for the image behind it."""

    def resolve(self, reference: RegistryReference, platform: Platform) -> ResolvedBase:
        """The image that the reference means now."""

    def find(
        self, reference: RegistryReference, base: LockedBase, platform: Platform
    ) -> ResolvedBase:
        """The locked image by its digest, in the repository of the reference."""

    def meant_now(self, reference: RegistryReference) -> Digest:
        """The digest behind the reference; errors of the registry."""


@dataclass(frozen=True, slots=True)
class Rebased:
    """A lock whose packages stand on another base. ``base`` has its documents, remarks too."""

    lock: LockedEnvironment
    base: ResolvedBase


@dataclass(frozen=True, slots=True)
class SavedLocks:
    """What a saved plan settled: locks that it solved, and locks whose base it moved."""

    solved: Mapping[Digest, LockedEnvironment] = field(default_factory=dict)
    """By pin key."""

    moves: Mapping[tuple[str, Digest], LockedEnvironment] = field(default_factory=dict)
    """By environment and pin key: they beat the lockfile and the pin."""

    documents: Mapping[Digest, bytes] = field(default_factory=dict)

    def documents_of(self, base: LockedBase) -> dict[Digest, bytes]:
        """Manifest and config of a base, as far as they were saved."""
        parts = (base.manifest, base.config)
        return {part: self.documents[part] for part in parts if part and part in self.documents}


def rebase_lock(
    lock: LockedEnvironment,
    *,
    now: datetime,
    registry: RegistryResolver | None,
    reference: str | None = None,
    image_path: str | None = None,
) -> Rebased:
    """The lock on what its base's reference (or another ``reference``) means now.

    Packages, steps, definition and pin key stay; where the base is the same, so is the
    lock. Errors as :func:`envgraph.lock.images.resolve_base` has them.
    """
    from envgraph.lock.images import resolve_base

    images = dict(lock.images)
    documents: dict[Digest, bytes] = {}
    for text, image in lock.images.items():
        moved = resolve_base(image.reference, None, lock.platform, registry=registry)
        images[text] = moved.locked
        documents |= moved.documents
    asked = reference or lock.base.reference
    if lock.context is not None:
        asked = lock.base.reference  # the Dockerfile says it
    resolved = resolve_base(asked, image_path, lock.platform, registry=registry)
    resolved = replace(resolved, documents=documents | dict(resolved.documents))
    if resolved.locked == lock.base and images == dict(lock.images):
        return Rebased(lock, resolved)
    created = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    moved_lock = replace(lock, base=resolved.locked, images=images, created=created)
    return Rebased(moved_lock, resolved)


def moving_tag(base: LockedBase) -> RegistryReference | None:
    """The tag in a registry that a base was named by; None where nothing can move."""
    if not base.in_registry:
        return None
    reference = parse_reference(base.reference)
    if not isinstance(reference, RegistryReference) or reference.digest:
        return None
    return reference


class BaseFollower:
    """Looks whether the bases of locks have moved; remembers what it has said."""

    def __init__(
        self,
        mode: Mode,
        bases: Callable[[], MovingBases] | None,
        *,
        offline: bool,
        now: datetime,
    ) -> None:
        """Bind; asks nothing. ``bases`` is called at the first question."""
        self.mode: Final = mode
        self._bases = bases
        self._offline = offline
        self._now = now
        self._said: set[Diagnostic] = set()

    def look(self, lock: LockedEnvironment) -> tuple[Rebased | None, tuple[Diagnostic, ...]]:
        """The lock on its moved base, None where that did not move, and remarks.

        A registry that cannot be asked, or that has the tag no more, moves nothing.
        """
        tags = {
            tag: base
            for base in (lock.base, *lock.images.values())
            if (tag := moving_tag(base)) is not None
        }
        if self.mode == "freeze" or not tags or self._bases is None:
            return None, ()
        if self._offline:
            return None, self._once(_NOT_ASKED)
        try:
            bases = self._bases()
            if all(bases.meant_now(tag) == base.meant for tag, base in tags.items()):
                return None, ()
            rebased = rebase_lock(lock, now=self._now, registry=bases)
        except OfflineError:
            return None, self._once(_NOT_ASKED)
        except EnvgraphError as error:
            return None, self._once(_unknown(lock, error))
        if rebased.lock == lock:
            return None, ()
        return rebased, rebased.base.remarks

    def _once(self, remark: Diagnostic) -> tuple[Diagnostic, ...]:
        if remark in self._said:
            return ()
        self._said.add(remark)
        return (remark,)


def _unknown(lock: LockedEnvironment, error: EnvgraphError) -> Diagnostic:
    [first, *_] = error.diagnostics
    named = dict.fromkeys(base.reference for base in lock.bases if moving_tag(base) is not None)
    return Diagnostic(
        "base-not-asked",
        f"whether {' or '.join(named)} has moved is not known: {first.summary}",
        "what is pinned is used as it is",
        hint=first.hint,
        severity="warning",
    )


def has_moved(spec: EnvironmentSpec, moves: Sequence[Move]) -> Diagnostic:
    """The remark of ``base_images: ask``, on every image that has moved."""
    said = [f"{before.reference} has moved from {before.short} to {now.short}"
            for before, now in moves]  # fmt: skip
    stays, takes = "the pinned base stays", "what the tag means now"
    if len(moves) > 1:
        stays, takes = "the pinned images stay", "what the tags mean now"
    return Diagnostic(
        "base-moved",
        f"{spec.name}: {', '.join(said)}",
        f"{stays} until you say otherwise (`base_images: ask`)",
        spec.source,
        f"`envgraph apply --follow-base` takes {takes}"
        + (", with the same packages" if spec.build is None else ""),
        "warning",
    )
