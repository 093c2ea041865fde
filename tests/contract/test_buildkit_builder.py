"""envgraph_buildkit keeps the contract, with a current and an old BuildKit behind it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import ClassVar

import pytest

from envgraph.api import Base, Builder
from envgraph.testing.base import make_base
from envgraph.testing.builder.contract import BuilderContract
from envgraph.testing.builder.material import base_of_layout
from tests.buildkit import opened, push
from tests.daemons import Daemon
from tests.registries import docker_registry

pytestmark = [pytest.mark.services, pytest.mark.slow]


class TestCurrent(BuilderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls, current_dockerd: Daemon) -> Iterator[Builder]:
        with opened(current_dockerd.address) as builder:
            yield builder

    @pytest.fixture
    def builder(self, shared: Builder) -> Builder:
        return shared


if STANDALONE := os.environ.get("ENVGRAPH_BUILDKITD"):

    class TestStandalone(BuilderContract):
        """A buildkitd of its own: no distribution packages one, so its address is given."""

        @pytest.fixture(scope="class")
        @classmethod
        def shared(cls) -> Iterator[Builder]:
            with opened(STANDALONE) as builder:
                yield builder

        @pytest.fixture
        def builder(self, shared: Builder) -> Builder:
            return shared


class TestOld(BuilderContract):
    """It takes no base as blobs: the base is in a registry."""

    heredocs: ClassVar[bool] = False
    empty_images: ClassVar[bool] = False

    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls, old_dockerd: Daemon) -> Iterator[Builder]:
        with opened(old_dockerd.address) as builder:
            yield builder

    @pytest.fixture
    def builder(self, shared: Builder) -> Builder:
        return shared

    @pytest.fixture(scope="class")
    @classmethod
    def shell_base(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
        folder = tmp_path_factory.mktemp("registry")
        made = make_base(folder / "layout")
        with docker_registry(folder / "registry") as registry:
            pull = f"{registry.host}/base"
            push(made.layout, made.name, f"{pull}:latest")
            base = base_of_layout(made.layout, made.name, pull=pull)
            yield dataclasses.replace(base, reference=f"{pull}:latest")
