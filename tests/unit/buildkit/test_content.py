"""Blobs that BuildKit reads piece by piece are opened once, and closed in the end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pytest

from envgraph.api import Base, Descriptor, Digest
from envgraph_buildkit.content import Content
from envgraph_buildkit.messages import message

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


@pytest.fixture
def content(blobs: Blobs, tmp_path: Any) -> Content:
    manifest = Descriptor("", Digest.of(blobs.manifest), len(blobs.manifest))
    base = Base("base", manifest, (), "", blobs.open)
    made = Content([base], [base], tmp_path)
    blobs.opened.clear()
    return made


def read(content: Content, offset: int, size: int) -> bytes:
    request = message("ReadContentRequest")(
        digest=str(Digest.of(DATA)), offset=offset, size=size
    )  # fmt: skip
    return b"".join(part.data for part in content._read(request, None))


def test_piece_by_piece_it_is_opened_once(content: Content, blobs: Blobs) -> None:
    pieces = [read(content, offset, 1000) for offset in range(0, len(DATA), 1000)]
    assert b"".join(pieces) == DATA
    assert blobs.opened == [Digest.of(DATA)]
    content.close()
    assert blobs.open_now == 0


def test_out_of_order_it_is_opened_anew(content: Content, blobs: Blobs) -> None:
    assert read(content, 5000, 100) == DATA[5000:5100]
    assert read(content, 0, 100) == DATA[:100]
    assert read(content, 100, 100) == DATA[100:200]
    assert read(content, 5100, 100) == DATA[5100:5200]
    assert len(blobs.opened) == 2
    content.close()
    assert blobs.open_now == 0


def test_who_reads_the_same_at_once_has_a_stream_of_its_own(content: Content, blobs: Blobs) -> None:
    request = message("ReadContentRequest")(digest=str(Digest.of(DATA)), offset=0, size=0)
    two = [content._read(request, None) for _ in range(2)]
    parts = [b"".join(part.data for part in each) for each in two]
    assert parts == [DATA, DATA]
    content.close()
    assert read(content, 0, 10) == DATA[:10], "it goes on after that, and keeps nothing open"
    assert blobs.open_now == 0


def test_a_blob_that_is_known_is_not_taken(tmp_path: Any) -> None:
    from envgraph_buildkit.session import Refusal

    content = Content([], [], tmp_path, lambda digest: digest == Digest.of(DATA))
    first = message("WriteContentRequest")(expected=str(Digest.of(DATA)), total=len(DATA))
    with pytest.raises(Refusal, match="already exists"):
        list(content._write(iter([first]), None))
    assert not list(tmp_path.iterdir())
