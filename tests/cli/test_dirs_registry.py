"""Two machines, one folder: the second builds nothing, offline; other tools read the image."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, WORKSPACE, Cli
from tests.services import Channel, require_tool

REGISTRY = "registry: {type: dirs, path: ../shared}\n"


@pytest.fixture
def first(cli: Cli, demo_channel: Channel) -> Cli:
    cli.write("envgraph.yaml", WORKSPACE.format(url=demo_channel.url) + REGISTRY)
    cli.write("environments/train.yml", TRAIN)
    return cli


@pytest.fixture
def second(first: Cli, tmp_path: Path) -> Cli:
    """Another machine: the same files and folder, a store of its own."""
    environment = first.environment | {"ENVGRAPH_STORE": str(tmp_path / "another-store")}
    return Cli(first.folder, environment, first.places)


def result(cli: Cli, *flags: str) -> dict[str, object]:
    done = cli(" ".join(["apply", "--auto-approve", "--json", *flags]))
    assert done.code == 0, done.err
    answer: dict[str, object] = json.loads(done.out.splitlines()[-1])
    return answer


def test_a_second_store_builds_nothing_offline(first: Cli, second: Cli) -> None:
    built = result(first, "--offline")
    reused = result(second, "--offline")
    assert built["built"] != 0
    assert reused["built"] == 0
    assert reused["environments"] == built["environments"]


@pytest.mark.services
def test_skopeo_reads_what_apply_pushed(first: Cli) -> None:
    skopeo = require_tool("skopeo")
    (environment,) = result(first)["environments"]  # type: ignore[misc]
    where = first.folder.parent / "shared" / str(environment["image_name"])
    index = json.loads((where / "index.json").read_bytes())
    named = {
        item["annotations"]["org.opencontainers.image.ref.name"]: item["digest"]
        for item in index["manifests"]
    }
    (tag,) = [tag for tag, digest in named.items() if tag == str(environment["version"])]
    assert named[tag] == environment["image"]
    done = subprocess.run(
        [skopeo, "inspect", "--raw", f"oci:{where}:{tag}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layers"]
