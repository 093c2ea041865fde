"""What BuildKit sends lands below its folder, whole or not at all, whatever it sends."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import BuilderError
from envgraph_buildkit.filesync import DATA, ERR, FIN, REQ, STAT
from envgraph_buildkit.folders import Folder, chosen
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.outputs import FileTarget, FolderTarget

FOLDER, LINK, PIPE, SETUID = 1 << 31, 1 << 27, 1 << 25, 1 << 23


def entry(path: str, mode: int = 0o644, **values: Any) -> bytes:
    told = message("Stat")(path=path, mode=mode, modTime=5_000_000_000, **values)
    return encode(message("Packet")(type=STAT, stat=told))


def packet(**values: Any) -> bytes:
    return encode(message("Packet")(**values))


def send(target: FolderTarget, *packets: bytes) -> list[int]:
    """The types of what is answered."""
    return [message("Packet").FromString(each).type for each in target.receive(iter(packets))]


def test_a_folder_with_everything_in_it(tmp_path: Path) -> None:
    target = FolderTarget(tmp_path / "out", merge=False)
    answers = send(
        target,
        entry("d", FOLDER | 0o500),
        entry("d/f", 0o640 | SETUID),
        entry("d/l", LINK | 0o777, linkname="../else"),
        entry("d/p", PIPE | 0o644),
        entry("h", linkname="/d/f"),
        packet(type=STAT),
        packet(type=DATA, ID=1, data=b"one"),
        packet(type=DATA, ID=1, data=b"two"),
        packet(type=DATA, ID=1),
        packet(type=FIN),
    )
    assert answers == [REQ, FIN]
    assert not (tmp_path / "out").exists()
    target.keep()
    out = tmp_path / "out"
    assert (out / "d/f").read_bytes() == (out / "h").read_bytes() == b"onetwo"
    assert stat.S_IMODE((out / "d/f").stat().st_mode) == 0o640 | stat.S_ISUID
    assert ((out / "d").stat().st_mtime, (out / "d/f").stat().st_mtime) == (5, 5)
    assert (out / "d/l").readlink() == Path("../else")
    assert not (out / "d/p").exists()


@pytest.mark.parametrize(
    "packets",
    [
        [entry("../x")],
        [entry("/x")],
        [entry("a/b")],  # nobody told of a
        [entry("..", FOLDER | 0o755)],
        [entry("a", LINK | 0o777, linkname="/etc"), entry("a/passwd")],
        [entry("a", linkname="../../etc/passwd")],
        [packet(type=DATA, ID=3, data=b"x")],
        [packet(type=ERR, data=b"broken")],
    ],
)
def test_what_lies_out_of_place_is_refused(tmp_path: Path, packets: list[bytes]) -> None:
    target = FolderTarget(tmp_path / "in" / "out", merge=False)
    (tmp_path / "in").mkdir()
    with pytest.raises(BuilderError):
        send(target, *packets)
    target.drop()
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]


def test_a_symlink_that_was_there_is_no_way_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/d").symlink_to(tmp_path)
    target = FolderTarget(tmp_path / "out", merge=True)
    send(target, entry("d", FOLDER | 0o755), entry("d/f"), packet(type=STAT),
         packet(type=DATA, ID=1))  # fmt: skip
    target.keep()
    assert not (tmp_path / "f").exists()
    assert (tmp_path / "out/d/f").is_file()


def test_nothing_came(tmp_path: Path) -> None:
    for target in (FileTarget(tmp_path / "f"), FolderTarget(tmp_path / "d", merge=False)):
        with pytest.raises(BuilderError) as caught:
            target.keep()
        assert caught.value.code == "builder-lacks"
        target.drop()


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield encode(message("BytesMessage")(data=b"one"))
        assert not (tmp_path / "f").exists()
        yield encode(message("BytesMessage")(data=b"two"))

    target = FileTarget(tmp_path / "f")
    assert list(target.receive(parts())) == []
    target.keep()
    assert (tmp_path / "f").read_bytes() == b"onetwo"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


PATHS = ["a.log", "d", "d/a.log", "d/b", "d/e", "d/e/c.txt", "x[1]"]


@pytest.mark.parametrize(
    ("exclude", "kept"),
    [
        ([], PATHS),
        (["*.log"], ["d", "d/a.log", "d/b", "d/e", "d/e/c.txt", "x[1]"]),
        (["**/*.log"], ["d", "d/b", "d/e", "d/e/c.txt", "x[1]"]),
        (["d"], ["a.log", "x[1]"]),
        (["d", "!d/e/c.txt"], ["a.log", "d", "d/e", "d/e/c.txt", "x[1]"]),
        (["*", "!d/b"], ["d", "d/b"]),
        (["!d/b", "*"], []),
        (["/d/", "x?1]"], ["a.log"]),
        (["**"], []),
        (["d/**"], ["a.log", "d", "x[1]"]),
        ([r"x\[1\]", "[a-c]*"], ["d", "d/a.log", "d/b", "d/e", "d/e/c.txt"]),
    ],
)
def test_patterns_are_those_of_dockerignore(exclude: list[str], kept: list[str]) -> None:
    assert sorted(chosen(PATHS, [], exclude)) == sorted(kept)


def test_only_what_is_included() -> None:
    assert chosen(PATHS, ["d/e"], []) == {"d", "d/e", "d/e/c.txt"}


def test_a_pattern_that_is_none() -> None:
    with pytest.raises(BuilderError):
        chosen(PATHS, [], ["[b-a]"])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BuilderError):
        Folder(tmp_path / "no").entries()
