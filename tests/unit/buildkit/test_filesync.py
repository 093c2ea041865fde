"""The order and the choice of what is sent, and the sender against a small receiver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from envgraph.api import BuilderError, ContextEntry
from envgraph.testing.builder.material import EPOCH, MemoryContext
from envgraph_buildkit.filesync import DATA, FIN, REQ, STAT, FileSync, tree_of, wanted
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.session import Refusal

FILES = {"a-b": b"1", "a/x": b"22", "a/b/c": b"333", "a.txt": b"4", "B": b"5", "z": "-> a/x"}


class Call:
    """The one thing of a call that the sender reads."""

    def __init__(self, **metadata: str | list[str]) -> None:
        self._metadata = [
            (key.replace("_", "-"), value)
            for key, values in metadata.items()
            for value in ([values] if isinstance(values, str) else values)
        ]

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata


def received(context: MemoryContext, call: Call) -> dict[str, bytes | str | None]:
    """As BuildKit does: take every STAT, ask for all files, then FIN."""
    packet = message("Packet")
    asked: list[Any] = []

    def requests() -> Iterator[Any]:
        while asked:
            yield asked.pop(0)
        yield packet(type=FIN)

    method = FileSync({"context": tree_of(context)}, EPOCH)._diff_copy
    stats, parts, ended = [], {}, []
    for each in method(requests(), call):
        if each.type == STAT and each.HasField("stat"):
            stats.append(each.stat)
        elif each.type == STAT:
            asked += [
                packet(type=REQ, ID=n)
                for n, s in enumerate(stats)
                if not s.mode & (3 << 27 | 1 << 31)
            ]
        elif each.type == DATA and each.data:
            parts[each.ID] = parts.get(each.ID, b"") + each.data
        elif each.type == DATA:
            ended.append(each.ID)
        elif each.type == FIN:
            break
    assert all(stat.modTime >= EPOCH * 10**9 for stat in stats)
    return {
        stat.path: stat.linkname or (parts.get(n, b"") if n in ended else None)
        for n, stat in enumerate(stats)
    }


def test_folders_before_files_and_names_by_their_bytes() -> None:
    order = [entry.path for entry in tree_of(MemoryContext(FILES)).entries]
    assert order == ["B", "a", "a/b", "a/b/c", "a/x", "a-b", "a.txt", "z"]


def test_the_bytes_of_a_message() -> None:
    """Field numbers are the protocol's: path 1, mode 2, linkname 7."""
    assert encode(message("Stat")(path="a", mode=5, linkname="b")) == b"\n\x01a\x10\x05:\x01b"


def test_everything_arrives() -> None:
    found = received(MemoryContext(FILES), Call(dir_name="context"))
    assert found == {
        "B": b"5", "a": None, "a/b": None, "a/b/c": b"333", "a/x": b"22", "a-b": b"1",
        "a.txt": b"4", "z": "a/x",
    }  # fmt: skip


def test_the_frontend_finds_no_ignore_file() -> None:
    context = MemoryContext({".dockerignore": b"*", "a": b"1"})
    assert received(context, Call(dir_name="context", followpaths=".dockerignore")) == {}
    assert set(received(context, Call(dir_name="context", followpaths=["a", ".dockerignore"]))) == {
        "a", ".dockerignore",
    }  # fmt: skip


def test_another_name_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        received(MemoryContext({}), Call(dir_name="/etc"))
    assert caught.value.status is grpc.StatusCode.NOT_FOUND


def test_only_what_will_be_looked_at() -> None:
    entries = [entry for entry in tree_of(MemoryContext(FILES)).entries if not entry.link]
    paths = lambda *follow: [entry.path for entry in wanted(entries, follow)]  # noqa: E731
    assert paths("a/b") == ["a", "a/b", "a/b/c"]
    assert paths("/a-b", "B") == ["B", "a-b"]
    everything = [entry.path for entry in entries]
    assert paths() == paths("*.txt") == paths("a", "[ab]") == paths(".", "") == everything
    linked = [*entries, ContextEntry("l", 0o755, link="a")]
    assert len(list(wanted(linked, ["B"]))) == len(linked)


def test_a_files_time_follows_its_content() -> None:
    def times(files: dict[str, bytes]) -> list[int]:
        sync = FileSync({}, EPOCH)
        return [sync.time_of(each) for each in tree_of(MemoryContext(files)).entries]

    assert times({"a": b"1"}) == times({"a": b"1"})
    assert times({"a": b"1"}) != times({"a": b"2"})


@pytest.mark.parametrize(
    "files", [{"latin\udce9": b"1"}, {"folder/link": "-> latin\udce9"}], ids=["name", "target"]
)
def test_a_name_that_no_protocol_carries_is_refused_by_name(files: dict[str, bytes | str]) -> None:
    with pytest.raises(BuilderError) as caught:
        tree_of(MemoryContext(files))
    assert caught.value.code == "builder-lacks"
    assert ascii(next(iter(files))) in caught.value.diagnostics[0].summary
    assert "buildah" in caught.value.diagnostics[0].hint
