"""Who refers to a manifest: the referrers API, and the tag that stands in for it.

Registries without the API keep an index under the tag ``sha256-<hex>``, which the client
writes (distribution-spec 1.1, "Unavailable Referrers API"). Registries have no
compare-and-swap: of two clients that add at the same moment one may be lost, and is there
again when it puts its manifest the next time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote

from envgraph.api import (
    DOCKER_INDEX,
    OCI_IMAGE_INDEX,
    Descriptor,
    Digest,
    DigestError,
    ManifestBytes,
    ManifestParts,
    RegistryError,
    read_manifest,
    read_object,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph_oci.answers import Answer

_WRITING: Final = threading.Lock()


class Manifests(Protocol):
    """What of a repository is needed here."""

    name: str

    def get_manifest(self, reference: str) -> ManifestBytes:
        """A manifest by tag or digest."""
        ...

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Keep a manifest."""
        ...

    def pages(
        self, path: str, what: str, *, absent: bool = False
    ) -> Iterator[tuple[Answer, dict[str, Any]]]:
        """The pages of a list below the repository."""
        ...


def fallback_tag(digest: Digest) -> str:
    """``sha256-<hex>``."""
    return str(digest).replace(":", "-")


def find(repository: Manifests, digest: Digest, kind: str) -> tuple[Descriptor, ...]:
    """The referrers of a manifest, each once; only those of ``kind`` when it is given."""
    query = f"?artifactType={quote(kind, safe='')}" if kind else ""
    entries: list[dict[str, Any]] = []
    known = False
    what = f"list the referrers of {digest}"
    for _, page in repository.pages(f"/referrers/{digest}{query}", what, absent=True):
        known = True
        entries += _entries(page)
    if not known:
        entries = _by_tag(repository, digest)
    # Filtered once more: only some registries filter, and say so (OCI-Filters-Applied).
    chosen = [_descriptor(entry) for entry in entries if kind in ("", entry.get("artifactType"))]
    return tuple({d.digest: d for d in chosen if d is not None}.values())


def _entries(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    manifests = document.get("manifests") or []
    if not isinstance(manifests, list) or not all(isinstance(item, dict) for item in manifests):
        raise IntegrityError("a list of referrers is no index", code="image-document")
    return manifests


def _descriptor(entry: Mapping[str, Any]) -> Descriptor | None:
    """An entry as a value; None for one that names its manifest by another algorithm."""
    media_type, size = entry.get("mediaType"), entry.get("size")
    annotations = entry.get("annotations") or {}
    try:
        digest = Digest(entry.get("digest", ""))
    except DigestError:
        return None
    if not isinstance(media_type, str) or not isinstance(size, int) or size < 0:
        raise IntegrityError("a referrer without media type or size", code="image-document")
    if not isinstance(annotations, dict):
        annotations = {}
    return Descriptor(
        media_type, digest, size, annotations={str(k): str(v) for k, v in annotations.items()}
    )


def _by_tag(repository: Manifests, subject: Digest) -> list[dict[str, Any]]:
    try:
        found = repository.get_manifest(fallback_tag(subject))
    except NotFoundError:
        return []
    if found.media_type not in (OCI_IMAGE_INDEX, DOCKER_INDEX):
        raise IntegrityError(
            f"{repository.name}: the tag {fallback_tag(subject)} is no list of referrers",
            code="image-document",
        )
    return _entries(read_object(found.data, fallback_tag(subject)))


def subject_of(repository: Manifests, digest: Digest) -> Digest | None:
    """The subject of a manifest that is there; None without one."""
    try:
        found = repository.get_manifest(str(digest))
        return read_manifest(found.data, found.media_type, str(digest)).subject
    except (NotFoundError, IntegrityError):
        return None


def add_by_tag(repository: Manifests, subject: Digest, data: bytes, parts: ManifestParts) -> None:
    """Add a manifest to its subject's list; nothing when it is there."""
    annotations = read_object(data, "manifest").get("annotations")
    entry: dict[str, Any] = {
        "mediaType": parts.media_type,
        "digest": str(Digest.of(data)),
        "size": len(data),
    }
    entry |= {"artifactType": parts.artifact_type} if parts.artifact_type else {}
    entry |= {"annotations": annotations} if annotations else {}
    with _WRITING:
        entries = _by_tag(repository, subject)
        if all(other.get("digest") != entry["digest"] for other in entries):
            _write(repository, subject, [*entries, entry])


def remove_by_tag(repository: Manifests, subject: Digest, digest: Digest) -> None:
    """Take a manifest out of its subject's list, where there is one."""
    with _WRITING:
        entries = _by_tag(repository, subject)
        left = [entry for entry in entries if entry.get("digest") != str(digest)]
        if len(left) != len(entries):
            try:
                _write(repository, subject, left)
            except RegistryError as error:
                if error.retryable:
                    raise


def _write(repository: Manifests, subject: Digest, entries: list[dict[str, Any]]) -> None:
    index = {"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX, "manifests": entries}
    data = json.dumps(index, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    repository.put_manifest(fallback_tag(subject), data, OCI_IMAGE_INDEX)
