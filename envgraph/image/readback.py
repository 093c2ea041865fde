"""A layer of ours, read back: what its record says is computed from its bytes alone.

A layer that comes from a registry is trusted in nothing. While it is copied, its
archive is read as a stream, and every field of its :class:`LayerContent` follows from
what was seen; only the builder's remarks (``notes``) are lost. So a record is never
taken from elsewhere, and an image can be assembled anew and compared.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Any, BinaryIO, Final, cast

from envgraph.errors import IntegrityError
from envgraph.image import tarwrite
from envgraph.image.archive_errors import ArchiveError
from envgraph.image.bases import open_layer
from envgraph.image.compress import Decompressed
from envgraph.image.content import LayerContent
from envgraph.image.layerwriter import (
    ACTIVATE,
    DEACTIVATE,
    ENV_VARS,
    environment_of,
    folded_collisions,
    head_names,
    is_link_script,
    scripts_below,
)
from envgraph.image.options import LayerOptions
from envgraph.image.tarread import TarReader
from envgraph_store.digest import Digest

_CHUNK: Final = 1 << 20
_MOST_RAW: Final = 64 << 30
_FREE_RAW: Final = 1 << 30
_MOST_RATIO: Final = 200
"""A layer may unpack to 1 GiB, or to 200 times its size, but never to more than 64 GiB."""

_MOST_SETTINGS: Final = 1 << 20
_CONDA_META: Final = "conda-meta/"


def copy_layer(
    source: BinaryIO,
    write: Callable[[bytes], object],
    *,
    size: int,
    options: LayerOptions,
    what: str,
    whiteouts: bool = False,
) -> LayerContent:
    """Copy a compressed layer of ``size`` bytes, and say what is in it.

    The bytes' own digest is the caller's to check. ``whiteouts``: the root layer may
    hold its opaque one; in every other layer such a name is refused. IntegrityError
    when it is no layer that an assembler with these options writes.
    """
    tee = _Tee(source, write)
    raw = _Raw(open_layer(cast(BinaryIO, tee), options.compression.media_type))
    limit = min(_MOST_RAW, max(_FREE_RAW, _MOST_RATIO * size))
    found = _Found(options.inner)
    try:
        reader = TarReader(raw, limit=limit)
        for member in reader:
            data = b""
            if member.kind == "file" and found.wants(member.name, member.size):
                data = reader.content()
            found.add(member.name, member.kind, member.target, data)
    except (ArchiveError, ValueError) as error:
        raise _wrong(what, str(error)) from error
    tee.drain()
    if not whiteouts and any("/.wh." in f"/{path}" for path in found.paths):
        raise _wrong(what, "it would hide files of other layers")
    return found.content(raw, tee, options, what)


class _Found:
    """What was seen in a layer, sorted out."""

    def __init__(self, inner: str) -> None:
        self._inner = inner
        self._root = inner + "/"
        self._parents = {name.decode() for name in head_names(inner, ())}
        self._documents: dict[str, bytes] = {}
        self._variables: dict[str, str] = {}
        self.paths: list[str] = []
        self._directories: list[str] = []

    def wants(self, name: str, size: int) -> bool:
        return (
            name.startswith(self._root + ENV_VARS)
            and name.endswith(".json")
            and size <= _MOST_SETTINGS
        )

    def add(self, name: str, kind: str, target: str, data: bytes) -> None:
        if kind == "directory":
            if name in self._parents:
                return
            if not name.startswith(self._root) or self.paths:
                raise ValueError(f"the folder {name[:100]!r} has no place in it")
            self._directories.append(name.removeprefix(self._root))
            return
        if not name.startswith(self._root):
            raise ValueError(f"{name[:100]!r} lies outside {self._inner}")
        path = name.removeprefix(self._root)
        self.paths.append(path)
        if kind == "hardlink" and not target.startswith(self._root):
            raise ValueError(f"{name[:100]!r} is a link out of {self._inner}")
        if self.wants(name, len(data)) and data:
            self._documents[path] = data
        if path.startswith(_CONDA_META) and path.endswith(".json"):
            self._end_member()

    def _end_member(self) -> None:
        """A package's record comes last; of two packages that set a variable the later wins."""
        variables, _ = environment_of(self._documents)
        self._variables.update(variables)
        self._documents = {}

    def content(self, raw: _Raw, tee: _Tee, options: LayerOptions, what: str) -> LayerContent:
        self._end_member()
        paths = tuple(sorted(self.paths))
        directories = tuple(self._directories)
        if len(set(directories)) != len(directories) or list(directories) != sorted(directories):
            raise _wrong(what, "its folders are there twice, or in no order")
        head = b"".join(
            tarwrite.directory_header(name) for name in head_names(options.inner, directories)
        )
        frame = options.compression.frame(head)
        ours = raw.head.startswith(head[: len(raw.head)]) and tee.head.startswith(
            frame[: len(tee.head)]
        )
        return LayerContent(
            diff_id=Digest.from_hex(raw.digest.hexdigest()),
            raw_size=raw.count,
            size=tee.count,
            head_raw=len(head),
            # Another compressor's frame: the layer is never joined into another one.
            head_size=len(frame) if ours else 0,
            media_type=options.compression.media_type,
            files=len(paths),
            directories=directories,
            env_vars=dict(sorted(self._variables.items())),
            activate_scripts=scripts_below(ACTIVATE, paths),
            deactivate_scripts=scripts_below(DEACTIVATE, paths),
            post_link_scripts=tuple(path for path in paths if is_link_script(path)),
            notes=tuple(folded_collisions(paths)),
            paths=paths,
        )


class _Raw:
    """Decompressed bytes, hashed and counted on the way; the first ones are kept."""

    def __init__(self, source: Decompressed) -> None:
        self._source = source
        self.digest = hashlib.sha256()
        self.count = 0
        self.head = bytearray()

    def readinto(self, buffer: Any, /) -> int:
        got = self._source.readinto(buffer)
        with memoryview(buffer) as view:
            self.digest.update(view[:got])
            if (room := _CHUNK - len(self.head)) > 0:
                self.head += view[: min(got, room)]
        self.count += got
        return got


class _Tee(io.RawIOBase):
    """What is read is written, too; the first bytes are kept."""

    def __init__(self, source: BinaryIO, write: Callable[[bytes], object]) -> None:
        self._source, self._write = source, write
        self.count = 0
        self.head = bytearray()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(_CHUNK if size < 0 else size)
        if data:
            self.count += len(data)
            self._write(data)
            if (room := _CHUNK - len(self.head)) > 0:
                self.head += data[:room]
        return data

    def drain(self) -> None:
        """Read on to the end, so that all of it is verified."""
        while self.read(_CHUNK):
            pass


def _wrong(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{what}: {why}",
        code="registry-layer",
        hint="nothing of it was kept; `envgraph apply` without that registry builds it here",
    )
