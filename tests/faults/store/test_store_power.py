"""A power cut after exit 0 loses nothing, and each sync is there because one would.

The power cut is real as far as the file system goes: a loop-mounted ext4 or xfs is shut
down without flushing its log (``xfs_io -x -c shutdown``), so what was not synced is lost.
A disk that lies about its write cache is out of reach here.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from envgraph_store import Store, StoreError, files
from tests.faults.store.tools import ROUNDS, Volume, Worker, assert_kept, assert_whole, volume
from tests.faults.store.worker import OBJECTS, add

pytestmark = pytest.mark.services


def cut_after_ack(disk: Volume, kind: str, skip: str = "") -> None:
    root = disk.mount_point / "store"
    Store.open(root).close()
    worker = Worker(kind, root, skip)
    worker.acks(1)
    disk.cut()
    worker.kill()
    disk.unmount()
    disk.mount()


@pytest.mark.parametrize("system", ["ext4", "xfs"])
@pytest.mark.parametrize("kind", ["add", "many", "objects", "action"])
def test_what_was_acknowledged_survives(tmp_path: Path, system: str, kind: str) -> None:
    with volume(system, tmp_path) as disk:
        cut_after_ack(disk, kind)
        name = "one" if kind == "add" else kind
        with Store.open(disk.mount_point / "store") as store:
            assert_kept(store, name, action=kind != "objects", ref=kind in ("add", "many"))
        assert_whole(disk.mount_point / "store")


@pytest.mark.parametrize("system", ["ext4", "xfs"])
def test_cut_at_random_moments(tmp_path: Path, system: str) -> None:
    chance = random.Random(system)
    with volume(system, tmp_path) as disk:
        root = disk.mount_point / "store"
        acknowledged: list[str] = []
        for _ in range(4 * ROUNDS):
            Store.open(root).close()
            worker = Worker("loop", root)
            acknowledged += worker.acks(chance.randrange(1, 12))
            disk.cut()
            acknowledged += worker.kill()
            disk.unmount()
            disk.mount()
            with Store.open(root) as store:
                assert store.verify().bad == ()
                for name in acknowledged:
                    assert_kept(store, name)
        assert_whole(root)


class Dying(files.Disk):
    """The disk dies after that step, right before the next folder is synced."""

    def __init__(self, disk: Volume, step: str) -> None:
        super().__init__()
        self.volume, self.step, self.last = disk, step, ""

    def point(self, name: str) -> None:
        self.last = name

    def sync_folder(self, fd: int) -> None:
        if self.last == self.step:
            self.last = "dead"
            self.volume.cut()
        super().sync_folder(fd)


@pytest.mark.parametrize("system", ["ext4", "xfs"])
@pytest.mark.parametrize("step", ["placed", "actions"])
def test_a_disk_that_dies_under_a_sync_is_not_acknowledged(
    tmp_path: Path, system: str, step: str
) -> None:
    """xfs answers fsync of a folder with success after it has shut down."""
    with volume(system, tmp_path) as disk:
        root = disk.mount_point / "store"
        with Store.open(root) as store:
            add(store, "one", OBJECTS)
        with Store.open(root, disk=Dying(disk, step)) as store, pytest.raises(StoreError):
            add(store, "one", OBJECTS)
        disk.unmount()
        disk.mount()
        assert_whole(root)
        with Store.open(root) as store:
            add(store, "one", OBJECTS)
            assert_kept(store, "one")


def holds(root: Path, kind: str) -> bool:
    """Whether the store is as good as if no sync had been left out."""
    name = "one" if kind == "add" else kind
    try:
        with Store.open(root) as store:
            if store.verify().bad:
                return False
            assert_kept(store, name, action=kind != "objects", ref=kind in ("add", "many"))
    except (StoreError, AssertionError, pytest.fail.Exception):
        return False
    return True


@pytest.mark.parametrize("system", ["ext4", "xfs"])
@pytest.mark.parametrize(
    ("kind", "skip"),
    [
        ("add", "file"), ("many", "everything"),
        ("objects", "areas"), ("action", "actions"), ("add", "refs"),
    ],
)  # fmt: skip
def test_without_one_sync_a_cut_is_seen(tmp_path: Path, system: str, kind: str, skip: str) -> None:
    """Otherwise the tests above would prove nothing.

    A ``sync`` by some other program on the machine can save the day, so one loss of
    three is enough.
    """

    def lost() -> bool:
        with volume(system, tmp_path) as disk:
            cut_after_ack(disk, kind, skip)
            return not holds(disk.mount_point / "store", kind)

    assert any(lost() for _ in range(3))
