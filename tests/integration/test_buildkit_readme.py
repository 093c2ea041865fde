"""The examples of envgraph_buildkit's README run as they stand, with a real worker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.buildkit import push
from tests.daemons import Daemon
from tests.registries import RunningRegistry, docker_registry

pytestmark = [pytest.mark.services, pytest.mark.slow]

README = Path(__file__).resolve().parents[2] / "plugins/envgraph_buildkit/README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    made = make_base(folder / "layout")
    with docker_registry(folder / "registry") as found:
        push(made.layout, made.name, f"{found.host}/base:1")
        yield found


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(
    number: int, current_dockerd: Daemon, registry: RunningRegistry, tmp_path: Path
) -> None:
    """The address, the image and the network are those of this machine; nothing else is."""
    address = os.environ.get("ENVGRAPH_BUILDKITD") or current_dockerd.address
    text = EXAMPLES[number].replace("unix:///run/buildkit/buildkitd.sock", address)
    text = text.replace("docker.io/library/debian:12", f"{registry.host}/base:1")
    text = text.replace('"make > /out/log"', '"mkdir /out; ls > /out/log", network="none"')
    (tmp_path / "Dockerfile").write_text(
        f"FROM {registry.host}/base:1\nARG WHO\nRUN --network=none --mount=type=secret,id=token"
        ' test "$(cat /run/secrets/token)" = ... && echo $WHO > /who\n'
    )
    (tmp_path / "README.md").write_text("read me\n")
    (tmp_path / "example.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "BUILDKIT_HOST": address},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout
    if number == 0:
        assert (tmp_path / "image.tar").stat().st_size > 0
        assert "README.md" in (tmp_path / "files/out/log").read_text()
        assert (tmp_path / "files/README.md").read_text() == "read me\n"
    elif number == 1:
        assert [(tmp_path / f"out-{n}/number").read_text() for n in range(4)] == list("0123")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3
