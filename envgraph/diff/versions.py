"""What differs between two versions (or lockfiles): from metadata down to packages. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envgraph.diff.packages import PackageChange, compare_packages
from envgraph.model.locked import LockedEnvironment
from envgraph_store.digest import Digest


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared: a version on one platform, or a lock in a file.

    What is not known is None: a lockfile has no metadata, and an image that was collected
    no layers. ``layers`` are those of the image, the base's first, with bytes.
    """

    title: str
    lock: LockedEnvironment
    lock_identity: Digest
    definition: Digest
    definition_document: Mapping[str, Any] | None = None
    runtime: Digest | None = None
    runtime_document: Mapping[str, Any] | None = None
    image: Digest | None = None
    image_key: str = ""
    metadata: Mapping[str, Any] | None = None
    base_labels: Mapping[str, str] | None = None
    layers: tuple[tuple[Digest, int], ...] | None = None

    @property
    def asked(self) -> list[str]:
        """The lines of conda and pip as the file has them, in order."""
        conda = (self.definition_document or {}).get("conda") or {}
        lines = [_line(item) for item in conda.get("dependencies", ())]
        return lines + [f"pip: {_pip_line(item)}" for item in conda.get("pip", ())]

    @property
    def channels(self) -> list[str] | None:
        """The channels in order; None where the file names none."""
        conda = (self.definition_document or {}).get("conda") or {}
        found = conda.get("channels")
        return None if found is None else list(found)

    @property
    def steps(self) -> list[str] | None:
        """The docker steps as written; None where the definition is not known."""
        if self.definition_document is None:
            return list(self.lock.steps) or None
        return [str(s["instruction"]) for s in self.definition_document.get("steps") or ()]

    @property
    def variables(self) -> Mapping[str, str] | None:
        """The environment variables."""
        found = self.runtime_document
        return None if found is None else dict(found.get("environment_variables") or {})

    @property
    def routes(self) -> Mapping[str, Any] | None:
        """The inference routes."""
        found = self.runtime_document
        return None if found is None else dict(found.get("inference_config") or {})


def _line(item: Mapping[str, Any]) -> str:
    selector = item.get("selector") or ""
    return f"sel({selector}): {item['text']}" if selector else str(item["text"])


def _pip_line(item: Mapping[str, Any]) -> str:
    return ("-e " if item.get("editable") else "") + str(item["text"])


@dataclass(frozen=True, slots=True)
class Moved:
    """A value by key: None is "was not there"."""

    key: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        """``name, from, to``."""
        return {"name": self.key, "from": self.before, "to": self.after}


@dataclass(frozen=True, slots=True)
class Lines:
    """What differs between two lists: lines that came and went, or only their order."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reordered: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.reordered)

    def to_json(self) -> dict[str, Any]:
        """``added, removed, reordered``."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "reordered": self.reordered,
        }


def compare_lines(before: Sequence[str], after: Sequence[str]) -> Lines:
    """Lines that only one of the two has; ``reordered`` where both have the rest in other order."""
    added = tuple(line for line in after if line not in before)
    removed = tuple(line for line in before if line not in after)
    kept = [line for line in before if line in after]
    return Lines(added, removed, kept != [line for line in after if line in before])


def compare_maps(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Moved, ...]:
    """Every key whose value differs, sorted."""
    return tuple(
        Moved(key, before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    )


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """Everything that differs. What one side does not know is not compared."""

    before: Side
    after: Side
    packages: tuple[PackageChange, ...]
    metadata: tuple[Moved, ...] = ()
    asked: Lines = field(default_factory=Lines)
    channels: Lines = field(default_factory=Lines)
    steps: Lines = field(default_factory=Lines)
    build: Moved | None = None
    variables: tuple[Moved, ...] = ()
    routes: tuple[Moved, ...] = ()
    base_labels: tuple[Moved, ...] = ()
    arguments: tuple[Moved, ...] = ()
    """Values of a Dockerfile's arguments."""

    context: Moved | None = None
    """Where the files of a build context came from: the commit, or the archive's sha256."""

    images: tuple[Moved, ...] = ()
    """Images that docker steps or a Dockerfile name, by their text: digests."""

    @property
    def same_definition(self) -> bool:
        """Both asked for the same."""
        return self.before.definition == self.after.definition

    @property
    def same_lock(self) -> bool:
        """Both resolved to the same, on this platform."""
        return self.before.lock_identity == self.after.lock_identity

    @property
    def same_base(self) -> bool:
        """Both stand on the same image."""
        return self.before.lock.base.manifest == self.after.lock.base.manifest

    @property
    def same_runtime(self) -> bool | None:
        """Both run the same way; None where one side does not say."""
        if self.before.runtime is None or self.after.runtime is None:
            return None
        return self.before.runtime == self.after.runtime

    @property
    def same_image(self) -> bool | None:
        """Both are one image; None where one side has none."""
        if self.before.image is None or self.after.image is None:
            return None
        return self.before.image == self.after.image

    @property
    def new_layers(self) -> tuple[tuple[Digest, int], ...] | None:
        """The layers of the second image that the first has not; None where not known."""
        if self.before.layers is None or self.after.layers is None:
            return None
        known = {digest for digest, _ in self.before.layers}
        return tuple(item for item in dict.fromkeys(self.after.layers) if item[0] not in known)

    @property
    def is_empty(self) -> bool:
        """Nothing that is known differs."""
        return (
            self.same_definition
            and self.same_lock
            and self.same_runtime is not False
            and self.same_image is not False
            and not self.metadata
        )

    def to_json(self) -> dict[str, Any]:
        """The object of ``diff --json``."""
        return {
            "a": self.before.title,
            "b": self.after.title,
            "platform": self.after.lock.platform,
            "same_definition": self.same_definition,
            "same_lock": self.same_lock,
            "same_runtime": self.same_runtime,
            "same_image": self.same_image,
            "packages": {
                kind: [c.to_json() for c in self.packages if c.kind == kind]
                for kind in ("added", "removed", "changed")
            },
            "requirements": self.asked.to_json(),
            "channels": self.channels.to_json(),
            "base": self._base(),
            "docker_steps": self.steps.to_json(),
            "build": None if self.build is None else self.build.to_json(),
            "images": [item.to_json() for item in self.images],
            "build_arguments": [item.to_json() for item in self.arguments],
            "context": None if self.context is None else self.context.to_json(),
            "environment_variables": [item.to_json() for item in self.variables],
            "inference_config": [item.to_json() for item in self.routes],
            "metadata": [item.to_json() for item in self.metadata],
            "layers": self._layers(),
        }

    def _base(self) -> dict[str, Any]:
        before, after = self.before.lock.base, self.after.lock.base
        return {
            "same": self.same_base,
            "from": {
                "reference": before.reference,
                "digest": None if before.manifest is None else str(before.manifest),
                "layers": len(before.layers),
            },
            "to": {
                "reference": after.reference,
                "digest": None if after.manifest is None else str(after.manifest),
                "layers": len(after.layers),
            },
            "labels": [item.to_json() for item in self.base_labels],
        }

    def _layers(self) -> dict[str, Any] | None:
        new = self.new_layers
        if new is None or self.before.layers is None or self.after.layers is None:
            return None
        return {
            "from": len(self.before.layers),
            "to": len(self.after.layers),
            "new": len(new),
            "new_bytes": sum(size for _, size in new),
        }


def compare_versions(before: Side, after: Side) -> VersionDiff:
    """Compare two versions, or locks, part by part."""
    known = before.definition_document is not None and after.definition_document is not None
    build = None
    if known:
        [*moved] = compare_maps({"build": _plain_build(before)}, {"build": _plain_build(after)})
        build = moved[0] if moved else None
    return VersionDiff(
        before,
        after,
        compare_packages(before.lock.packages, after.lock.packages),
        _maps(before.metadata, after.metadata),
        compare_lines(before.asked, after.asked) if known else Lines(),
        compare_lines(before.channels or (), after.channels or ()) if known else Lines(),
        compare_lines(before.steps or (), after.steps or ()) if known else Lines(),
        build,
        _maps(before.variables, after.variables),
        _maps(before.routes, after.routes),
        _maps(before.base_labels, after.base_labels),
        compare_maps(_arguments(before), _arguments(after)),
        _origin(before, after),
        compare_maps(_images(before), _images(after)),
    )


def _images(side: Side) -> Mapping[str, str]:
    return {
        text: "scratch" if base.manifest is None else str(base.manifest)
        for text, base in side.lock.images.items()
    }


def _plain_build(side: Side) -> Mapping[str, Any] | None:
    """The build of a definition without its arguments, which are compared one by one."""
    build = (side.definition_document or {}).get("build")
    return None if build is None else {k: v for k, v in build.items() if k != "arguments"}


def _arguments(side: Side) -> Mapping[str, str]:
    return {} if side.lock.context is None else side.lock.context.arguments


def _origin(before: Side, after: Side) -> Moved | None:
    one, two = (s.lock.context.origin if s.lock.context else None for s in (before, after))
    if one is None or two is None or one.pinned == two.pinned:
        return None
    return Moved(two.address, one.pinned, two.pinned)


def _maps(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[Moved, ...]:
    return () if before is None or after is None else compare_maps(before, after)
