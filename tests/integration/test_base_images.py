"""Environments on base images: every kind on disk, bases that change, lie or are gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from envgraph.image.bases import open_layer
from envgraph.testing.container import LayoutBlobs
from envgraph.testing.layouts import LayoutMaker, docker_archive, tar_bytes
from envgraph_store import Digest
from tests.desk import Desk
from tests.services import Channel

TARS = [tar_bytes({"etc/os-release": b"ID=small\n"}), tar_bytes({"opt/env/old": b"hidden"})]
SETTINGS = {"Env": ["PATH=/usr/bin", "PYTHONPATH=/base"], "Cmd": ["sh"], "User": "1000"}


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    return Desk(tmp_path / "desk", demo_channel.url)


def use(desk: Desk, image: str) -> None:
    (desk.folder / "conda.yml").write_text("channels: [demo]\ndependencies: [alpha]\n")
    path = desk.folder / "environments/train.yml"
    path.write_text(json.dumps({"name": "train", "image": image, "conda_file": "../conda.yml"}))


def blob(desk: Desk, digest: str) -> bytes:
    return LayoutBlobs(desk.store).read(Digest(digest))


def documents(desk: Desk, image: str) -> tuple[dict[str, Any], dict[str, Any]]:
    manifest = json.loads(blob(desk, image))
    return manifest, json.loads(blob(desk, manifest["config"]["digest"]))


@pytest.mark.parametrize("kind", ["oci", "docker schema 2", "docker-archive"])
def test_the_base_lies_below_with_its_own_digests(desk: Desk, tmp_path: Path, kind: str) -> None:
    if kind == "docker-archive":
        docker_archive(tmp_path / "saved.tar", {"small:1": TARS})
        use(desk, "docker-archive:../../../saved.tar")
        digests = [str(Digest.of(raw)) for raw in TARS]
    else:
        layout = LayoutMaker(tmp_path / "base")
        made = layout.add_image(TARS, docker=kind != "oci", config=SETTINGS)
        layout.name(made.manifest, "small")
        use(desk, "oci:../../../base:small")
        digests = [str(digest) for digest in made.layers]
    result = desk.apply()
    manifest, config = documents(desk, result["environments"][0]["image"])
    assert [layer["digest"] for layer in manifest["layers"][:2]] == digests
    assert all(
        layer["mediaType"].startswith("application/vnd.oci.image.layer.v1.tar")
        for layer in manifest["layers"]
    )
    assert config["rootfs"]["diff_ids"][:2] == [str(Digest.of(raw)) for raw in TARS]
    if kind != "docker-archive":
        assert config["config"]["User"] == "1000"
        assert "PATH=/opt/env/bin:/usr/bin" in config["config"]["Env"]
        assert not any(line.startswith("PYTHONPATH") for line in config["config"]["Env"])
    assert not desk.plan()["changes"]


def test_nothing_of_the_base_shows_through(desk: Desk, tmp_path: Path) -> None:
    layout = LayoutMaker(tmp_path / "base")
    layout.name(layout.add_image(TARS).manifest)
    use(desk, f"oci:{layout.folder}")
    manifest, _ = documents(desk, desk.apply()["environments"][0]["image"])
    root = manifest["layers"][2]
    with LayoutBlobs(desk.store).open(Digest(root["digest"])) as source:
        buffer = bytearray(1 << 16)
        count = open_layer(source, root["mediaType"]).readinto(buffer)
    assert b"opt/env/.wh..wh..opq\0" in bytes(buffer[:count])


def test_a_base_that_moved_changes_nothing_that_is_locked(desk: Desk, tmp_path: Path) -> None:
    layout = LayoutMaker(tmp_path / "base")
    layout.name(layout.add_image(TARS).manifest, "small")
    use(desk, f"oci:{layout.folder}:small")
    first = desk.apply()["environments"][0]["image"]
    shutil.rmtree(layout.folder)
    other = LayoutMaker(layout.folder)
    other.name(other.add_image(TARS[:1]).manifest, "small")
    assert not desk.plan("--no-memo")["changes"]
    before = desk.lockfile("train").read_bytes()
    shutil.rmtree(desk.store)
    gone = desk.run("apply", "--json", "--auto-approve")
    assert gone.code == 1
    assert "base-gone" in gone.errors()
    assert desk.lockfile("train").read_bytes() == before
    shutil.rmtree(layout.folder)
    again = LayoutMaker(layout.folder)
    again.name(again.add_image(TARS).manifest, "another name")
    assert desk.apply()["environments"][0]["image"] == first


@pytest.mark.parametrize("kind", ["oci", "docker-archive"])
def test_a_base_that_is_gone_stops_nobody_who_has_pinned_it(desk: Desk, kind: str) -> None:
    base = desk.folder / "base"
    if kind == "oci":
        layout = LayoutMaker(base)
        layout.name(layout.add_image(TARS).manifest)
    else:
        docker_archive(base, {"small:1": TARS})
    use(desk, f"{kind}:../base")
    first = desk.apply()["environments"][0]["image"]
    shutil.rmtree(base) if kind == "oci" else base.unlink()
    quiet = desk.plan("--no-memo")
    assert not quiet["changes"]
    assert not quiet["diagnostics"]
    assert desk.run("lock", "--check", "--json").code == 0
    old, desk.folder = desk.folder, desk.root / "another checkout"
    shutil.copytree(old, desk.folder)
    again = desk.plan("--no-memo")
    assert not again["changes"]
    assert not again["diagnostics"]
    path = desk.folder / "environments/train.yml"
    document = json.loads(path.read_text()) | {"environment_variables": {"A": "1"}}
    path.write_text(json.dumps(document))
    second = desk.apply()["environments"][0]["image"]
    assert second != first
    layers = [layer["digest"] for layer in documents(desk, first)[0]["layers"]]
    assert [layer["digest"] for layer in documents(desk, second)[0]["layers"]] == layers
    judged = desk.ok("validate", "--json", "environments/train.yml")
    assert "missing-image" in judged.out
    shutil.rmtree(desk.store)
    gone = desk.run("apply", "--json", "--auto-approve")
    assert gone.code == 1
    assert "base-gone" in gone.errors()


def test_a_missing_base_is_named_where_it_is_asked_for(desk: Desk) -> None:
    use(desk, "oci:../base")
    answer = desk.run("plan", "--json")
    [problem] = json.loads(answer.err.splitlines()[-1])["diagnostics"]
    assert problem["code"] == "missing-image"
    assert problem["source"]["file"].endswith("environments/train.yml")
    assert str(desk.folder / "base") in problem["summary"]
    assert problem["hint"]


def test_a_base_whose_config_lies(desk: Desk, tmp_path: Path) -> None:
    layout = LayoutMaker(tmp_path / "base")
    image = layout.add_image(TARS[:1])
    blobs = layout.folder / "blobs/sha256"
    manifest = json.loads((blobs / image.manifest.digest.hex).read_bytes())
    config = json.loads((blobs / image.config.hex).read_bytes())
    config["rootfs"]["diff_ids"] = [str(Digest.of(b"another"))]
    lying = layout.add_document(config, manifest["config"]["mediaType"])
    document = manifest | {"config": lying.to_json()}
    layout.name(layout.add_document(document, manifest["mediaType"]))
    use(desk, f"oci:{layout.folder}")
    answer = desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    assert "base-layer" in answer.errors()
    assert manifest["layers"][0]["digest"].removeprefix("sha256:") not in desk.blobs()


def test_a_damaged_layer_of_the_base(desk: Desk, tmp_path: Path) -> None:
    layout = LayoutMaker(tmp_path / "base")
    image = layout.add_image(TARS)
    layout.name(image.manifest)
    path = layout.folder / "blobs/sha256" / image.layers[0].hex
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    use(desk, f"oci:{layout.folder}")
    answer = desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    assert "blob-mismatch" in answer.errors()
    path.write_bytes(data)
    desk.apply()
    assert not desk.plan()["changes"]


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("python:3.12", "offline"),
        ("oci:/nowhere/at/all", "missing-image"),
        ("docker-archive:/nowhere.tar", "missing-image"),
        ("oci:.", "base-image"),
        ("docker-archive:.", "base-image"),
    ],
)
def test_bases_that_cannot_be_had(desk: Desk, image: str, code: str) -> None:
    use(desk, image)
    answer = desk.run("plan", "--json", "--offline")
    assert answer.code == 1
    assert code in answer.errors()


def test_two_platforms_are_one_index(desk: Desk) -> None:
    desk.settings(platforms=["linux-64", "linux-aarch64"])
    desk.environment("train", "settings")
    applied = desk.apply()["environments"][0]
    shown = desk.plan("--no-memo")["environments"][0]["platforms"]
    document = json.loads((desk.store / "index.json").read_bytes())
    [entry] = document["manifests"]
    assert entry["mediaType"] == "application/vnd.oci.image.index.v1+json"
    index = json.loads(blob(desk, entry["digest"]))
    found = {m["platform"]["architecture"]: m["digest"] for m in index["manifests"]}
    assert found == {"amd64": applied["image"], "arm64": shown["linux-aarch64"]["image"]}
    for architecture, digest in found.items():
        manifest, config = documents(desk, digest)
        assert (config["os"], config["architecture"]) == ("linux", architecture)
        assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"])
    lost = documents(desk, found["arm64"])[0]["config"]["digest"].removeprefix("sha256:")
    (desk.store / "blobs/sha256" / lost).unlink()
    assert desk.plan("--no-memo")["changes"], "an index is not whole without its images"
    desk.apply()
    assert lost in desk.blobs()
