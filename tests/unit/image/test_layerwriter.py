"""Frames: where they are cut, whatever the bytes came in, and what was written before."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zlib
from collections.abc import Iterable
from typing import Literal

import pytest
import zstandard

from envgraph.image.compress import FRAME, default_compression
from envgraph.image.content import LayerContent
from envgraph.image.group import write_group
from envgraph.image.layerwriter import LayerWriter
from envgraph.image.options import LayerOptions
from envgraph_store.digest import Digest

Kind = Literal["zstd", "gzip"]
DATA = random.Random(1).randbytes(1 << 20) * 4 + bytes(5 << 20)


def options(kind: Kind = "zstd") -> LayerOptions:
    return LayerOptions(compression=default_compression(kind))


def written(
    files: Iterable[tuple[str, bytes]], kind: Kind = "zstd", step: int = 0
) -> tuple[LayerContent, bytes]:
    out: list[bytes] = []
    writer = LayerWriter(options(kind), out.append, ["lib"])
    for path, data in files:
        if not step:
            writer.add_file(path, data)
            continue
        writer.begin_file(path, len(data), executable=False)
        for start in range(0, len(data), step):
            writer.feed(memoryview(data)[start : start + step])
        writer.end_file(len(data))
    return writer.finish(), b"".join(out)


def contents(blob: bytes, kind: Kind) -> list[bytes]:
    """What each frame holds."""
    found = []
    while blob:
        if kind == "zstd":
            part = zstandard.ZstdDecompressor().decompressobj()
            found.append(part.decompress(blob))
            blob = part.unused_data
        else:
            member = zlib.decompressobj(31)
            found.append(member.decompress(blob))
            blob = member.unused_data
    return found


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
@pytest.mark.parametrize("size", [0, 1, FRAME - 512, FRAME - 511, 2 * FRAME + 3])
def test_frames_are_full_but_the_last(kind: Kind, size: int) -> None:
    data = (DATA * 2)[:size]
    content, blob = written([("lib/x", data)], kind)
    head, *files, end = contents(blob, kind)
    assert len(head) == content.head_raw
    raw = 512 + size + -size % 512
    full, rest = divmod(raw, FRAME)
    assert [len(part) for part in files] == [FRAME] * full + ([rest] if rest else [])
    assert end == bytes(1024)
    whole = b"".join([head, *files, end])
    assert (content.raw_size, content.size) == (len(whole), len(blob))
    assert content.diff_id == Digest.of(whole)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        member = tar.extractfile("opt/env/lib/x")
        assert member is not None
        assert member.read() == data


def test_bytes_do_not_depend_on_how_they_came() -> None:
    files = [("lib/x", DATA), ("lib/y", b"y"), ("lib/z", DATA[::-1])]
    expected = written(files)
    for step in (509, 1 << 16, 1 << 20, FRAME, 3 * FRAME):
        assert written(files, step=step) == expected


def test_bytes_do_not_depend_on_what_was_written_before() -> None:
    """Buffers are used again: nothing of an earlier layer shows, nor of one that failed."""
    first = written([("lib/x", b"x")])
    noise = random.Random(2).randbytes(FRAME + 5)
    for _ in range(3):
        written([("lib/noise", noise)])
        LayerWriter(options(), lambda data: None, ["lib"]).add_file("lib/left", noise)
        assert written([("lib/x", b"x")]) == first


def test_layers_that_are_written_at_once_do_not_meet() -> None:
    """Two writers in turn, as two threads have them."""
    alone = {name: written([(name, data)]) for name, data in (("lib/a", DATA), ("lib/b", DATA))}
    outs: dict[str, list[bytes]] = {name: [] for name in alone}
    writers = {name: LayerWriter(options(), outs[name].append, ["lib"]) for name in alone}
    for name, writer in writers.items():
        writer.begin_file(name, len(DATA), executable=False)
    for start in range(0, len(DATA), 1 << 20):
        for writer in writers.values():
            writer.feed(DATA[start : start + (1 << 20)])
    for name, writer in writers.items():
        writer.end_file(len(DATA))
        assert (writer.finish(), b"".join(outs[name])) == alone[name]


def test_a_writer_that_is_finished_takes_no_more() -> None:
    """Its buffer belongs to somebody else by then."""
    writer = LayerWriter(options(), lambda data: None, ["lib"])
    writer.finish()
    with pytest.raises(ValueError, match="released"):
        writer.add_file("lib/x", b"x")


def test_many_directories_take_several_frames() -> None:
    folders = [f"lib/{number:05}" for number in range(FRAME // 512 + 5)]
    out: list[bytes] = []
    content = LayerWriter(options(), out.append, folders).finish()
    blob = b"".join(out)
    assert len(contents(blob, "zstd")[0]) == FRAME
    again: list[bytes] = []
    assert write_group([(content, io.BytesIO(blob))], options(), again.append) == content
    assert b"".join(again) == blob


def test_a_frame_is_never_larger() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        default_compression().frame(bytes(FRAME + 1))


def test_the_size_of_a_frame_is_part_of_the_format() -> None:
    """Another size gives other bytes: raise FRAMES, and say why in the README."""
    compression = default_compression("gzip")
    assert FRAME == 8 << 20
    assert compression.key.endswith(" frames 2")
    assert gzip.decompress(b"".join(compression.frames(DATA))) == DATA
