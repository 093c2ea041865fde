"""All that a plugin may import of envgraph, beside :mod:`envgraph.errors`.

Importing this package costs what its names cost: each is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envgraph.api.events import Event, EventKind
    from envgraph.api.hookspecs import hookimpl, hookspec
    from envgraph.api.manifests import (
        MANIFEST_LIMIT,
        ManifestParts,
        check_repository,
        checked_manifest,
        read_manifest,
        read_reference,
    )
    from envgraph.api.registry import (
        API_VERSION,
        BlobSource,
        Checked,
        Credentials,
        ManifestBytes,
        PluginContext,
        Registry,
        RegistryError,
        RegistryPlugin,
        Repository,
    )
    from envgraph.model.oci import (
        DOCKER_INDEX,
        DOCKER_MANIFEST,
        OCI_IMAGE_INDEX,
        OCI_IMAGE_MANIFEST,
        Descriptor,
        Platform,
        read_object,
    )
    from envgraph.model.proxies import proxy_for
    from envgraph_store.digest import Digest, DigestError

_PLACES = {
    "API_VERSION": "envgraph.api.registry",
    "BlobSource": "envgraph.api.registry",
    "Checked": "envgraph.api.registry",
    "Credentials": "envgraph.api.registry",
    "DOCKER_INDEX": "envgraph.model.oci",
    "DOCKER_MANIFEST": "envgraph.model.oci",
    "Descriptor": "envgraph.model.oci",
    "Digest": "envgraph_store.digest",
    "DigestError": "envgraph_store.digest",
    "Event": "envgraph.api.events",
    "EventKind": "envgraph.api.events",
    "MANIFEST_LIMIT": "envgraph.api.manifests",
    "ManifestBytes": "envgraph.api.registry",
    "ManifestParts": "envgraph.api.manifests",
    "OCI_IMAGE_INDEX": "envgraph.model.oci",
    "OCI_IMAGE_MANIFEST": "envgraph.model.oci",
    "Platform": "envgraph.model.oci",
    "PluginContext": "envgraph.api.registry",
    "Registry": "envgraph.api.registry",
    "RegistryError": "envgraph.api.registry",
    "RegistryPlugin": "envgraph.api.registry",
    "Repository": "envgraph.api.registry",
    "check_repository": "envgraph.api.manifests",
    "checked_manifest": "envgraph.api.manifests",
    "hookimpl": "envgraph.api.hookspecs",
    "hookspec": "envgraph.api.hookspecs",
    "proxy_for": "envgraph.model.proxies",
    "read_manifest": "envgraph.api.manifests",
    "read_object": "envgraph.model.oci",
    "read_reference": "envgraph.api.manifests",
}

__all__ = [
    "API_VERSION", "DOCKER_INDEX", "DOCKER_MANIFEST", "MANIFEST_LIMIT", "OCI_IMAGE_INDEX",
    "OCI_IMAGE_MANIFEST", "BlobSource", "Checked", "Credentials", "Descriptor", "Digest",
    "DigestError", "Event", "EventKind", "ManifestBytes", "ManifestParts", "Platform",
    "PluginContext", "Registry", "RegistryError", "RegistryPlugin", "Repository",
    "check_repository", "checked_manifest", "hookimpl", "hookspec", "proxy_for", "read_manifest",
    "read_object", "read_reference",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
