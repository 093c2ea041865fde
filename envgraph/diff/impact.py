"""Which environments stand on a base image, and by which tie. Pure: over records and locks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from envgraph.model.locked import LockedBase, LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph_store.digest import Digest

Tie = Literal["digest", "reference", "layers"]
_ORDER: Final[tuple[Tie, ...]] = ("digest", "reference", "layers")


@dataclass(frozen=True, slots=True)
class AskedBase:
    """The image in question.

    ``reference`` in normal form, empty for a digest alone; ``digests`` are the
    manifests, configs or layers that are meant, empty where nobody could say what the
    reference means now; ``layers`` are those of the image, where they are known.
    ``path`` is the absolute path behind an image on disk.
    """

    reference: str = ""
    digests: frozenset[Digest] = frozenset()
    layers: frozenset[Digest] = frozenset()
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """One platform of one version. ``path``: the absolute path behind its base, on disk.

    ``registry``: the title of the registry whose catalogue shares it; empty for the
    workspace's own.
    """

    record: VersionRecord
    lock: LockedEnvironment
    path: str | None = None
    labels: tuple[str, ...] = ()
    registry: str = ""


@dataclass(frozen=True, slots=True)
class Impact:
    """A version that stands on the base.

    ``by``: ``digest`` (the very image), ``reference`` (the same name, which meant
    another image when it was locked) or ``layers`` (another image on the same layers:
    ``shared`` of ``of``).
    """

    environment: str
    version: str
    platform: str
    by: Tie
    reference: str
    manifest: Digest | None
    image: Digest
    image_name: str
    locked: str
    labels: tuple[str, ...] = ()
    shared: int = 0
    of: int = 0
    registry: str = ""
    """Whose catalogue shares it; empty for the workspace's own."""

    def to_json(self) -> dict[str, Any]:
        """The entry of ``impact --json``."""
        return {
            "name": self.environment,
            "version": self.version,
            "registry": self.registry or None,
            "platform": self.platform,
            "by": self.by,
            "base": {
                "reference": self.reference,
                "digest": None if self.manifest is None else str(self.manifest),
            },
            "shared_layers": self.shared,
            "base_layers": self.of,
            "image": str(self.image),
            "image_name": self.image_name,
            "locked": self.locked,
            "labels": list(self.labels),
        }


def find_impact(asked: AskedBase, standing: Sequence[Standing]) -> tuple[Impact, ...]:
    """Every version on the base, the closest tie of each; by tie, then by name.

    Where nobody could say what a reference means now, it means what the newest lock of
    it on each platform says.
    """
    digests = asked.digests or _last_seen(asked, standing)
    layers = asked.layers or _layers(digests, standing)
    found = []
    for item in standing:
        ties = [(_closest(asked, digests, layers, item, base), base) for base in item.lock.bases]
        known = [(tie, base) for tie, base in ties if tie is not None]
        if known:
            (by, shared), base = min(known, key=lambda tie: _ORDER.index(tie[0][0]))
            record, platform = item.record, item.lock.platform
            found.append(
                Impact(
                    environment=record.environment,
                    version=record.version,
                    platform=platform,
                    by=by,
                    reference=base.reference,
                    manifest=base.manifest,
                    image=record.images[platform],
                    image_name=record.image_name,
                    locked=item.lock.created,
                    labels=item.labels,
                    shared=shared,
                    of=len(base.layers),
                    registry=item.registry,
                )
            )
    return tuple(sorted(found, key=lambda i: (_ORDER.index(i.by), i.registry, i.environment)))


def _closest(
    asked: AskedBase,
    digests: frozenset[Digest],
    layers: frozenset[Digest],
    item: Standing,
    base: LockedBase,
) -> tuple[Tie, int] | None:
    """How one of a version's bases is tied to the image, and how many layers they share."""
    shared = len({layer.digest for layer in base.layers} & layers)
    path = item.path if base == item.lock.base else None
    tie = _tie(asked, digests, shared, base, path)
    return None if tie is None else (tie, shared)


def _tie(
    asked: AskedBase, digests: frozenset[Digest], shared: int, base: LockedBase, path: str | None
) -> Tie | None:
    if base.is_scratch:
        return "digest" if asked.reference == base.reference else None
    if digests & named_by(base):
        return "digest"
    if is_same_reference(asked, base, path):
        return "reference"
    return "layers" if shared else None


def named_by(base: LockedBase) -> frozenset[Digest]:
    """Every digest by which somebody may name the image: manifest, index and config."""
    return frozenset(
        digest for digest in (base.manifest, base.index, base.config) if digest is not None
    )


def is_same_reference(asked: AskedBase, base: LockedBase, path: str | None) -> bool:
    """Whether a base is named as the one that is asked about."""
    if asked.path is not None and path is not None:
        return asked.path == path and _name(asked.reference) == _name(base.reference)
    return bool(asked.reference) and asked.reference == base.reference


def _name(reference: str) -> str:
    """``NAME`` of ``oci:PATH:NAME``: the path may be written in several ways."""
    return reference.partition(":")[2].partition(":")[2]


def _last_seen(asked: AskedBase, standing: Iterable[Standing]) -> frozenset[Digest]:
    newest: dict[str, tuple[str, Digest]] = {}
    for item in standing:
        for base in item.lock.bases:
            path = item.path if base == item.lock.base else None
            if base.manifest is None or not is_same_reference(asked, base, path):
                continue
            seen = (item.lock.created, base.manifest)
            newest[item.lock.platform] = max(newest.get(item.lock.platform, seen), seen)
    return frozenset(manifest for _, manifest in newest.values())


def _layers(digests: frozenset[Digest], standing: Iterable[Standing]) -> frozenset[Digest]:
    """The layers in question: of the bases that carry these digests, or the digests themselves."""
    layers: set[Digest] = set()
    every = [base for item in standing for base in item.lock.bases]
    known = {digest for base in every for digest in named_by(base)}
    for base in every:
        if digests & named_by(base):
            layers |= {layer.digest for layer in base.layers}
        layers |= {
            layer.digest
            for layer in base.layers
            if {layer.digest, layer.diff_id} & (digests - known)
        }
    return frozenset(layers)
