"""The OCI plugin keeps the contract, with Debian's docker-registry and a newer one behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from envgraph.api import Registry, Repository
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import Policy, RetryingRepository
from envgraph.testing.registry.contract import RegistryContract
from envgraph.testing.registry.scripted import ScriptedRegistry
from tests.oci import opened
from tests.registries import docker_registry


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found.url


class TestDockerRegistry(RegistryContract):
    """docker-registry 2.8 has neither the referrers API nor the deletion of tags."""

    deletes_tags: ClassVar[bool] = False
    longest_name: ClassVar[int] = 200

    def test_two_writers_move_one_tag_and_readers_see_one_of_both(
        self, repository: Repository
    ) -> None:
        """It answers 500 while a tag is written; the host tries again, as here."""
        policy = Policy(tries=1000, sleep=lambda seconds: None)
        patient = RetryingRepository(repository, policy)
        super().test_two_writers_move_one_tag_and_readers_see_one_of_both(patient)

    def test_many_threads_begin_one_repository(self, registry: Registry, name: str) -> None:
        """It loses sight of a blob while another thread pushes it; the host tries again."""
        policy = Policy(tries=1000, sleep=lambda seconds: None)
        super().test_many_threads_begin_one_repository(Remote("", registry, policy), name)

    @pytest.fixture
    def registry(self, running: str) -> Iterator[Registry]:
        with opened(running) as found:
            yield found


class TestScriptedRegistry(RegistryContract):
    """A registry of the distribution spec 1.1, below a prefix, in pages and chunks."""

    longest_name: ClassVar[int] = 255 - len("below/")

    @pytest.fixture
    def registry(self) -> Iterator[Registry]:
        with ScriptedRegistry() as server:
            server.contents.page = 7
            with opened(f"{server.url}/below", upload="chunked", chunk_size=100_000) as found:
                yield found
