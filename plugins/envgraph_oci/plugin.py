"""What envgraph finds: the registry type ``oci``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from envgraph.api import Credentials, PluginContext, Registry, RegistryPlugin, hookimpl
from envgraph_oci.options import OciOptions, for_host, place_of


@contextmanager
def open_registry(options: OciOptions, context: PluginContext) -> Iterator[Registry]:
    """The registry behind options, until the end of the ``with`` block."""
    from envgraph_oci.registry import OciRegistry
    from envgraph_oci.wire import Wire

    wire = Wire(options, root=context.root, lookup=context.credentials, environ=os.environ)
    registry = OciRegistry(wire)
    try:
        yield registry
    finally:
        registry.close()


def _host_of(options: Any) -> str:
    return place_of(options).title


def _prefix_of(options: Any) -> str:
    return place_of(options).prefix


@hookimpl
def envgraph_registries() -> Iterator[RegistryPlugin]:
    """Registries that speak the OCI distribution protocol."""
    yield RegistryPlugin(
        "oci",
        "a registry that speaks the OCI distribution protocol",
        OciOptions,
        open_registry,
        for_host=for_host,
        host_of=_host_of,
        prefix_of=_prefix_of,
    )


@hookimpl
def envgraph_credentials(host: str, scope: str) -> Credentials | None:
    """The login that docker's config.json, or a helper that it names, has for the host."""
    from envgraph_oci.dockerconfig import DockerConfig

    del scope
    return DockerConfig.of(os.environ).login(host)


@hookimpl
def envgraph_login(host: str, credentials: Credentials) -> str | None:
    """Keep a login where ``docker login`` would."""
    from envgraph_oci.dockerconfig import DockerConfig

    return DockerConfig.of(os.environ).keep(host, credentials)
