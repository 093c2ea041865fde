"""Images go into a registry and come out of it, on another machine, as if built there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exchange import PACKAGES, Machine, good
from tests.services import Channel


@pytest.fixture
def first(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "first", demo_channel.url)
    machine.environment("train", *PACKAGES)
    return machine


def test_a_second_machine_builds_nothing(first: Machine, tmp_path: Path) -> None:
    made = good(first.apply())
    assert made.pushed == 1
    assert made.built == 7
    second = first.elsewhere(tmp_path / "second")
    plan = second.plan()
    assert plan.summary["build"] == 0
    assert plan.summary["pull"] == 1
    assert plan.summary["push"] == 0
    result = good(second.apply())
    assert (result.built, result.pulled, result.pushed) == (0, 1, 0)
    assert result.environments[0]["image"] == made.environments[0]["image"]
    after = second.plan()
    assert not after.changes
