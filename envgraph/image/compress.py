"""Compressed frames: the only importer of zstandard and isal.

A layer is a sequence of independent frames (zstd frames or gzip members), each of at
most :data:`FRAME` bytes of content and compressed at once. Their parameters are fixed
here and never depend on the machine, on threads or on how the input was cut, so that
equal content gives equal compressed bytes for equal :attr:`Compression.key`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Literal, Protocol, cast

FRAME: Final = 8 << 20
"""Bytes of content in one frame at most. In one piece, because zstd searches what it is
given as a stream for its history in two places, which takes a fifth longer; and no
more, because a frame in the making is held in memory."""

ZSTD_LEVEL: Final = 3
_ZSTD_PARAMETERS: Final = {
    # Level 3's own values for input of unknown size, spelt out: a library that
    # retunes its levels must not silently change our bytes.
    "window_log": 21,
    "chain_log": 16,
    "hash_log": 17,
    "search_log": 1,
    "min_match": 5,
    "target_length": 0,
    "strategy": 2,
    "write_content_size": 0,
    "write_checksum": 0,
    "write_dict_id": 0,
    "threads": 0,
}
GZIP_LEVEL: Final = 1
_GZIP_WBITS: Final = 31
FRAMES: Final = 2
"""How content is cut into frames; ``envgraph/image/README.md`` says why for each number."""
_READ: Final = 1 << 17
MAX_WINDOW: Final = 1 << 27
"""128 MiB: the largest window that zstd's levels (22 included) ask for."""


class Decompressed(Protocol):
    """Bytes of consecutive frames, read into the caller's buffer."""

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` as far as is convenient; 0 means the end."""
        ...


@dataclass(frozen=True, slots=True)
class Compression:
    """A compressor by name, level and library version: what decides compressed bytes."""

    name: Literal["zstd", "gzip"]
    level: int
    version: str

    @property
    def key(self) -> str:
        """``zstd 1.5.7 level 3 frames 2``: equal keys promise equal bytes."""
        return f"{self.name} {self.version} level {self.level} frames {FRAMES}"

    @property
    def media_type(self) -> str:
        """The OCI media type of a layer that is compressed so."""
        return f"application/vnd.oci.image.layer.v1.tar+{self.name}"

    def frame(self, data: bytes | bytearray | memoryview) -> bytes:
        """``data``, at most :data:`FRAME` bytes, as one whole frame."""
        if len(data) > FRAME:
            raise ValueError(f"a frame of {len(data)} bytes")
        if self.name == "zstd":
            import zstandard

            # A new one each time: what came before has no part in the bytes.
            parameters = zstandard.ZstdCompressionParameters(**_ZSTD_PARAMETERS)
            return zstandard.ZstdCompressor(compression_params=parameters).compress(data)
        from isal import isal_zlib

        member = isal_zlib.compressobj(self.level, isal_zlib.DEFLATED, _GZIP_WBITS)
        return member.compress(data) + member.flush()

    def frames(self, data: bytes) -> Iterator[bytes]:
        """``data`` as frames, cut where :class:`LayerWriter` cuts; empty is one frame too."""
        for start in range(0, max(len(data), 1), FRAME):
            yield self.frame(data[start : start + FRAME])

    def open(self, source: BinaryIO) -> Decompressed:
        """The content of all frames in ``source``, with bounded memory."""
        return open_zstd(source) if self.name == "zstd" else open_gzip(source)


def default_compression(name: Literal["zstd", "gzip"] = "zstd") -> Compression:
    """The compression that ``image.compression`` names, with this machine's library."""
    if name == "zstd":
        import zstandard

        return Compression("zstd", ZSTD_LEVEL, ".".join(map(str, zstandard.ZSTD_VERSION)))
    import isal

    return Compression("gzip", GZIP_LEVEL, f"isal-{isal.ISAL_VERSION}")


def open_zstd(source: BinaryIO) -> Decompressed:
    """Read zstd frames with at most :data:`MAX_WINDOW` of memory for their window.

    Errors are ValueError, whatever the library raises.
    """
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(
        source, read_size=_READ, read_across_frames=True, closefd=False
    )
    return _Translated(cast(Decompressed, reader), zstandard.ZstdError)


def open_gzip(source: BinaryIO) -> Decompressed:
    """Read gzip members; anything else between or after them is a ValueError."""
    from isal import igzip_lib, isal_zlib

    def start() -> _Machine:
        return cast(_Machine, igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP))

    errors: Any = (isal_zlib.error, OSError)
    return _Translated(_Members(source, start), errors)


def open_bz2(source: BinaryIO) -> Decompressed:
    """Read bz2 streams, one after the other, with bounded memory."""
    import bz2

    def start() -> _Machine:
        return cast(_Machine, bz2.BZ2Decompressor())

    return _Translated(_Members(source, start), OSError)


def open_deflate(source: BinaryIO) -> Decompressed:
    """Read one raw deflate stream, as zip files hold it; what follows it is a ValueError."""
    from isal import igzip_lib, isal_zlib

    def start() -> _Machine:
        return cast(_Machine, igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE))

    errors: Any = (isal_zlib.error, OSError)
    return _Translated(_Members(source, start, single=True), errors)


class _Translated:
    """A reader whose library's errors become ValueError."""

    def __init__(
        self, reader: Decompressed, errors: type[Exception] | tuple[type[Exception], ...]
    ) -> None:
        self._reader = reader
        self._errors = errors

    def readinto(self, buffer: Any, /) -> int:
        try:
            return self._reader.readinto(buffer)
        except self._errors as error:
            raise ValueError(f"cannot be decompressed: {error}") from error


class _Machine(Protocol):
    """What bz2's and isal's decompressors have in common."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Members:
    """Members one after the other; junk between them or an early end is a ValueError."""

    def __init__(
        self, source: BinaryIO, start: Callable[[], _Machine], *, single: bool = False
    ) -> None:
        self._single = single
        self._source = source
        self._start = start
        self._machine: _Machine | None = None

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        while True:
            machine = self._machine
            if machine is None or machine.eof:
                feed = machine.unused_data if machine is not None else b""
                feed = feed or self._source.read(_READ)
                if not feed:
                    return 0
                if machine is not None and self._single:
                    raise ValueError("cannot be decompressed: data follows its end")
                machine = self._machine = self._start()
            else:
                feed = self._source.read(_READ) if machine.needs_input else b""
                if machine.needs_input and not feed:
                    raise ValueError("cannot be decompressed: it ends early")
            piece = machine.decompress(feed, len(view))
            if piece:
                view[: len(piece)] = piece
                return len(piece)
