"""The plugin that plugins/README.md shows is a whole one: it keeps the contract."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.api import PluginContext, Registry
from envgraph.plugins.descriptors import problems_of
from envgraph.testing.registry.contract import RegistryContract

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shelf() -> Iterator[types.ModuleType]:
    text = (ROOT / "plugins/README.md").read_text()
    (source,) = re.findall(r"```python\n(\"\"\"envgraph_shelf\.py.*?)```", text, re.DOTALL)
    module = types.ModuleType("envgraph_shelf")
    sys.modules[module.__name__] = module
    exec(compile(source, "envgraph_shelf.py", "exec"), module.__dict__)
    yield module
    del sys.modules[module.__name__]


class TestShelf(RegistryContract):
    deletes_tags = deletes_manifests = False

    @pytest.fixture
    def registry(self, shelf: types.ModuleType, tmp_path: Path) -> Iterator[Registry]:
        context = PluginContext(str(tmp_path), lambda host, scope: None, {})
        with shelf.open_shelf(shelf.ShelfOptions("shelf"), context) as registry:
            yield registry


def test_its_descriptor_is_right(shelf: types.ModuleType) -> None:
    (plugin,) = shelf.envgraph_registries()
    assert problems_of(plugin) == []


def test_the_page_shows_the_test_class_that_runs_here() -> None:
    text = (ROOT / "plugins/README.md").read_text()
    assert "    deletes_tags = deletes_manifests = False\n" in text
