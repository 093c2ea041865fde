"""The plugin does what every registry must do. That is all that a plugin has to test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from envgraph_sqlite import SqliteOptions, open_sqlite

from envgraph.api import PluginContext, Registry
from envgraph.testing.registry.contract import RegistryContract


class TestSqlite(RegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Iterator[Registry]:
        context = PluginContext(str(tmp_path), lambda host, scope: None, {})
        with open_sqlite(SqliteOptions("registry.sqlite"), context) as registry:
            yield registry
