"""A BuildKit client: builds through a ``buildkitd`` of its own, or the one inside ``dockerd``.

:class:`BuildkitClient` and the graphs of :mod:`envgraph_buildkit.llb` are for programs;
:mod:`envgraph_buildkit.plugin` offers the same as a builder to envgraph. grpc and protobuf are
imported when one of these names is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envgraph_buildkit import llb
    from envgraph_buildkit.caches import InlineCache, LocalCache, OtherCache, RegistryCache
    from envgraph_buildkit.client import BuildkitClient
    from envgraph_buildkit.exporters import Docker, Image, Local, Oci, Tar
    from envgraph_buildkit.provenance import Provenance
    from envgraph_buildkit.values import Settings, Solved, Usage

_PLACES = {
    "BuildkitClient": "client",
    "Docker": "exporters",
    "Image": "exporters",
    "InlineCache": "caches",
    "Local": "exporters",
    "LocalCache": "caches",
    "Oci": "exporters",
    "OtherCache": "caches",
    "Provenance": "provenance",
    "RegistryCache": "caches",
    "Settings": "values",
    "Solved": "values",
    "Tar": "exporters",
    "Usage": "values",
}
__all__ = [
    "BuildkitClient",
    "Docker",
    "Image",
    "InlineCache",
    "Local",
    "LocalCache",
    "Oci",
    "OtherCache",
    "Provenance",
    "RegistryCache",
    "Settings",
    "Solved",
    "Tar",
    "Usage",
    "llb",
]


def __getattr__(name: str) -> Any:
    """Load a name's module when the name is first used."""
    from importlib import import_module

    if name == "llb":
        return import_module("envgraph_buildkit.llb")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
