"""What is a store, who may use it, and what its files look like."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph_store import Store, StoreError
from envgraph_store.errors import (
    StoreFormatError,
    StoreIOError,
    StoreMissing,
    StoreUnsafe,
)

IMAGE = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2}


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    mask: int = request.param
    before = os.umask(mask)
    yield mask
    os.umask(before)


def everything(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*"))


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 (links that may be gone)


def fill(root: Path) -> None:
    with Store.open(root) as store, store.transaction() as transaction:
        digest = transaction.add_bytes(b"{}")
        transaction.add_bytes(b"archive", area="packages")
        transaction.put_action("envkey1:00", {"layer": str(digest)})
        value = {**IMAGE, "digest": str(digest), "ref_name": "ws/env:1"}
        transaction.set_ref("images/ws/env:1", value, None)
        transaction.commit()
        store.rewrite_index()


def test_a_new_store_is_an_oci_layout(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a" / "b" / "store") as store:
        root = store.root
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((root / "index.json").read_bytes())["manifests"] == []
    assert (root / "blobs" / "sha256").is_dir()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], indirect=True, ids=oct)
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    fill(tmp_path / "store")
    modes: dict[str, set[str]] = {"dir": set(), "file": set()}
    for path in everything(tmp_path / "store"):
        relative = path.relative_to(tmp_path / "store").as_posix()
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_dir():
            modes["dir"].add(oct(mode))
        elif relative != "generation" and not relative.startswith("locks/"):
            modes["file"].add(oct(mode))
        assert not mode & 0o022, relative
    assert modes == {"dir": {"0o755"}, "file": {"0o444"}}


def test_opening_again_writes_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    before = {path: path.stat().st_mtime_ns for path in everything(tmp_path / "store")}
    with Store.open(tmp_path / "store") as store:
        assert store.refs.get("images/ws/env:1") is not None
    assert {path: path.stat().st_mtime_ns for path in everything(tmp_path / "store")} == before


def test_a_missing_store_is_not_created_unless_wanted(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        Store.open(tmp_path / "store", create=False)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("text", ['{"format": 2}', '{"format": 999999999999}'], ids=["next", "far"])
def test_a_newer_store_is_refused_and_not_touched(tmp_path: Path, text: str) -> None:
    fill(tmp_path / "store")
    path = tmp_path / "store" / "envgraph-store.json"
    path.unlink()
    path.write_text(text)
    before = everything(tmp_path / "store")
    with pytest.raises(StoreFormatError, match="format"):
        Store.open(tmp_path / "store")
    assert everything(tmp_path / "store") == before


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"format": "1"}', b'{"format": true}', b'{"format": 0}', b"\xff"]
)
def test_a_format_file_that_says_nothing_is_refused(tmp_path: Path, data: bytes) -> None:
    fill(tmp_path / "store")
    path = tmp_path / "store" / "envgraph-store.json"
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(StoreFormatError):
        Store.open(tmp_path / "store")


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreFormatError, match=r"thesis\.tex"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_half_made_store_is_completed(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    for name in ("envgraph-store.json", "generation", "index.json"):
        (tmp_path / "store" / name).unlink()
    (tmp_path / "store" / "quarantine").rmdir()
    with Store.open(tmp_path / "store") as store:
        assert store.refs.get("images/ws/env:1") is not None
        assert store.verify().bad == ()


@pytest.mark.parametrize("place", ["", "blobs/sha256", "packages", "refs", "locks", "stage"])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777], ids=oct)
def test_a_store_that_others_may_write_is_refused(tmp_path: Path, place: str, mode: int) -> None:
    fill(tmp_path / "store")
    (tmp_path / "store" / place).chmod(mode)
    with pytest.raises(StoreUnsafe) as caught:
        Store.open(tmp_path / "store")
    assert "chmod" in caught.value.hint


@pytest.mark.parametrize("place", ["", "actions"])
def test_a_store_of_somebody_else_is_refused(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "store")
    if os.geteuid() == 0:
        os.chown(tmp_path / "store" / place, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(StoreUnsafe, match="belongs to user"):
        Store.open(tmp_path / "store")


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store" / "quarantine").rmdir()
    (tmp_path / "store" / "quarantine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreIOError):
        Store.open(tmp_path / "store")


def test_a_link_to_the_store_is_fine(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    (tmp_path / "link").symlink_to("store")
    with Store.open(tmp_path / "link") as store:
        assert store.root == tmp_path / "store"


def test_a_file_at_the_path_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    with pytest.raises(StoreError):
        Store.open(tmp_path / "store")


def test_operations_end_in_the_store_they_began_in(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store, store.transaction() as transaction:
        digest = transaction.add_bytes(b"moved")
        (tmp_path / "store").rename(tmp_path / "moved")
        (tmp_path / "store").mkdir()
        transaction.commit()
        assert store.blobs.read(digest) == b"moved"
    assert not list((tmp_path / "store").iterdir())
    assert (tmp_path / "moved" / "blobs" / "sha256" / digest.hex).is_file()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.refs.list()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    fill(tmp_path / "store")
    before = open_files()
    for _ in range(3):
        fill_again = Store.open(tmp_path / "store")
        with fill_again as store:
            with store.transaction() as transaction:
                for number in range(40):
                    transaction.add_bytes(b"%d" % number)
                abandoned = transaction.writer()
                abandoned.write(b"never finished")
            store.verify()
            store.gc()
    assert open_files() == before


def test_importing_the_store_is_light() -> None:
    code = "import sys, envgraph_store; print(*sorted(sys.modules))"
    modules = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    heavy = {"diskcache", "sqlite3", "ctypes", "dataclasses", "inspect", "asyncio", "logging"}
    heavy |= {"envgraph_store.memo", "envgraph_store.gc", "envgraph_store.check", "subprocess"}
    assert not modules & heavy
    assert not {name for name in modules if name == "envgraph" or name.startswith("envgraph.")}
