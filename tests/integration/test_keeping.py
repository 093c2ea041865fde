"""What the store keeps: everything that a version or a pin needs, and nothing else for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph_store import Store
from tests.desk import Desk
from tests.services import Channel


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    return Desk(tmp_path / "desk", demo_channel.url)


def collect(desk: Desk) -> None:
    with Store.open(desk.store) as store:
        store.gc(grace_seconds=0)


def packages(desk: Desk) -> set[str]:
    return {path.name for path in (desk.store / "packages").iterdir()}


def is_state(desk: Desk, name: str) -> bool:
    """It is what a history folds to: written anew with every record."""
    data = (desk.store / "blobs" / "sha256" / name).read_bytes()
    return data.startswith(b'{"schema":"envgraph.state/1"')


def test_collection_keeps_images_layers_archives_and_pins(desk: Desk) -> None:
    desk.environment("train", "alpha=1.1", "gamma", "settings")
    desk.apply()
    states = {name for name in desk.blobs() if is_state(desk, name)}
    desk.environment("train", "alpha=1.0", "gamma", "settings")
    desk.apply()
    before = desk.blobs()
    collect(desk)  # what held before version 2 is derived, and was derived anew
    blobs, archives = desk.blobs(), packages(desk)
    assert blobs == before - states
    collect(desk)
    assert desk.blobs() == blobs
    assert packages(desk) == archives
    assert not desk.plan("--no-memo")["changes"]
    desk.environment("train", "alpha=1.1", "gamma", "settings")
    assert desk.plan()["summary"]["build"] == 0  # version 1's layers are still here
    assert desk.run("store", "verify").code == 0


def test_collection_keeps_the_layers_behind_joined_ones(desk: Desk) -> None:
    desk.settings(image={"bytecode": "none", "max_layers": 4})
    desk.environment("train", "alpha=1.1", "gamma", "settings")
    desk.apply()
    blobs = desk.blobs()
    collect(desk)
    assert desk.blobs() == blobs


def test_collection_takes_what_nothing_needs(desk: Desk) -> None:
    desk.environment("train", "alpha=1.1")
    desk.apply()
    before = desk.blobs()
    with Store.open(desk.store) as store, store.transaction() as batch:
        batch.add_bytes(b"nobody needs this")
        batch.commit()
    assert desk.blobs() != before
    collect(desk)
    assert desk.blobs() == before
