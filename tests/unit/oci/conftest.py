"""A registry that does what a script says, and a repository of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from envgraph.testing.registry.scripted import ScriptedRegistry
from envgraph_oci.repository import OciRepository
from tests.oci import opened


@pytest.fixture
def server() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as found:
        yield found


@pytest.fixture
def repository(server: ScriptedRegistry) -> Iterator[OciRepository]:
    with opened(server.url) as registry:
        yield registry.repository("team/app")
