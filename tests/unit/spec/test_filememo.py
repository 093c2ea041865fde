"""Folders that have not changed are not read again, and everything that could have is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envgraph.spec import filememo, tree
from envgraph.spec.filememo import kept_in
from envgraph.spec.tree import read_tree


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are really read, in an interpreter that has read none before."""
    found: list[str] = []
    real = tree._hash_file

    def hashing(path: str | Path, shown: str) -> object:
        found.append(shown)
        return real(path, shown)

    monkeypatch.setattr(tree, "_hash_file", hashing)
    monkeypatch.setattr(filememo, "_known", {})
    monkeypatch.setattr(filememo, "_WORTH", 0)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files; the clock is an hour ahead, so that neither is too young to be remembered."""
    for name in ("a", "b"):
        (tmp_path / "files" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "files" / name).write_text(name)
    later = filememo.now_ns() + 3_600_000_000_000
    monkeypatch.setattr(tree, "now_ns", lambda: later)
    return tmp_path / "files"


def forget(monkeypatch: pytest.MonkeyPatch, reads: list[str]) -> None:
    """As in a new process."""
    monkeypatch.setattr(filememo, "_known", {})
    reads.clear()


def test_unchanged_files_are_read_once(
    folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    memo = tmp_path / "memo"
    with kept_in(memo):
        first = read_tree(folder)
    assert sorted(reads) == ["a", "b"]
    reads.clear()
    assert read_tree(folder).digest == first.digest
    assert reads == []
    forget(monkeypatch, reads)
    with kept_in(memo):
        assert read_tree(folder).digest == first.digest
    assert reads == []


@pytest.mark.parametrize("change", ["same size and time", "replaced", "new", "mode"])
def test_whatever_changed_is_read(
    folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    memo = tmp_path / "memo"
    with kept_in(memo):
        first = read_tree(folder)
    forget(monkeypatch, reads)
    path = folder / "a"
    times = path.stat()
    if change == "replaced":
        (tmp_path / "other").write_text("x")
        os.utime(tmp_path / "other", ns=(times.st_atime_ns, times.st_mtime_ns))
        (tmp_path / "other").replace(path)
    elif change == "new":
        (folder / "c").write_text("c")
    elif change == "mode":
        path.chmod(0o755)
    else:
        path.write_text("x")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with kept_in(memo):
        again = read_tree(folder)
    assert again.digest != first.digest
    assert reads == (["c"] if change == "new" else ["a"])
    forget(monkeypatch, reads)
    assert read_tree(folder).digest == again.digest


def test_what_is_too_young_is_read_again(
    folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newest = (folder / "a").stat().st_ctime_ns
    monkeypatch.setattr(tree, "now_ns", lambda: newest + filememo.RACY_NS)
    with kept_in(tmp_path / "memo"):
        read_tree(folder)
        read_tree(folder)
    assert sorted(reads) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("text", ["", "{}", '{"format": 1, "files": [[1]]}', '{"format": 2}'])
def test_a_damaged_memo_is_as_good_as_none(
    folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    memo = tmp_path / "memo"
    with kept_in(memo):
        first = read_tree(folder)
    [path] = memo.iterdir()
    path.write_text(text)
    forget(monkeypatch, reads)
    with kept_in(memo):
        assert read_tree(folder).digest == first.digest
    assert sorted(reads) == ["a", "b"]


def test_fresh_reads_everything(folder: Path, reads: list[str], tmp_path: Path) -> None:
    with kept_in(tmp_path / "memo"):
        read_tree(folder)
    reads.clear()
    with kept_in(tmp_path / "memo", fresh=True):
        read_tree(folder)
    assert sorted(reads) == ["a", "b"]


def test_a_place_that_takes_no_memo_is_no_error(
    folder: Path, reads: list[str], tmp_path: Path
) -> None:
    (tmp_path / "memo").write_text("a file")
    with kept_in(tmp_path / "memo"):
        read_tree(folder)
    assert sorted(reads) == ["a", "b"]
