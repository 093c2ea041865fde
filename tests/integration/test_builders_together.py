"""What one builder made, another one goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.built import BuiltDesk, names_in
from tests.daemons import Daemon
from tests.services import make_demo_channel

pytestmark = [pytest.mark.services, pytest.mark.slow]


def test_a_prefix_counts_whoever_built_it(tmp_path: Path, current_dockerd: Daemon) -> None:
    channel = make_demo_channel(tmp_path / "channel")
    make_base(tmp_path / "base")
    storage = tmp_path / "storage"
    built = BuiltDesk.make(tmp_path / "desk", channel.url, tmp_path / "base", storage)
    desk = built.desk
    buildah = {"type": "buildah", "storage": str(storage)}
    buildkit = {"type": "buildkit", "address": current_dockerd.address}
    steps = ["RUN echo a > /a"]
    todo = []
    for builder in (buildah, buildkit, buildah):
        built.settings(builder=builder)
        built.steps("train", *steps)
        plan = desk.plan("--offline")
        todo.append([s["name"] for s in plan["steps"] if s["kind"] == "docker-step"])
        desk.apply("--offline")
        steps.append(f"RUN cat /a > /after-{len(steps)}")
    assert todo == [[step] for step in steps[:3]]
    config, layers = built.image("train")
    names = [set(names_in(layer)) for layer in layers[1:]]
    assert "a" in names[0]
    assert "after-1" in names[1]
    assert "after-2" in names[2]
    assert [entry["created_by"] for entry in config["history"]][-1] == steps[2]
