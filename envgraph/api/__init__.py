"""All that a plugin may import of envgraph, beside :mod:`envgraph.errors`.

Importing this package costs what its names cost: each is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envgraph.api.events import Event, EventKind
    from envgraph.api.hookspecs import hookimpl, hookspec
    from envgraph.api.registry import (
        API_VERSION,
        BlobSource,
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
        DOCUMENT_LIMIT,
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
    "Credentials": "envgraph.api.registry",
    "DOCKER_INDEX": "envgraph.model.oci",
    "DOCKER_MANIFEST": "envgraph.model.oci",
    "DOCUMENT_LIMIT": "envgraph.model.oci",
    "Descriptor": "envgraph.model.oci",
    "Digest": "envgraph_store.digest",
    "DigestError": "envgraph_store.digest",
    "Event": "envgraph.api.events",
    "EventKind": "envgraph.api.events",
    "ManifestBytes": "envgraph.api.registry",
    "OCI_IMAGE_INDEX": "envgraph.model.oci",
    "OCI_IMAGE_MANIFEST": "envgraph.model.oci",
    "Platform": "envgraph.model.oci",
    "PluginContext": "envgraph.api.registry",
    "Registry": "envgraph.api.registry",
    "RegistryError": "envgraph.api.registry",
    "RegistryPlugin": "envgraph.api.registry",
    "Repository": "envgraph.api.registry",
    "hookimpl": "envgraph.api.hookspecs",
    "hookspec": "envgraph.api.hookspecs",
    "proxy_for": "envgraph.model.proxies",
    "read_object": "envgraph.model.oci",
}

__all__ = [
    "API_VERSION", "DOCKER_INDEX", "DOCKER_MANIFEST", "DOCUMENT_LIMIT", "OCI_IMAGE_INDEX",
    "OCI_IMAGE_MANIFEST", "BlobSource", "Credentials", "Descriptor", "Digest", "DigestError",
    "Event", "EventKind", "ManifestBytes", "Platform", "PluginContext", "Registry",
    "RegistryError", "RegistryPlugin", "Repository", "hookimpl", "hookspec", "proxy_for",
    "read_object",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
