"""``type: dirs``: a registry in a folder, for a team that shares a file system.

The format, and what holds on which file system, is in ``README.md`` beside this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from envgraph.api import PluginContext, Registry, RegistryError, RegistryPlugin, hookimpl


@dataclass(frozen=True, slots=True)
class DirsOptions:
    """The keys beside ``type: dirs``."""

    path: str
    """The registry's folder; relative to the workspace's. The first push makes it."""


@contextmanager
def open_dirs(options: DirsOptions, context: PluginContext) -> Iterator[Registry]:
    """The registry in a folder; nothing is read or made before its first use."""
    from envgraph_dirs.registry import DirsRegistry

    if not options.path.strip() or "\0" in options.path:
        raise RegistryError("`path:` is empty", code="registry-options", hint="name a folder")
    try:
        path = Path(options.path).expanduser()
    except RuntimeError as error:  # ~nobody
        raise RegistryError(f"{options.path}: {error}", code="registry-options") from None
    yield DirsRegistry(Path(context.root) / path)


@hookimpl
def envgraph_registries() -> Iterator[RegistryPlugin]:
    """Offer ``type: dirs``; it works with ``--offline``."""
    yield RegistryPlugin(
        "dirs",
        "a folder, also a shared one",
        DirsOptions,
        open_dirs,
        connects=lambda options: False,
    )
