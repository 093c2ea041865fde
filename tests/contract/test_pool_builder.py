"""Several servers as one builder keep the contract, too."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from envgraph.api import Builder, PluginContext
from envgraph.apply.pool import Pool
from envgraph.apply.servers import Server
from envgraph.testing.builder.contract import BuilderContract
from envgraph.testing.builder.copying import CopyingBuilder
from envgraph_buildkit.options import BuildkitOptions
from envgraph_buildkit.plugin import envgraph_builders
from tests.buildkit import Front
from tests.daemons import Daemon


class TestCopies(BuilderContract):
    @pytest.fixture
    def builder(self) -> Builder:
        return Pool("copying", [Server(CopyingBuilder(), f"copying at {n}") for n in "abc"])


@pytest.mark.services
@pytest.mark.slow
class TestBuildkit(BuilderContract):
    """Two ways to a daemon, an address where nobody is, and one that says nothing."""

    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls, current_dockerd: Daemon) -> Iterator[Builder]:
        [plugin] = envgraph_builders()
        with ExitStack() as stack:
            front = stack.enter_context(Front(current_dockerd.address))
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            options = BuildkitOptions(
                addresses=(
                    current_dockerd.address,
                    front.address,
                    "tcp://127.0.0.1:9",
                    f"tcp://127.0.0.1:{silent.getsockname()[1]}",
                ),
                connect_timeout=1,
            )
            context = PluginContext("/", lambda host, scope: None, {})
            opened = [
                stack.enter_context(plugin.open(each, context))
                for each in plugin.servers(options, True)
            ]
            pool = Pool(plugin.name, [Server(each, each.title) for each in opened])
            pool.ask(map)
            yield pool
            assert sum(server.capabilities is None for server in pool.servers) == 2
            assert all(server.running == 0 for server in pool.servers)

    @pytest.fixture
    def builder(self, shared: Builder) -> Builder:
        return shared
