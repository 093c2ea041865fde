"""Pins travel through the registry: every machine of a workspace ends with one lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.lock.pins import Pins
from envgraph.model.documents import lock_bytes
from envgraph.model.identity import lock_identity
from envgraph.registry.pins import RegistryPins, pin_tags
from envgraph.testing.channel import ChannelMaker, make_package
from envgraph_store import Digest, Store
from tests.exchange import Machine, good


def channel(folder: Path, *versions: str) -> str:
    maker = ChannelMaker(folder)
    for version in versions:
        maker.add(make_package("alpha", version, files={"share/alpha": version}))
    maker.index()
    return maker.url


@pytest.fixture
def old(tmp_path: Path) -> Machine:
    """A machine that sees yesterday's channel."""
    machine = Machine(tmp_path / "old", channel(tmp_path / "yesterday", "1.0"))
    machine.environment("train", "alpha")
    return machine


@pytest.fixture
def new(tmp_path: Path, old: Machine) -> Machine:
    """Another machine with the same files, which sees today's channel."""
    machine = old.elsewhere(tmp_path / "new", locks=False)
    machine.channel = channel(tmp_path / "today", "1.0", "2.0")
    machine.settings()
    return machine


def version(machine: Machine) -> str:
    """What alpha is locked at, in the lockfile and in the store alike."""
    with machine.open() as workspace:
        plan = workspace.plan()
        [locked] = plan.environments[0].target.platforms.values()
        assert Pins(workspace.store, machine.id).find(locked.lock.pin_key) == locked.lock
    assert not plan.changes
    return locked.lock.packages[0].version


def test_a_pin_is_found_in_the_registry_before_anything_is_solved(
    old: Machine, new: Machine
) -> None:
    good(old.apply())
    plan = new.plan()
    assert [s.reason for s in plan.steps if s.kind == "lock"] == [
        "pinned by another machine; taken over from the registry"
    ]
    assert (plan.summary["pull"], plan.summary["build"]) == (1, 0)
    good(new.apply())
    assert version(new) == version(old) == "1.0"
    assert (new.folder / "locks" / "train.conda-lock.yml").exists()


def test_two_machines_that_create_at_once_end_with_one_lock(old: Machine, new: Machine) -> None:
    with old.open() as a, new.open() as b:
        plans = {"old": a.plan(), "new": b.plan()}  # neither sees a pin of the other
        locks = {n: p.environments[0].target.first.lock for n, p in plans.items()}
        assert {lock.packages[0].version for lock in locks.values()} == {"1.0", "2.0"}
        first = good(a.apply(plans["old"]))
        second = good(b.apply(plans["new"]))
    assert [d.code for d in first.diagnostics if d.code.startswith("lock-")] == []
    [said] = [d for d in second.diagnostics if d.code == "lock-adopted"]
    assert str(lock_identity(locks["old"])) in said.detail
    assert str(lock_identity(locks["new"])) in said.detail
    assert (second.built, second.pulled) == (0, 1)
    assert first.environments[0]["lock"] == second.environments[0]["lock"]
    assert version(old) == version(new) == "1.0"


def race(old: Machine, new: Machine, monkeypatch: pytest.MonkeyPatch) -> tuple[object, object]:
    """Both look before either pushes its pin; then one after the other."""

    pushed: list[str] = []
    real = RegistryPins._push

    def push(self: RegistryPins, repository: object, lock: object) -> None:
        if not pushed:
            pushed.append("other")
            with new.open() as b:
                results.append(b.apply(b.plan()))
        real(self, repository, lock)  # type: ignore[arg-type]

    results: list[object] = []
    monkeypatch.setattr(RegistryPins, "_push", push)
    with old.open() as a:
        mine = a.apply(a.plan())
    return mine, results[0]


def test_whoever_pushes_a_pin_after_the_others_look_is_met_at_the_end(
    old: Machine, new: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``new`` begins and ends its whole apply between the look and the push of ``old``."""
    mine, theirs = race(old, new, monkeypatch)
    good(mine)  # type: ignore[arg-type]
    good(theirs)  # type: ignore[arg-type]
    [name] = [n for n in old.registry.contents if n.startswith("envgraph/envgraph_")]
    tags = old.registry.contents[name].tags
    with old.open() as workspace:
        target = workspace.plan().environments[0].target
        key = target.first.lock.pin_key
    holds = pin_tags(tags, key)
    assert len(holds) == 2
    for machine in (old, new):  # the other one learns of it when it next pushes or has no lock
        fresh = machine.elsewhere(machine.root / "fresh", locks=False)
        good(fresh.apply())
        assert version(fresh) == version(
            old if holds[0].endswith(record_of(old, key).hex[:56]) else new
        )


def record_of(machine: Machine, key: Digest) -> Digest:
    with Store.open(machine.store) as store:
        return Digest(store.refs.get(f"pins/{machine.id}/{key.hex}").value["lock"])


def test_the_losers_lock_is_kept_as_a_generation(old: Machine, new: Machine) -> None:
    with old.open() as a, new.open() as b:
        plans = [a.plan(), b.plan()]
        good(a.apply(plans[0]))
        good(b.apply(plans[1]))
        lock = plans[1].environments[0].target.first.lock
        ref = b.store.refs.get(f"pins/{new.id}/{lock.pin_key.hex}")
        assert ref is not None
        [generation] = ref.value["generations"]
        assert Pins(b.store, new.id).read(Digest(generation)) == lock
        assert b.store.gc(grace_seconds=0).removed is not None
        assert Pins(b.store, new.id).read(Digest(generation)) == lock


def test_a_lying_pin_is_nobodys(old: Machine, new: Machine) -> None:
    good(old.apply())
    [name] = [n for n in old.registry.contents if n.startswith("envgraph/envgraph_")]
    here = old.registry.contents[name]
    [tag] = [tag for tag in here.tags if tag.startswith("pin-")]
    with old.open() as workspace:
        lock = workspace.plan().environments[0].target.first.lock
    for digest, data in list(here.blobs.items()):
        if b'"envgraph.lock/1"' in data:
            here.blobs[digest] = data.replace(b'"1.0"', b'"6.6"')
    with new.open() as workspace:
        assert workspace.plan().environments[0].target.first.origin == "new"
    assert tag.startswith(f"pin-{lock.pin_key.hex[:56]}")


def test_without_an_answer_it_is_solved_here(old: Machine, new: Machine) -> None:
    good(old.apply())
    plan = new.plan(offline=True)
    assert plan.environments[0].target.first.lock.packages[0].version == "2.0"


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_that_push_at_once_the_smallest_digest_holds_for_both(
    old: Machine, new: Machine, monkeypatch: pytest.MonkeyPatch, swapped: bool
) -> None:
    """Both have looked and seen nothing; then both push; then both look again."""
    with old.open() as a, new.open() as b:
        locks = [w.plan().environments[0].target.first.lock for w in (a, b)]
        smallest = min(locks, key=lambda lock: Digest.of(lock_bytes(lock)).hex)
        mine, theirs = reversed(locks) if swapped else locks
        remote = a.remotes.named("registry")
        pins, others = RegistryPins(lambda: remote), RegistryPins(lambda: remote)
        real = RegistryPins._push

        def push(self: RegistryPins, repository: object, lock: object) -> None:
            if self is pins:
                monkeypatch.setattr(RegistryPins, "_push", real)
                others._push(repository, theirs)  # type: ignore[arg-type]
            real(self, repository, lock)  # type: ignore[arg-type]

        monkeypatch.setattr(RegistryPins, "_push", push)
        first, second = pins.settle(mine), others.settle(theirs)
        assert first.lock == second.lock == smallest
        assert (first.ours, second.ours) == (mine == smallest, theirs == smallest)
        assert first.rivals
        assert second.rivals
        fresh = RegistryPins(lambda: remote)
        assert fresh.find(mine.definition, mine.pin_key) == smallest
