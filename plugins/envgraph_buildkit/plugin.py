"""What envgraph finds: the builder type ``buildkit``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from envgraph.api import Builder, BuilderPlugin, PluginContext, hookimpl
from envgraph_buildkit.options import BuildkitOptions, connects, places, servers


@contextmanager
def open_builder(options: BuildkitOptions, context: PluginContext) -> Iterator[Builder]:
    """The builder behind options, until the end of the ``with`` block."""
    from envgraph_buildkit.builder import BuildkitBuilder

    builder = BuildkitBuilder(options, context, os.environ)
    try:
        yield builder
    finally:
        builder.close()


@hookimpl
def envgraph_builders() -> Iterator[BuilderPlugin]:
    """Offer ``builder: {type: buildkit}``."""
    yield BuilderPlugin(
        "buildkit",
        "BuildKit: a buildkitd of its own, or the one inside dockerd",
        BuildkitOptions,
        open_builder,
        connects=connects,
        servers=servers,
        places=places,
    )
