"""What a registry has to understand of names and manifests; the same for every registry.

All are pure, and strict with what may be hostile: a name that could leave its folder, a
digest that is a path, a key that is there twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from envgraph.api.registry import RegistryError
from envgraph.errors import IntegrityError
from envgraph.model.oci import DOCUMENT_LIMIT, check_case, problem, read_digest, read_object
from envgraph.model.reference import is_repository, is_tag
from envgraph_store.digest import Digest, DigestError

MANIFEST_LIMIT: Final = DOCUMENT_LIMIT
"""Bytes of a manifest or index: 4 MiB. Larger ones are refused."""

_KEYS: Final = (
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject",
    "annotations", "fsLayers", "signatures",
)  # fmt: skip
_ELSEWHERE: Final = ("nondistributable", "foreign")


@dataclass(frozen=True, slots=True)
class ManifestParts:
    """What a manifest or index names."""

    media_type: str
    """Its own ``mediaType``; where it has none, the one that it was given with."""

    blobs: tuple[Digest, ...]
    """Config and layers that its repository must have: foreign layers are not among them."""

    manifests: tuple[Digest, ...]
    """The entries of an index."""

    subject: Digest | None
    """The manifest that it refers to, which need not be there."""

    artifact_type: str
    """``artifactType``, else the config's media type: what referrers are chosen by."""


def check_repository(name: str) -> str:
    """``name`` again; RegistryError (``registry-options``) when OCI's grammar forbids it."""
    if not is_repository(name):
        raise RegistryError(
            f"{name[:100]!r} cannot be the name of a repository",
            code="registry-options",
            hint="names are lower-case words and digits, joined by . _ - and /",
        )
    return name


def read_reference(reference: str) -> Digest | None:
    """The digest in ``reference``; None when it is a tag. RegistryError when it is neither."""
    try:
        return Digest(reference)
    except DigestError:
        if is_tag(reference):
            return None
    raise RegistryError(
        f"{reference[:100]!r} is neither a tag nor a sha256 digest", code="registry-options"
    )


def read_manifest(data: bytes, media_type: str, what: str) -> ManifestParts:
    """What these bytes name; ``what`` names them in messages.

    IntegrityError when they are no strict JSON object of at most 4 MiB, when they are a
    manifest and an index at once (CVE-2021-41190), or when their own ``mediaType`` is not
    ``media_type``. Unknown fields and types are let through: a registry keeps bytes.
    """
    document = read_object(data, what)
    check_case(document, _KEYS, what)
    said = document.get("mediaType") or media_type
    if not isinstance(said, str) or not said:
        raise problem(what, "nothing says its media type")
    if media_type and said != media_type:
        raise problem(what, f"it says {said[:100]!r}, and what names it says {media_type[:100]!r}")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise problem(what, "it is a manifest and an index at once")
    config, subject = _object(document, "config", what), _object(document, "subject", what)
    layers = _objects(document, "layers", what)
    here = [part for part in layers if not _elsewhere(part)]
    kind = document.get("artifactType") or (config or {}).get("mediaType") or ""
    return ManifestParts(
        said,
        tuple(read_digest(part.get("digest"), what) for part in [config, *here] if part),
        tuple(
            read_digest(part.get("digest"), what) for part in _objects(document, "manifests", what)
        ),
        read_digest(subject.get("digest"), what) if subject else None,
        kind if isinstance(kind, str) else "",
    )


def checked_manifest(
    reference: str, data: bytes, media_type: str, what: str
) -> tuple[Digest, ManifestParts]:
    """The digest and parts of a manifest that is to be kept under ``reference``.

    As :func:`read_manifest`; IntegrityError too when ``reference`` is another digest.
    """
    wanted, digest = read_reference(reference), Digest.of(data)
    if wanted not in (None, digest):
        raise IntegrityError(f"{what}: its bytes are those of {digest}, not of {wanted}")
    return digest, read_manifest(data, media_type, what)


def _elsewhere(layer: Mapping[str, Any]) -> bool:
    """Whether a layer is of the types that registries need not have."""
    kind = str(layer.get("mediaType"))
    return bool(layer.get("urls")) or any(word in kind for word in _ELSEWHERE)


def _object(document: Mapping[str, Any], key: str, what: str) -> dict[str, Any] | None:
    value = document.get(key)
    if value is not None and not isinstance(value, dict):
        raise problem(what, f"{key} is not an object")
    return value


def _objects(document: Mapping[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise problem(what, f"{key} is not a list of objects")
    return value
