"""Caches that outlive a worker: where a build takes steps from, and leaves its own.

What others built is found by the steps' own digests: a cache never changes what is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from envgraph.api import BuilderError
from envgraph_buildkit.content import Layout, Store
from envgraph_buildkit.exporters import Exporter, is_image, write_index

MODES: Final = ("min", "max")
PASSED_THROUGH: Final = ("gha", "s3", "azblob")
_REF_NAME: Final = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class RegistryCache:
    """A reference in a registry: a cache of its own, or an image with an inline cache.

    ``mode``, for exports: ``min`` keeps the layers of the result, ``max`` all stages'.
    """

    ref: str
    mode: str = "min"
    insecure: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InlineCache:
    """For exports: inside the config of the image. ``RegistryCache(image)`` imports it."""


@dataclass(frozen=True, slots=True)
class LocalCache:
    """A folder of the client's, an OCI layout."""

    path: str | Path
    mode: str = "min"
    tag: str = "latest"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OtherCache:
    """``gha``, ``s3``, ``azblob``: a service that the worker speaks to. Attributes are BuildKit's.

    They may hold credentials: they go to the worker, and into no message and no repr.
    """

    type: str
    attributes: Mapping[str, str] = field(repr=False)


CacheImport = RegistryCache | LocalCache | OtherCache
CacheExport = RegistryCache | InlineCache | LocalCache | OtherCache


@dataclass(frozen=True, slots=True)
class Entry:
    """As BuildKit has it: a type, attributes, and the client's store behind it."""

    type: str
    attributes: Mapping[str, str] = field(repr=False)
    stores: Mapping[str, Store] = field(default_factory=dict, repr=False)


def imports(caches: Iterable[CacheImport]) -> Iterator[Entry]:
    """What is sent for imports. A local cache that is not there yet is none."""
    for number, each in enumerate(caches):
        if isinstance(each, RegistryCache):
            yield Entry("registry", _registry(each))
        elif isinstance(each, LocalCache):
            digest = _tagged(Path(each.path), each.tag)
            if digest:
                name = f"import-{number}"  # a path is nobody's business
                values = {"src": name, "digest": digest} | dict(each.attributes)
                yield Entry("local", values, {f"local:{name}": Layout(Path(each.path))})
        else:
            yield _other(each)


def exports(caches: Iterable[CacheExport]) -> Iterator[Entry]:
    """What is sent for exports."""
    for number, each in enumerate(caches):
        if isinstance(each, RegistryCache):
            yield Entry("registry", _registry(each) | {"mode": _mode(each.mode)})
        elif isinstance(each, InlineCache):
            yield Entry("inline", {})
        elif isinstance(each, LocalCache):
            name = f"export-{number}"
            values = {"dest": name, "mode": _mode(each.mode)} | dict(each.attributes)
            yield Entry("local", values, {f"local:{name}": Layout(Path(each.path))})
        else:
            yield _other(each)


def check(
    wanted: Sequence[CacheImport], kept: Sequence[CacheExport], exporters: Sequence[Exporter],
    *, whole: bool, title: str,
) -> None:  # fmt: skip
    """BuilderError for what would be ignored without a word."""
    if not whole and (wanted or kept):
        raise BuilderError(
            f"{title} imports and exports no caches",
            code="builder-lacks",
            detail="Its worker keeps no layers of its own; it would answer OK, and do nothing.",
            hint="use a buildkitd, or a dockerd with containerd's image store",
        )
    if any(isinstance(each, InlineCache) for each in kept) and not any(map(is_image, exporters)):
        raise BuilderError(
            "an inline cache is inside an image, and none is exported",
            code="builder-options",
            hint="export with Image, Oci or Docker",
        )
    if len([each for each in kept if isinstance(each, LocalCache)]) > 1:
        raise BuilderError("a build leaves one local cache", code="builder-options")


def finish(caches: Iterable[CacheExport], response: Mapping[str, str]) -> None:
    """Let the index of a local cache name what came. BuilderError when nothing did."""
    for each in caches:
        if isinstance(each, LocalCache):
            try:
                descriptor = json.loads(response["cache.manifest"])
            except (KeyError, ValueError):
                raise BuilderError(
                    f"BuildKit sent no cache for {each.path}", code="builder-answer"
                ) from None
            write_index(Path(each.path), descriptor, [each.tag])


def add(request: Any, taken: Iterable[Entry], left: Iterable[Entry], *, frontend: bool) -> None:
    """Put entries into a Solve request. A frontend is told of imports by an attribute too."""
    shown = []
    for each in taken:
        request.Cache.Imports.add(Type=each.type, Attrs=dict(each.attributes))
        shown.append({"Type": each.type, "Attrs": dict(each.attributes)})
    for each in left:
        request.Cache.Exports.add(Type=each.type, Attrs=dict(each.attributes))
    if shown and frontend:
        request.FrontendAttrs["cache-imports"] = json.dumps(shown, sort_keys=True)


def _registry(cache: RegistryCache) -> dict[str, str]:
    insecure = {"registry.insecure": "true"} if cache.insecure else {}
    return {"ref": cache.ref, **insecure, **cache.attributes}


def _mode(mode: str) -> str:
    if mode not in MODES:
        raise BuilderError(f"the mode {mode!r} is neither min nor max", code="builder-options")
    return mode


def _other(cache: OtherCache) -> Entry:
    if cache.type not in PASSED_THROUGH:
        raise BuilderError(
            f"no cache of type {cache.type!r}", code="builder-options",
            hint=f"{', '.join(PASSED_THROUGH)}, or RegistryCache, InlineCache, LocalCache",
        )  # fmt: skip
    return Entry(cache.type, cache.attributes)


def _tagged(folder: Path, tag: str) -> str:
    """The digest of the manifest that a layout's index calls so."""
    try:
        index = json.loads((folder / "index.json").read_bytes())
        found = {
            (each.get("annotations") or {}).get(_REF_NAME, ""): each["digest"]
            for each in index["manifests"]
        }
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BuilderError(
            f"the cache at {folder} is no OCI layout", code="builder-options"
        ) from None
    return str(found.get(tag, ""))
