"""A patched base below docker steps: they run again on it, and the packages above stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envgraph.testing.builder.copying import CopyingBuilder
from tests.exchange import Machine, good
from tests.moving import put_base
from tests.services import Channel
from tests.stepped import STEPS, recorded, steps, with_builder

IMAGE = "oci:../base:small"


@pytest.fixture
def machine(tmp_path: Path, demo_channel: Channel) -> Machine:
    machine = Machine(tmp_path / "first", demo_channel.url)
    machine.settings(builder={"type": "copying"})
    put_base(machine.folder / "base")
    steps(machine, "train", image=IMAGE)
    return machine


@pytest.fixture
def builder(machine: Machine) -> CopyingBuilder:
    return with_builder(machine)


@pytest.mark.parametrize("base", ["", "oci:other:small"])
def test_steps_run_again_on_another_base(
    machine: Machine, builder: CopyingBuilder, tmp_path: Path, base: str
) -> None:
    steps(machine, "plain", "ENV A=b", image=IMAGE, packages="gamma")
    before = good(machine.apply())
    assert len(builder.built) == 4
    layers = [r["digest"] for r in recorded(machine.store).values() if "content" in r]
    put_base(machine.folder / "other", "patch")
    if not base:
        put_base(machine.folder / "base", "patch")
    with machine.open() as workspace:
        plan, rebase = workspace.plan_rebase(["train"], base=base or None)
        again = [s for s in plan.steps if s.kind == "docker-step" and s.action == "build"]
        assert [(s.name, s.reason) for s in again] == [
            (name, "runs again: its base moved" if not base else s.reason)
            for name, s in zip(STEPS, again, strict=True)
        ]
        assert {d.code for d in rebase.remarks} >= {"rebase-steps"}
        assert "builder" in {d.code for d in plan.diagnostics}
        assert plan.summary["layers_written"] == len(STEPS)
        result = good(workspace.apply(plan))
        for edit in rebase.edits.values():
            edit.write()
        if not base:  # plain stands there too, and is rebased apart
            plan, _ = workspace.plan_rebase(["plain"])
            good(workspace.apply(plan))
        assert {p.title for p in workspace.lock_of(workspace.find("train")).packages}
        assert workspace.find("train").version == "2"
    assert len(builder.built) == 4 + 3 + (0 if base else 1)
    assert result.environments[0]["image"] != before.environments[0]["image"]
    after = [r["digest"] for r in recorded(machine.store).values() if "content" in r]
    assert sorted(after) == sorted(layers)  # of packages no layer is new
    assert not machine.plan().changes
    other = machine.elsewhere(tmp_path / "second")
    assert good(other.apply()).pulled == 2  # what ran again is there for all


def test_without_a_builder_nothing_is_registered(
    machine: Machine, builder: CopyingBuilder, tmp_path: Path
) -> None:
    (machine.folder / "environments" / "plain.yml").write_text(
        json.dumps({"name": "plain", "image": IMAGE,
                    "conda_file": {"channels": ["demo"], "dependencies": ["gamma"]}})
    )  # fmt: skip
    good(machine.apply())
    put_base(machine.folder / "base", "patch")
    machine.builders = ()
    with machine.open() as workspace:
        plan, _ = workspace.plan_rebase([], on="oci:base:small")
        assert len(plan.environments) == 2
        result = workspace.apply(plan)
    assert [item["name"] for item in result.environments] == ["plain"]
    assert [f.diagnostics[0].summary.split(":")[0] for f in result.failures] == ["train"]
    with machine.open() as workspace:
        assert workspace.find("train").version == "1"
