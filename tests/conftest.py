"""What every test may use: the golden flag, tools that must be there, an own home."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

REQUIRE_SERVICES = "ENVGRAPH_REQUIRE_SERVICES"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write golden files instead of comparing them; refused where CI is set",
    )


def pytest_configure(config: pytest.Config) -> None:
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
    """``need("skopeo")`` → its path.

    A missing tool skips the test, unless ENVGRAPH_REQUIRE_SERVICES=1 (as in CI):
    then it fails, so that nothing is skipped unseen.
    """

    def find(tool: str) -> str:
        path = shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if path is None:
            message = f"{tool} is not installed"
            if os.environ.get(REQUIRE_SERVICES) == "1":
                pytest.fail(f"{message}, and {REQUIRE_SERVICES}=1")
            pytest.skip(message)
        return path

    return find


@pytest.fixture
def corpus() -> Path:
    """The folder of files from the wild, or skip: $ENVGRAPH_CORPUS names it."""
    folder = os.environ.get("ENVGRAPH_CORPUS", "")
    if not folder:
        pytest.skip("ENVGRAPH_CORPUS is not set")
    path = Path(folder)
    assert path.is_dir(), f"ENVGRAPH_CORPUS={folder} is not a folder"
    return path
