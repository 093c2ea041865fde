"""Blobs that BuildKit reads piece by piece are opened once, and closed in the end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from envgraph.api import Base, Descriptor, Digest
from envgraph_buildkit.content import Bases, Content
from envgraph_buildkit.messages import message
from envgraph_buildkit.opened import Opened
from envgraph_buildkit.session import Refusal

DATA = bytes(range(256)) * 40
CONFIG = b"{}"


class Download(io.BytesIO):
    """Goes one way."""

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("seek")


class Blobs:
    """A base's blobs; counts what is open."""

    def __init__(self) -> None:
        layer, config = Digest.of(DATA), Digest.of(CONFIG)
        self.manifest = (
            f'{{"config": {{"digest": "{config}", "size": 2}},'
            f' "layers": [{{"digest": "{layer}", "size": {len(DATA)}}}]}}'
        ).encode()
        self._data = {Digest.of(each): each for each in (self.manifest, CONFIG, DATA)}
        self.opened: list[Digest] = []
        self.open_now = 0

    @contextmanager
    def open(self, digest: Digest) -> Iterator[BinaryIO]:
        self.opened.append(digest)
        self.open_now += 1
        stream = Download(self._data[digest])
        try:
            yield stream
        finally:
            self.open_now -= 1


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


class Nameless:
    """A call that names no store."""

    def invocation_metadata(self) -> tuple[()]:
        return ()


@dataclass(frozen=True)
class Reader:
    """The service, and what keeps its blobs open."""

    content: Content
    opened: Opened

    def close(self) -> None:
        self.opened.close()


@pytest.fixture
def content(blobs: Blobs, tmp_path: Path) -> Reader:
    manifest = Descriptor("", Digest.of(blobs.manifest), len(blobs.manifest))
    base = Base("base", manifest, (), "", blobs.open)
    opened = Opened()
    made = Reader(Content({}, Bases([base], [base], tmp_path), opened), opened)
    blobs.opened.clear()
    return made


def read(content: Reader, offset: int, size: int) -> bytes:
    request = message("ReadContentRequest")(
        digest=str(Digest.of(DATA)), offset=offset, size=size
    )  # fmt: skip
    return b"".join(part.data for part in content.content._read(request, Nameless()))


def test_piece_by_piece_it_is_opened_once(content: Reader, blobs: Blobs) -> None:
    pieces = [read(content, offset, 1000) for offset in range(0, len(DATA), 1000)]
    assert b"".join(pieces) == DATA
    assert blobs.opened == [Digest.of(DATA)]
    content.close()
    assert blobs.open_now == 0


def test_out_of_order_it_is_opened_anew(content: Reader, blobs: Blobs) -> None:
    assert read(content, 5000, 100) == DATA[5000:5100]
    assert read(content, 0, 100) == DATA[:100]
    assert read(content, 100, 100) == DATA[100:200]
    assert read(content, 5100, 100) == DATA[5100:5200]
    assert len(blobs.opened) == 2
    content.close()
    assert blobs.open_now == 0


def test_who_reads_the_same_at_once_has_a_stream_of_its_own(content: Reader, blobs: Blobs) -> None:
    request = message("ReadContentRequest")(digest=str(Digest.of(DATA)), offset=0, size=0)
    two = [content.content._read(request, Nameless()) for _ in range(2)]
    first = [next(each).data for each in two]
    rest = [b"".join(part.data for part in each) for each in two]
    assert [a + b for a, b in zip(first, rest, strict=True)] == [DATA, DATA]
    content.close()
    assert read(content, 0, 10) == DATA[:10], "it goes on after that, and keeps nothing open"
    assert blobs.open_now == 0


def test_a_blob_that_is_known_is_not_taken(tmp_path: Path) -> None:
    content = Content({}, Bases([], [], tmp_path, lambda digest: digest == Digest.of(DATA)))
    first = message("WriteContentRequest")(expected=str(Digest.of(DATA)), total=len(DATA))
    with pytest.raises(Refusal, match="already exists"):
        list(content._write(iter([first]), Nameless()))
    assert not list(tmp_path.iterdir())
