"""What every test may use: the golden flag, tools that must be there, real channels."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envgraph.testing.http import ChannelServer
from tests.daemons import Daemon, current_docker, dockerd
from tests.services import (
    Channel,
    cache_folder,
    make_demo_channel,
    make_real_channel,
    require_tool,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write golden files instead of comparing them; refused where CI is set",
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a script: what tests start would ignore Ctrl-C too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--rewrite-golden") and os.environ.get("CI"):
        raise pytest.UsageError("--rewrite-golden is refused in CI: golden files are reviewed")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str | bytes], None]:
    """``golden(path, actual)``: equal to the file, or written to it with ``--rewrite-golden``."""

    def compare(path: Path, actual: str | bytes) -> None:
        data = actual.encode() if isinstance(actual, str) else actual
        if request.config.getoption("--rewrite-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return
        assert path.is_file(), f"{path} is missing: make golden, then review it"
        expected = path.read_bytes()
        if isinstance(actual, str):
            assert actual == expected.decode()
        assert data == expected

    return compare


@pytest.fixture
def need() -> Callable[[str], str]:
    """``need("skopeo")`` → its path; see :func:`tests.services.require_tool`."""
    return require_tool


@pytest.fixture(scope="session")
def demo_channel(tmp_path_factory: pytest.TempPathFactory) -> Channel:
    """A small channel made here, no network: see :func:`tests.services.make_demo_channel`."""
    return make_demo_channel(tmp_path_factory.mktemp("demo") / "channel")


@pytest.fixture(scope="session")
def real_channel(request: pytest.FixtureRequest) -> Channel:
    """CPython and wheels that run; made once per machine. Do not write into its folder."""
    return make_real_channel(cache_folder(request.config))


@pytest.fixture
def http_channel(demo_channel: Channel) -> Iterator[ChannelServer]:
    """The demo channel over HTTP, with its own counters and faults for each test."""
    with ChannelServer(demo_channel.folder) as server:
        yield server


@pytest.fixture
def real_http_channel(real_channel: Channel) -> Iterator[ChannelServer]:
    """The real channel over HTTP, with its own counters and faults for each test."""
    with ChannelServer(real_channel.folder) as server:
        yield server


@pytest.fixture
def corpus() -> Path:
    """The folder of files from the wild, or skip: $ENVGRAPH_CORPUS names it."""
    folder = os.environ.get("ENVGRAPH_CORPUS", "")
    if not folder:
        pytest.skip("ENVGRAPH_CORPUS is not set")
    path = Path(folder)
    assert path.is_dir(), f"ENVGRAPH_CORPUS={folder} is not a folder"
    return path


@pytest.fixture(scope="session")
def current_dockerd(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Daemon]:
    """A current dockerd with containerd's image store, for the whole run."""
    folder = tmp_path_factory.mktemp("dockerd")
    with dockerd(folder, current_docker(cache_folder(pytestconfig))) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def old_dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Debian's dockerd without containerd's image store, for the whole run."""
    with dockerd(tmp_path_factory.mktemp("dockerd-old")) as daemon:
        yield daemon
