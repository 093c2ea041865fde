"""Locks as JSON documents: the full record that the store keeps beside a lockfile.

The document is what ``from_document`` reads back without loss. Its schema tag is
checked on reading; a document of a newer schema is refused, never half read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from envgraph.errors import IntegrityError
from envgraph.model.locked import (
    BaseLayer,
    ContextOrigin,
    LockedBase,
    LockedContext,
    LockedEnvironment,
    LockedPackage,
)
from envgraph_store.digest import Digest

LOCK_SCHEMA: Final = "envgraph.lock/1"

_PACKAGE_TEXT: Final = (
    "manager", "name", "version", "build", "subdir", "channel", "file_name", "url", "md5",
    "noarch", "license", "python_site_packages_path",
)  # fmt: skip
_PINNED: Final = {
    "git": re.compile("[0-9a-f]{40}|[0-9a-f]{64}"),
    "archive": re.compile("[0-9a-f]{64}"),
}
_REF: Final = re.compile(r"|HEAD|refs/[^\x00-\x20\x7f~^:?*\[\\]+")
"""These become words for git: whatever wrote a lockfile, they are none of its options."""

_ORIGIN: Final = ("kind", "address", "pinned", "ref", "validator")
_PACKAGE_NUMBERS: Final = ("size", "build_number", "timestamp_ms")
_PACKAGE_LISTS: Final = ("depends", "constrains")


def package_document(package: LockedPackage) -> dict[str, Any]:
    """Every field of one locked package; empty ones are left out.

    The digest has its full form: that is what garbage collection follows, so a lock
    keeps the archives of its packages.
    """
    document: dict[str, Any] = {"sha256": str(package.sha256)}
    for name in _PACKAGE_TEXT + _PACKAGE_NUMBERS:
        if value := getattr(package, name):
            document[name] = value
    for name in _PACKAGE_LISTS:
        if items := getattr(package, name):
            document[name] = list(items)
    if package.direct:
        document["direct"] = True
    if not package.reproducible:
        document["reproducible"] = False
    return document


def package_from_document(document: Mapping[str, Any]) -> LockedPackage:
    """The inverse of :func:`package_document`."""
    values: dict[str, Any] = {name: document.get(name, "") for name in _PACKAGE_TEXT}
    values |= {name: document.get(name, 0) for name in _PACKAGE_NUMBERS}
    values |= {name: tuple(document.get(name, ())) for name in _PACKAGE_LISTS}
    return LockedPackage(
        sha256=Digest(document["sha256"]),
        direct=document.get("direct", False),
        reproducible=document.get("reproducible", True),
        **values,
    )


def base_document(base: LockedBase) -> dict[str, Any]:
    """A base image by its digests."""
    index = {} if base.index is None else {"index": str(base.index)}
    return index | {
        "reference": base.reference,
        "manifest": None if base.manifest is None else str(base.manifest),
        "manifest_media_type": base.manifest_media_type,
        "config": None if base.config is None else str(base.config),
        "layers": [
            {
                "media_type": layer.media_type,
                "digest": str(layer.digest),
                "size": layer.size,
                "diff_id": str(layer.diff_id),
            }
            for layer in base.layers
        ],
    }


def base_from_document(document: Mapping[str, Any]) -> LockedBase:
    """The inverse of :func:`base_document`."""
    return LockedBase(
        reference=document["reference"],
        manifest=None if document["manifest"] is None else Digest(document["manifest"]),
        manifest_media_type=document["manifest_media_type"],
        config=None if document["config"] is None else Digest(document["config"]),
        layers=tuple(
            BaseLayer(
                layer["media_type"],
                Digest(layer["digest"]),
                layer["size"],
                Digest(layer["diff_id"]),
            )
            for layer in document["layers"]
        ),
        index=Digest(document["index"]) if document.get("index") else None,
    )


def built_document(lock: LockedEnvironment) -> dict[str, Any]:
    """What docker steps or a build context add to a lock; nothing where there are none."""
    document: dict[str, Any] = {}
    if lock.images:
        document["images"] = {text: base_document(base) for text, base in lock.images.items()}
    if lock.context is not None:
        document["context"] = {
            "tree": str(lock.context.tree),
            "dockerfile_path": lock.context.dockerfile_path,
            "arguments": dict(lock.context.arguments),
        }
        if (origin := lock.context.origin) is not None:
            document["context"]["origin"] = {
                name: value for name in _ORIGIN if (value := getattr(origin, name))
            }
    return document


def built_from_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a lock that :func:`built_document` wrote."""
    context = document.get("context")
    return {
        "images": {
            text: base_from_document(base) for text, base in (document.get("images") or {}).items()
        },
        "context": None
        if context is None
        else LockedContext(
            Digest(context["tree"]),
            context["dockerfile_path"],
            dict(context["arguments"]),
            _origin(context.get("origin")),
        ),
    }


def _origin(document: Mapping[str, Any] | None) -> ContextOrigin | None:
    if document is None:
        return None
    pattern = _PINNED.get(str(document["kind"]))
    pinned, ref = str(document["pinned"]), str(document.get("ref", ""))
    if pattern is None or not pattern.fullmatch(pinned) or not _REF.fullmatch(ref):
        raise ValueError("a context that was pinned to no commit and to no archive")
    return ContextOrigin(**{name: str(document.get(name, "")) for name in _ORIGIN})  # type: ignore[arg-type]


def lock_document(lock: LockedEnvironment) -> dict[str, Any]:
    """The whole lock of one platform."""
    return built_document(lock) | {
        "schema": LOCK_SCHEMA,
        "definition": str(lock.definition),
        "pin_key": str(lock.pin_key),
        "platform": lock.platform,
        "created": lock.created,
        "solver": dict(lock.solver),
        "base": base_document(lock.base),
        "steps": list(lock.steps),
        "packages": [package_document(package) for package in lock.packages],
    }


def lock_from_document(document: Mapping[str, Any]) -> LockedEnvironment:
    """The inverse of :func:`lock_document`; IntegrityError when it is not one."""
    if document.get("schema") != LOCK_SCHEMA:
        raise IntegrityError(
            f"a lock record has the schema {document.get('schema')!r}, not {LOCK_SCHEMA!r}",
            hint="it was written by another version of envgraph: use that one, or lock again",
        )
    try:
        return LockedEnvironment(
            definition=Digest(document["definition"]),
            pin_key=Digest(document["pin_key"]),
            platform=document["platform"],
            created=document["created"],
            solver=document["solver"],
            base=base_from_document(document["base"]),
            steps=tuple(document["steps"]),
            packages=tuple(package_from_document(item) for item in document["packages"]),
            **built_from_document(document),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"a lock record is not whole: {error!r}") from error


def lock_bytes(lock: LockedEnvironment) -> bytes:
    """The document as stored: sorted keys, no space, UTF-8."""
    return json.dumps(
        lock_document(lock), sort_keys=True, ensure_ascii=False, separators=(",", ":")
    ).encode()
