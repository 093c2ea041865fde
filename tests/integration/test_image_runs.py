"""Images run: a real Python with numpy, entry points, activation and variables."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from envgraph.run.container import (
    ImageRoot,
    bwrap_command,
    container_environment,
    prepare_image,
    runc_config,
)
from envgraph.testing.base import make_base
from envgraph.testing.channel import ChannelMaker, make_package
from envgraph.testing.container import LayoutBlobs, Runtime, image_digest, probe
from envgraph_store import Digest
from tests.desk import Desk
from tests.services import Channel, missing

pytestmark = [pytest.mark.services, pytest.mark.slow]

ACTIVATE = """\
export HELLO_HOME="$CONDA_PREFIX/share/hello"
export HELLO_ARGUMENTS="$#"
set -- changed
"""


@dataclass(frozen=True, slots=True)
class Image:
    """An applied image, unpacked once, and the runtime to run it with."""

    layout: Path
    digest: Digest
    unpacked: ImageRoot
    runtime: Runtime

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            outside = Path(folder, "workspace")
            outside.mkdir()
            variables = container_environment(self.unpacked, {})
            program = self.runtime.program
            if self.runtime.name == "bwrap":
                return _run(bwrap_command(program, self.unpacked, command, outside), variables)
            config = runc_config(self.unpacked, command, variables, outside, terminal=False)
            Path(folder, "config.json").write_text(json.dumps(config))
            words = [program, "--root", f"{folder}/state", "run", "--bundle", folder]
            return _run([*words, "envgraph-" + Path(folder).name], {})

    def ok(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _run(words: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, real_channel: Channel) -> Desk:
    """One environment with every way in which packages reach into a process."""
    root = tmp_path_factory.mktemp("runs")
    hello = make_package(
        "hello",
        noarch="generic",
        files={"share/hello/greeting": "hello\n"},
        env_vars={"HELLO_MODE": "from the package", "HELLO_OVER": "package"},
        activate=ACTIVATE,
    )
    mine = ChannelMaker(root / "mine").add(hello).index()
    base = make_base(root / "base")
    desk = Desk(root / "desk", real_channel.url)
    (desk.folder / "conda.yml").write_text(
        "name: not part of it\n"
        "channels: [mine, demo]\n"
        "dependencies: [python, numpy, tqdm, hello]\n"
        "variables: {FROM_CONDA: conda, HELLO_OVER: conda file}\n"
    )
    environment = {
        "name": "runs",
        "image": base.reference,
        "conda_file": "../conda.yml",
        "environment_variables": {"FROM_USER": "user = all of it", "FROM_CONDA": "user"},
        "inference_config": {
            route: {"port": 5001, "path": "/" + route.partition("_")[0]}
            for route in ("liveness_route", "readiness_route", "scoring_route")
        },
    }
    path = desk.folder / "environments/runs.yml"
    path.write_text(json.dumps(environment))
    desk.settings(channels={"demo": real_channel.url, "mine": mine.url})
    return desk


@pytest.fixture(scope="module")
def unpacked(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> ImageRoot:
    digest = Digest(desk.apply()["environments"][0]["image"])
    folder = tmp_path_factory.mktemp("unpacked")
    return prepare_image(LayoutBlobs(desk.store), digest, folder=folder / "images")


@pytest.fixture(params=["bwrap", "runc"])
def image(request: pytest.FixtureRequest, desk: Desk, unpacked: ImageRoot) -> Image:
    runtime = probe(request.param)
    if not runtime.works:
        missing(f"{runtime.name}: {runtime.problem}")
    digest = image_digest(desk.store, "desk/runs:1")
    return Image(desk.store, digest, unpacked, runtime)


def test_python_imports_what_needs_libraries(image: Image) -> None:
    code = "import ssl, sqlite3, numpy; print(numpy.arange(4).sum(), ssl.OPENSSL_VERSION)"
    assert image.ok("python", "-c", code).startswith("6 OpenSSL")


def test_the_environment_is_the_only_python(image: Image) -> None:
    code = "import sys; print(sys.prefix, sys.executable, *sys.path, sep='\\n')"
    prefix, executable, _, *path = image.ok("python", "-c", code).splitlines()
    assert prefix == "/opt/env"
    assert executable.startswith("/opt/env/bin/python")
    assert all(entry.startswith("/opt/env/lib") for entry in path)


def test_entry_points(image: Image) -> None:
    assert image.ok("tqdm", "--version").strip().count(".") >= 1
    assert image.ok("sh", "-c", "command -v tqdm") == "/opt/env/bin/tqdm\n"


def test_variables(image: Image) -> None:
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    found = json.loads(image.ok("python", "-c", code))
    assert found["PATH"].startswith("/opt/env/bin:")
    assert found["CONDA_PREFIX"] == "/opt/env"
    assert found["PYTHONNOUSERSITE"] == "1"
    assert found["HELLO_MODE"] == "from the package"
    assert found["HELLO_OVER"] == "conda file"
    assert found["FROM_CONDA"] == "user"
    assert found["FROM_USER"] == "user = all of it"


def test_activation_runs_before_the_command(image: Image) -> None:
    code = "import os, sys; print(os.environ['HELLO_HOME'], sys.argv[1:])"
    assert image.ok("python", "-c", code, "a b", "*") == "/opt/env/share/hello ['a b', '*']\n"


def test_the_exit_code_is_the_command_s(image: Image) -> None:
    assert image.run("python", "-c", "raise SystemExit(41)").returncode == 41
    assert image.run("sh", "-c", "exit 3").returncode == 3
    assert image.run("no-such-command").returncode == 127


def test_labels(image: Image) -> None:
    manifest = json.loads((image.layout / "blobs/sha256" / image.digest.hex).read_bytes())
    config = manifest["config"]["digest"].removeprefix("sha256:")
    labels = json.loads((image.layout / "blobs/sha256" / config).read_bytes())["config"]["Labels"]
    assert labels["envgraph.inference.scoring_route"] == "5001:/scoring"
    assert labels["envgraph.platform"] == "linux-64"
