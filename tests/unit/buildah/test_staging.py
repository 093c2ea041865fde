"""A context written out: modes, times, links, and holes for zeros."""

from __future__ import annotations

import os
from pathlib import Path

from envgraph.testing.builder.material import EPOCH, MemoryContext
from envgraph_buildah.staging import stage

MEGABYTE = 1 << 20


def test_files_are_as_they_were_and_zeros_take_no_room(tmp_path: Path) -> None:
    files = {
        "empty": b"",
        "zeros": bytes(8 * MEGABYTE),
        "end": bytes(8 * MEGABYTE) + b"x",
        "middle": b"x" * MEGABYTE + bytes(8 * MEGABYTE) + b"y" * 5 + bytes(3),
        "link": "-> zeros",
    }
    stage(MemoryContext(files), tmp_path / "context", EPOCH)
    for name, data in files.items():
        path = tmp_path / "context" / name
        if isinstance(data, str):
            assert path.readlink() == Path("zeros")
            continue
        assert path.read_bytes() == data, name
        assert path.stat().st_mtime == EPOCH
    if os.statvfs(tmp_path).f_bsize < MEGABYTE:
        assert (tmp_path / "context/zeros").stat().st_blocks * 512 < MEGABYTE
