"""What a tag means now, for one platform: asked with a HEAD, and an index read when it is one."""

from __future__ import annotations

from envgraph.errors import NotFoundError
from envgraph.model.oci import (
    DOCKER_INDEX,
    OCI_IMAGE_INDEX,
    Index,
    Platform,
    read_document,
    same_platform,
)
from envgraph.model.reference import RegistryReference
from envgraph.registry.remotes import Remotes
from envgraph_store.digest import Digest


def manifest_now(
    remotes: Remotes, reference: RegistryReference, platform: Platform
) -> Digest | None:
    """The manifest behind a tag for ``platform``; None when there is none any more.

    One request, and a second one where the tag names an index.
    """
    repository = remotes.for_host(reference.domain).repository(reference.repository)
    found = repository.resolve(reference.digest or reference.tag)
    if found is None or found.media_type not in (OCI_IMAGE_INDEX, DOCKER_INDEX):
        return None if found is None else found.digest
    try:
        data = repository.get_manifest(str(found.digest))
    except NotFoundError:
        return None
    index = read_document(data.data, data.media_type, f"{reference}: {found.digest}")
    if not isinstance(index, Index):
        return found.digest
    fitting = [
        entry.digest
        for entry in index.manifests
        if entry.platform is not None and same_platform(platform, entry.platform)
    ]
    return fitting[0] if fitting else None
