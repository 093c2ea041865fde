"""The command line with real registries: a folder, and Debian's docker-registry with skopeo."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desk import Desk
from tests.registries import docker_registry
from tests.services import Channel, require_tool

PACKAGES = ("python", "alpha=1.1", "beta", "gamma", "tool", "settings")


@pytest.fixture(params=["dirs", "oci"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, object]]:
    """What envgraph.yaml says of it."""
    if request.param == "dirs":
        yield {"type": "dirs", "path": str(tmp_path / "shelf")}
        return
    with docker_registry(tmp_path / "registry") as running:
        yield {"type": "oci", "url": f"{running.host}/team", "insecure": True}


@pytest.fixture
def first(tmp_path: Path, demo_channel: Channel, registry: dict[str, object]) -> Desk:
    desk = Desk(tmp_path / "first", demo_channel.url)
    desk.settings(registry=registry)
    desk.environment("train", *PACKAGES)
    return desk


def again(first: Desk, root: Path, registry: dict[str, object], **more: object) -> Desk:
    """Another machine with the committed files and an empty store."""
    desk = Desk(root, first.channel)
    shutil.rmtree(desk.folder)
    shutil.copytree(first.folder, desk.folder)
    desk.settings(registry=registry, **more)
    return desk


def test_a_second_machine_builds_nothing_and_plans_offline_after_that(
    first: Desk, tmp_path: Path, registry: dict[str, object]
) -> None:
    plan = first.plan()
    assert plan["summary"]["push"] == 1
    assert [s["bytes"] > 0 for s in plan["steps"] if s["action"] == "push"] == [True]
    made = first.apply()
    assert (made["pushed"], made["pulled"]) == (1, 0)
    assert not first.plan()["changes"]
    assert not first.plan("--no-memo")["changes"]
    second = again(first, tmp_path / "second", registry)
    plan = second.plan()
    assert (plan["summary"]["build"], plan["summary"]["pull"], plan["summary"]["push"]) == (0, 1, 0)
    pulled = second.apply()
    assert (pulled["built"], pulled["pulled"], pulled["pushed"]) == (0, 1, 0)
    assert pulled["environments"][0]["image"] == made["environments"][0]["image"]
    assert second.run("store", "verify").code == 0
    assert not second.plan("--offline")["changes"]
    answer = second.ok("push", "train", "--json").json
    assert (answer["pushed"], answer["bytes_moved"]) == (1, 0)


def test_sharing_from_one_workspace_to_another(
    first: Desk, tmp_path: Path, registry: dict[str, object]
) -> None:
    first.settings(registries={"shared": registry})
    first.apply()
    first.ok("share", "train", "--to", "shared", "--claim")
    other = Desk(tmp_path / "other", "file:///nowhere")
    other.settings(registries={"shared": registry}, workspace="other", id="07e40002")
    listed = other.ok("list", "--registry", "shared", "--json").json["environments"]
    assert [(e["name"], e["version"], e["kind"]) for e in listed] == [("train", "1", "curated")]
    address = "azureml://registries/shared/environments/train/labels/latest"
    shown = other.ok("show", address, "--json").json
    assert shown["kind"] == "curated"
    assert len(shown["layers"]) == 7
    assert other.ok("show", address, "--offline", "--json").json == shown
    assert other.ok("list", "--registry", "shared", "--offline").out.count("train") == 1
    refused = other.run("share", address, "--to", "shared", "--json")
    assert (refused.code, refused.errors()) == (1, ["curated"])
    missing = other.run("pull", "nothing", "--from", "shared", "--json")
    assert (missing.code, missing.errors()) == (1, ["unknown-name"])


def test_a_bundle_through_the_command_line(first: Desk, tmp_path: Path) -> None:
    first.apply()
    file = tmp_path / "train.tar"
    first.ok("bundle", "create", "train", "-o", str(file), "--packages")
    other = Desk(tmp_path / "other", "file:///nowhere")
    other.settings(workspace="other", id="07e40002")
    answer = other.ok("bundle", "import", str(file), "--offline", "--json").json
    assert [e["name"] for e in answer["environments"]] == ["train"]
    assert other.ok("show", "train", "--json").json["image"] == answer["environments"][0]["image"]
    assert other.run("store", "verify").code == 0


def test_skopeo_copies_what_was_pushed(tmp_path: Path, demo_channel: Channel) -> None:
    skopeo = require_tool("skopeo")
    with docker_registry(tmp_path / "registry") as running:
        desk = Desk(tmp_path / "desk", demo_channel.url)
        desk.settings(registry={"type": "oci", "url": f"{running.host}/team", "insecure": True})
        desk.environment("train", *PACKAGES)
        made = desk.apply()["environments"][0]
        source = f"docker://{running.host}/team/{made['image_name']}:1"
        target = tmp_path / "copied"
        subprocess.run(
            [skopeo, "copy", "--src-tls-verify=false", source, f"oci:{target}:train"],
            check=True, capture_output=True,
        )  # fmt: skip
        index = json.loads((target / "index.json").read_bytes())
        assert [m["digest"] for m in index["manifests"]] == [made["image"]]


def test_images_of_several_platforms_travel_as_one(
    tmp_path: Path, demo_channel: Channel, registry: dict[str, object]
) -> None:
    platforms = ["linux-64", "linux-aarch64"]
    first = Desk(tmp_path / "first", demo_channel.url)
    first.settings(registry=registry, platforms=platforms)
    first.environment("train", "settings")
    made = first.apply()
    assert (made["pushed"], made["built"]) == (1, 2)
    second = again(first, tmp_path / "second", registry, platforms=platforms)
    plan = second.plan()
    assert (plan["summary"]["build"], plan["summary"]["pull"]) == (0, 1)
    pulled = second.apply()
    assert (pulled["built"], pulled["pulled"]) == (0, 1)
    shown = [desk.ok("show", "train", "--json").json for desk in (first, second)]
    assert shown[0]["index"] is not None
    for key in ("index", "platforms"):
        assert shown[0][key] == shown[1][key]
    assert set(shown[1]["platforms"]) == set(platforms)
    assert second.run("store", "verify").code == 0
    assert not second.plan("--offline")["changes"]
