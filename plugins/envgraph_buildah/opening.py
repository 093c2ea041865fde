"""From options to a builder: where its storage lies, and what is cleared away at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envgraph.api import Builder, PluginContext
from envgraph_buildah.options import BuildahOptions


@contextmanager
def open_buildah(options: BuildahOptions, context: PluginContext) -> Iterator[Builder]:
    """The builder; nothing is started yet."""
    from envgraph_buildah.builder import BuildahBuilder
    from envgraph_buildah.cleaning import Cleaner
    from envgraph_buildah.storage import Storage

    if options.storage:
        folder = Path(context.root) / Path(options.storage).expanduser()
    else:
        caches = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(caches) if caches.startswith("/") else Path.home() / ".cache"
        folder = base / "envgraph" / "buildah"
    storage = Storage(options, folder)
    cleaner = Cleaner(storage, options.keep_days)
    try:
        yield BuildahBuilder(storage, cleaner)
    finally:
        cleaner.clean()
