"""The fake keeps the contract of builders, so that what is tried with it means something."""

from __future__ import annotations

import pytest

from envgraph.testing.builder.contract import BuilderContract
from envgraph.testing.builder.copying import CopyingBuilder


class TestCopying(BuilderContract):
    @pytest.fixture
    def builder(self) -> CopyingBuilder:
        return CopyingBuilder()
