"""The schemas that the package has are those that its code makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import envgraph.spec.schemas
from envgraph.spec.schemas import NAMES, generated, published

FOLDER = Path(envgraph.spec.schemas.__file__).parent


@pytest.mark.parametrize("name", NAMES)
def test_the_published_schema_is_the_generated_one(
    name: str, golden: Callable[[Path, str | bytes], None]
) -> None:
    golden(FOLDER / name, generated(name))
    assert published(name) == generated(name)


def test_no_schema_lies_there_that_nothing_makes() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(NAMES)
