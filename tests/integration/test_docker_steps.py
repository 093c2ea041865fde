"""Docker steps end to end: the real command line, a small base, the real buildah."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from envgraph.testing.base import make_base
from envgraph_store import Digest, Store
from tests.desk import Desk
from tests.services import make_demo_channel, require_tool

pytestmark = pytest.mark.services


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps-base")
    make_base(folder / "base")
    return folder / "base"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One storage of buildah for all tests of this file: what it has of bases is reused."""
    require_tool("buildah")
    return tmp_path_factory.mktemp("steps-cache")


@pytest.fixture
def desk(tmp_path: Path, base: Path, cache: Path) -> Desk:
    channel = make_demo_channel(tmp_path / "channel")
    desk = Desk(tmp_path / "desk", channel.url)
    shutil.copytree(base, desk.folder / "base")
    desk.settings(builder={"type": "buildah", "storage": str(cache)})
    return desk


def write(desk: Desk, name: str, *steps: str, conda: str = "", image: str = "oci:../base") -> Path:
    """An environment with these steps."""
    path = desk.folder / "environments" / f"{name}.yml"
    document: dict[str, Any] = {"name": name, "image": image, "docker_steps": list(steps)}
    if conda:
        document["conda_file"] = {"channels": ["demo"], "dependencies": [conda]}
    path.write_text(json.dumps(document))
    return path


def image_of(desk: Desk, name: str) -> tuple[dict[str, Any], list[Path]]:
    """The config of the newest image, and the files of its layers."""
    shown = desk.ok("show", name, "--json").json
    with Store.open(desk.store) as store:
        manifest = json.loads(store.blobs.read(Digest(shown["image"])))
        config: dict[str, Any] = json.loads(store.blobs.read(Digest(manifest["config"]["digest"])))
        layers = [Path(store.blobs.path(Digest(item["digest"]))) for item in manifest["layers"]]
    return config, layers


def names_in(layer: Path) -> dict[str, tarfile.TarInfo]:
    import io

    import zstandard

    with layer.open("rb") as stream:
        reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        data = io.BytesIO(reader.read())
    with tarfile.open(fileobj=data) as archive:
        return {member.name.rstrip("/"): member for member in archive.getmembers()}


def test_steps_are_built_below_the_packages(desk: Desk) -> None:
    (desk.folder / "environments" / "settings.txt").write_text("blue\n")
    steps = ("RUN echo hi > /made.txt", "COPY settings.txt /etc/settings.txt", "ENV SHADE=blue")
    write(desk, "train", *steps, conda="alpha=1.0")
    plan = desk.plan()
    planned = [step for step in plan["steps"] if step["kind"] == "docker-step"]
    assert [(step["name"], step["action"]) for step in planned] == [(s, "build") for s in steps]
    assert plan["environments"][0]["image"] is None
    assert "buildah" in next(d for d in plan["diagnostics"] if d["code"] == "builder")["summary"]

    desk.apply()
    config, layers = image_of(desk, "train")
    assert "SHADE=blue" in config["config"]["Env"]
    assert any(line.startswith("CONDA_PREFIX=") for line in config["config"]["Env"])
    assert "made.txt" in names_in(layers[1])
    copied = names_in(layers[2])["etc/settings.txt"]
    assert (copied.mode & 0o777, copied.uid, copied.size) == (0o644, 0, 5)
    assert copied.mtime <= 315_532_800
    assert "etc/resolv.conf" not in names_in(layers[1])
    assert len(config["rootfs"]["diff_ids"]) == len(layers)

    again = desk.plan()
    assert not again["changes"]
    assert again["environments"][0]["image"] is not None


def test_a_prefix_that_was_built_is_not_built_again(desk: Desk) -> None:
    write(desk, "one", "RUN echo a > /a", "RUN echo b > /b")
    desk.apply()
    write(desk, "two", "RUN echo a > /a", "RUN echo b > /b", "RUN echo c > /c")
    write(desk, "three", "RUN echo a > /a", "RUN echo d > /d")
    plan = desk.plan()
    todo = [(s["name"], s["environments"]) for s in plan["steps"] if s["kind"] == "docker-step"]
    assert todo == [("RUN echo d > /d", ["three"]), ("RUN echo c > /c", ["two"])]
    desk.apply()
    one, two = image_of(desk, "one")[0], image_of(desk, "two")[0]
    assert one["rootfs"]["diff_ids"] == two["rootfs"]["diff_ids"][:-1]
