"""What verify names as bad, the next apply makes again, to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.desk import Desk
from tests.services import Channel


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    return Desk(tmp_path / "desk", demo_channel.url)


def parts(desk: Desk) -> dict[str, Path]:
    """The manifest of the only image, its config, and its layers."""
    blobs = desk.store / "blobs" / "sha256"
    index = json.loads((desk.store / "index.json").read_bytes())
    found = {"manifest": blobs / index["manifests"][0]["digest"].removeprefix("sha256:")}
    manifest = json.loads(found["manifest"].read_bytes())
    found["config"] = blobs / manifest["config"]["digest"].removeprefix("sha256:")
    for number, layer in enumerate(manifest["layers"]):
        found[f"layer {number}"] = blobs / layer["digest"].removeprefix("sha256:")
    return found


@pytest.mark.parametrize("damage", ["flipped", "emptied", "another"])
def test_a_damaged_image_is_made_again(desk: Desk, damage: str) -> None:
    desk.environment("train", "alpha=1.1", "gamma")
    desk.apply()
    good = {path: path.read_bytes() for path in parts(desk).values()}
    assert len(good) > 3
    for path, data in good.items():
        path.unlink()
        flipped = data[:-1] + bytes([data[-1] ^ 1])
        path.write_bytes({"flipped": flipped, "emptied": b"", "another": b"[]"}[damage])
    assert desk.run("store", "verify").code == 3
    assert desk.plan()["changes"]
    desk.apply()
    assert {path: path.read_bytes() for path in good} == good
    desk.ok("store", "verify")
    assert not desk.plan()["changes"]


@pytest.mark.parametrize("lost", ["actions", "stage", "quarantine", "locks", "packages"])
def test_a_lost_folder_costs_only_work(desk: Desk, lost: str) -> None:
    desk.environment("train", "alpha=1.1", "gamma")
    desk.apply()
    good = {path: path.read_bytes() for path in parts(desk).values()}
    (desk.store / lost).rename(desk.root / "lost")
    assert desk.plan()["changes"] is (lost == "actions")
    desk.apply()
    assert {path: path.read_bytes() for path in good} == good
