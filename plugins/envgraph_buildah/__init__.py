"""Docker steps and Dockerfiles built by ``buildah``: no daemon, as root or as anybody."""

from __future__ import annotations

from collections.abc import Iterable

from envgraph.api import BuilderPlugin, hookimpl
from envgraph_buildah.opening import open_buildah
from envgraph_buildah.options import BuildahOptions, places

__all__ = ["BuildahOptions", "envgraph_builders", "open_buildah"]


@hookimpl
def envgraph_builders() -> Iterable[BuilderPlugin]:
    """Offer ``builder: {type: buildah}``."""
    yield BuilderPlugin(
        "buildah",
        "the program buildah of this machine: no daemon needed",
        BuildahOptions,
        open_buildah,
        connects=lambda options: False,
        places=places,
    )
