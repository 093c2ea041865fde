"""A registry in a folder: the contract, and what only a folder can do wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.api import PluginContext, Registry
from envgraph.testing.registry.contract import RegistryContract
from envgraph_dirs import DirsOptions, open_dirs


class TestDirs(RegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Iterator[Registry]:
        context = PluginContext(str(tmp_path), lambda host, scope: None, {})
        with open_dirs(DirsOptions("registry"), context) as registry:
            yield registry
