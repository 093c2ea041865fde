"""envgraph_buildah keeps the contract, with the buildah of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from envgraph.api import Builder, PluginContext
from envgraph.testing.builder.contract import BuilderContract
from envgraph_buildah import BuildahOptions, open_buildah
from tests.services import require_tool

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestBuildah(BuilderContract):
    empty_images: ClassVar[bool] = True

    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
        require_tool("buildah")
        storage = str(tmp_path_factory.mktemp("buildah"))
        context = PluginContext(storage, lambda host, scope: None, {})
        with open_buildah(BuildahOptions(storage=storage), context) as builder:
            yield builder

    @pytest.fixture
    def builder(self, shared: Builder) -> Builder:
        return shared
