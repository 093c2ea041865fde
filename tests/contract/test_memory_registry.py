"""The fake in memory does what every registry must do."""

from __future__ import annotations

import pytest

from envgraph.api import Registry
from envgraph.testing.registry.contract import RegistryContract
from envgraph.testing.registry.memory import MemoryRegistry


class TestMemory(RegistryContract):
    @pytest.fixture
    def registry(self) -> Registry:
        return MemoryRegistry()
