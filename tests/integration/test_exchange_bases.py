"""Images on bases in registries, pushed: mounted, taken from the store, or fetched once."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.testing.layouts import LayoutMaker, MadeImage
from tests.bases import HOST, REPOSITORY, SETTINGS, TARS, BaseDesk, upload
from tests.services import Channel


@pytest.fixture
def base(tmp_path: Path) -> tuple[LayoutMaker, MadeImage]:
    layout = LayoutMaker(tmp_path / "layout")
    return layout, layout.add_image(TARS, config=SETTINGS)


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel, base: tuple[LayoutMaker, MadeImage]) -> BaseDesk:
    desk = BaseDesk(tmp_path / "desk", demo_channel.url)
    upload(base[0], base[1].manifest, desk.registry, "1")
    desk.use()
    return desk


def test_on_the_same_host_a_bases_layers_are_mounted(
    desk: BaseDesk, base: tuple[LayoutMaker, MadeImage]
) -> None:
    desk.settings(registry={"type": "memory", "name": HOST})
    desk.calls()
    desk.apply_here()
    calls = desk.calls()
    mounted = [call.split()[2] for call in calls if call.endswith(f" {REPOSITORY}")]
    sent = {call.split()[2] for call in calls if call.startswith("push_blob")}
    opened = {call.split()[2] for call in calls if call.startswith("open_blob")}
    assert {str(layer) for layer in base[1].layers} <= set(mounted)
    assert not sent & {str(layer) for layer in base[1].layers}
    assert not opened & {str(layer) for layer in base[1].layers}
    assert not {layer.hex for layer in base[1].layers} & desk.blobs()


def test_elsewhere_they_are_fetched_and_sent_and_a_second_machine_needs_none(
    desk: BaseDesk, base: tuple[LayoutMaker, MadeImage], tmp_path: Path, demo_channel: Channel
) -> None:
    desk.settings(registry={"type": "memory", "name": "own"})
    made = desk.apply_here()
    own = desk.plugin.registry("own")
    [name] = [n for n in own.contents if n.startswith("envgraph/envgraph_")]
    assert set(base[1].layers) <= own.contents[name].blobs.keys()
    other = BaseDesk(tmp_path / "other", demo_channel.url, plugin=desk.plugin)
    other.settings(registry={"type": "memory", "name": "own"})
    other.use()
    desk.registry.contents.clear()  # the base's own registry is gone
    own.calls.clear()
    assert other.apply_here() == made
    assert not [c for c in own.calls if c.startswith("open_blob") and str(base[1].layers[0]) in c]
    with other.workspace(offline=True) as workspace:
        assert not workspace.plan().changes
