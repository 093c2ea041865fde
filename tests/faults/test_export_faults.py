"""An export on a full disk, or one that is cut short, leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.errors import InputError
from envgraph.image.oci_export import export_oci
from envgraph.testing.layouts import LayoutMaker, tar_bytes
from envgraph_store import Store
from envgraph_store.digest import Digest
from tests.services import missing, require_root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    require_root()
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "envgraph-test", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        missing("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def make_store(folder: Path, size: int) -> Digest:
    layout = LayoutMaker(folder / "made")
    image = layout.add_image([tar_bytes({"noise": os.urandom(size)})], compression="zstd")
    with Store.open(folder / "store") as store, store.transaction() as batch:
        for path in (layout.folder / "blobs/sha256").iterdir():
            batch.add_file(path)
        batch.commit()
    return image.manifest.digest


@pytest.mark.services
@pytest.mark.parametrize("name", ["image", "image.tar"])
def test_a_full_disk(tmp_path: Path, small_disk: Path, name: str) -> None:
    digest = make_store(tmp_path, 1 << 20)
    with Store.open(tmp_path / "store", create=False) as store:
        with pytest.raises(InputError, match="No space left on device"):
            export_oci(store.blobs, digest, ["x"], small_disk / name)
        assert list(small_disk.iterdir()) == []


SCRIPT = """
import sys
from pathlib import Path
from envgraph.image.oci_export import export_oci
from envgraph_store import Digest, Store

with Store.open(Path(sys.argv[1]), create=False) as store:
    while True:
        export_oci(store.blobs, Digest(sys.argv[2]), ["x"], Path(sys.argv[3]))
        Path(sys.argv[3]).rename(sys.argv[3] + ".done")
"""


@pytest.mark.parametrize("name", ["image.tar"])
def test_killed_while_writing(tmp_path: Path, name: str) -> None:
    """What has the name is whole, whenever the process dies."""
    digest = make_store(tmp_path, 1 << 16)
    target = tmp_path / name
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "store"), str(digest), str(target)]
    done = Path(f"{target}.done")
    for _ in range(5):
        done.unlink(missing_ok=True)
        with subprocess.Popen(words) as process:
            deadline = time.monotonic() + 60
            while not done.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGKILL)
        whole = done.stat().st_size
        if target.exists():
            assert target.stat().st_size == whole
