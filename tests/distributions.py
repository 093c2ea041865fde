"""Distributions with plugins, laid out as pip would, for tests of who finds and loads them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

GOOD = """
from contextlib import contextmanager
from dataclasses import dataclass
from envgraph.api import RegistryPlugin, hookimpl
from envgraph.testing.registry.memory import MemoryRegistry

@dataclass(frozen=True)
class Options:
    shelf: str
    rows: int = 3
    dusty: bool = False
    labels: tuple[str, ...] = ()
    owner: str | None = None

@contextmanager
def open_shelf(options, context):
    yield MemoryRegistry(options.shelf)

@hookimpl
def envgraph_registries():
    yield RegistryPlugin("shelf", "images on a shelf", Options, open_shelf)
"""
"""A plugin as it should be, of the registry type ``shelf``."""


def distribution(folder: Path, name: str, source: str, *, version: str = "1.0") -> Path:
    """Install a module of that name, with its entry point, into ``folder``; ``folder`` again."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(dedent(source))
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[envgraph]\n{name} = {name}\n")
    return folder
