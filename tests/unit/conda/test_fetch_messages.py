"""What is said of an archive that nobody has."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.conda.fetch import fetch_package
from envgraph.errors import FetchError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedPackage
from envgraph_store.digest import Digest


def test_the_address_and_the_reason_stand_apart(tmp_path: Path) -> None:
    place = tmp_path / "noarch" / "a-1-0.conda"
    package = LockedPackage(
        manager="conda",
        name="a",
        version="1",
        build="0",
        subdir="noarch",
        sha256=Digest.of(b""),
        channel=tmp_path.as_uri(),
        file_name=place.name,
        url=place.as_uri(),
        size=1,
    )
    config = WorkspaceConfig("w", "1", str(tmp_path))
    with pytest.raises(FetchError) as caught:
        fetch_package(package, config, bytearray().extend, offline=True)
    assert "a-1-0.conda cannot be read: No such file" in caught.value.diagnostics[0].detail
