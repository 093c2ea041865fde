"""Power cuts: what was acknowledged is there and whole, on ext4 and on xfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envgraph.api import Digest
from envgraph_dirs.registry import DirsRegistry
from tests.contract.test_dirs_folder import indexed
from tests.faults.registry.test_dirs_faults import assert_whole
from tests.faults.registry.worker import LAYER, NAME, begin, move
from tests.faults.store.tools import Volume, volume


def cut_after_work(made: Volume) -> tuple[Path, bytes]:
    """Push, lose the power at once, start again; the root, and what ``1.0`` must be."""
    root = made.mount_point / "registry"
    made.mount_point.chmod(0o755)
    begin(DirsRegistry(root).repository(NAME))
    expected = move(DirsRegistry(root).repository(NAME))
    made.cut()
    made.unmount()
    made.mount()
    return root, expected


@pytest.mark.services
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_what_was_pushed_survives_a_power_cut(kind: str, tmp_path: Path) -> None:
    with volume(kind, tmp_path) as made:
        root, expected = cut_after_work(made)
        repository = DirsRegistry(root).repository(NAME)
        assert repository.get_manifest("1.0").data == expected
        assert repository.missing([Digest.of(LAYER)]) == frozenset()
        assert set(repository.tags()) == {"1.0", "report"}
        assert_whole(root)
        begin(repository)
        assert "1.0" in indexed(root)


@pytest.mark.services
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_test_sees_what_was_not_synced(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without fsync it is gone, so the test above can fail."""
    with volume(kind, tmp_path) as made:
        monkeypatch.setattr(os, "fsync", lambda fd: None)
        root, _ = cut_after_work(made)
        assert not list(root.rglob("_tags/*"))
