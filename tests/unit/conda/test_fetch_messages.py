"""What is said of an archive that nobody has."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.conda.fetch import fetch_package
from envgraph.errors import FetchError, IntegrityError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest


def locked(place: Path) -> LockedPackage:
    return LockedPackage(
        manager="conda",
        name="a",
        version="1",
        build="0",
        subdir="noarch",
        sha256=Digest.of(b""),
        channel=place.parent.parent.as_uri(),
        file_name=place.name,
        url=place.as_uri(),
        size=1,
    )


def test_the_address_and_the_reason_stand_apart(tmp_path: Path) -> None:
    package = locked(tmp_path / "noarch" / "a-1-0.conda")
    config = WorkspaceConfig("w", "1", str(tmp_path))
    with pytest.raises(FetchError) as caught:
        fetch_package(package, config, bytearray().extend, offline=True)
    assert "a-1-0.conda cannot be read: No such file" in caught.value.diagnostics[0].detail


def test_a_size_that_somebody_edited(tmp_path: Path) -> None:
    place = tmp_path / "noarch" / "a-1-0.conda"
    place.parent.mkdir()
    place.touch()
    with pytest.raises(IntegrityError) as caught:
        fetch_package(
            locked(place), WorkspaceConfig("w", "1", "/"), bytearray().extend, offline=True
        )
    assert "envgraph lock --update a" in caught.value.diagnostics[0].hint
