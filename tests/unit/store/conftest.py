"""A store of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph_store import Store, files


class Unsynced(files.Disk):
    """A disk that never waits: these tests are not about power cuts."""

    def sync_file(self, fd: int) -> None:
        pass

    def sync_folder(self, fd: int) -> None:
        pass

    def sync_everything(self, fd: int) -> bool:
        return True


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store", disk=Unsynced()) as opened:
        yield opened
