"""Blobs over the session, by containerd's content service, both ways.

BuildKit reads bases out of the host's store, and writes the image that it built. A layer of a
base is never sent back: the host has it.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from envgraph.api import Base, BlobOpener, Digest, DigestError
from envgraph.errors import NotFoundError
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.normal import Hashing
from envgraph_buildkit.quiet import grpc
from envgraph_buildkit.session import Refusal

_SERVICE: Final = "/containerd.services.content.v1.Content/"
_CHUNK: Final = 1 << 20
_DOCUMENT_LIMIT: Final = 4 << 20
_STAT, _WRITE, _COMMIT = range(3)


class Content:
    """The blobs of some bases, and a folder for those of the image."""

    def __init__(
        self,
        by_blobs: Iterable[Base],
        known: Iterable[Base],
        folder: Path,
        is_known: Callable[[Digest], bool] = lambda digest: False,
    ) -> None:
        """Read each base's manifest, for the sizes of what it names.

        ``by_blobs``: bases that BuildKit reads here. ``known``: bases whose layers need not
        be sent; ``is_known``: whether another blob need not. ``folder``: for what is sent.
        """
        self._blobs: dict[Digest, tuple[Base, int]] = {}
        for base in by_blobs:
            assert base.open_blob is not None
            with base.open_blob(base.manifest.digest) as stream:
                manifest = json.loads(stream.read(_DOCUMENT_LIMIT))
            self._blobs[base.manifest.digest] = (base, base.manifest.size)
            for part in (manifest["config"], *manifest["layers"]):
                self._blobs[Digest(part["digest"])] = (base, int(part["size"]))
        self._known = {layer.descriptor.digest for base in known for layer in base.layers}
        self._folder = folder
        self._is_known = is_known
        self._opened = _Opened()

    def handlers(self) -> dict[str, Any]:
        """For the session."""
        return {
            _SERVICE + "Info": grpc.unary_unary_rpc_method_handler(
                self._info, message("InfoRequest").FromString, encode
            ),
            _SERVICE + "Read": grpc.unary_stream_rpc_method_handler(
                self._read, message("ReadContentRequest").FromString, encode
            ),
            _SERVICE + "Write": grpc.stream_stream_rpc_method_handler(
                self._write, message("WriteContentRequest").FromString, encode
            ),
        }

    def _find(self, text: str) -> tuple[Digest, Base, int]:
        try:
            digest = Digest(text)
            base, size = self._blobs[digest]
        except (DigestError, KeyError):
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"content {text[:80]}: not found") from None
        return digest, base, size

    def _info(self, request: Any, context: Any) -> Any:
        digest, _, size = self._find(request.digest)
        info = message("ContentInfo")(digest=str(digest), size=size)
        return message("InfoResponse")(info=info)

    def _read(self, request: Any, context: Any) -> Iterator[Any]:
        digest, base, size = self._find(request.digest)
        answer = message("ReadContentResponse")
        position = request.offset
        left = min(request.size or size, size - position)
        assert base.open_blob is not None
        try:
            with self._opened.at(digest, base.open_blob, position) as stream:
                while left > 0 and (part := stream.read(min(_CHUNK, left))):
                    yield answer(offset=position, data=part)
                    position += len(part)
                    left -= len(part)
        except NotFoundError as error:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"content {digest}: not found") from error

    def close(self) -> None:
        """Close what is still open for BuildKit's next call."""
        self._opened.close()

    def _write(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        """One blob: STAT, WRITE…, COMMIT; each is answered."""
        answer = message("WriteContentResponse")
        first = next(requests)
        try:
            digest = Digest(first.expected)
        except DigestError:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "a blob without a digest") from None
        path = place_of(self._folder, digest)
        if digest in self._known or path.exists() or self._is_known(digest):
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"content {digest}: already exists")
        part_path = self._folder / f"{uuid.uuid4().hex}.part"
        with part_path.open("wb") as target:
            out = Hashing(target)
            yield answer(action=_STAT, offset=0, total=first.total)
            for request in requests:
                if request.data:
                    if request.offset != out.size:
                        raise Refusal(grpc.StatusCode.OUT_OF_RANGE, "a blob's bytes in disorder")
                    out.write(request.data)
                if request.action == _COMMIT:
                    if out.digest != digest:
                        raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "a blob's wrong bytes")
                    target.flush()
                    part_path.rename(path)
                yield answer(
                    action=request.action, offset=out.size, total=out.size,
                    digest=str(digest) if request.action == _COMMIT else "",
                )  # fmt: skip


def place_of(folder: Path, digest: Digest) -> Path:
    """Where a blob that was sent lies."""
    return folder / str(digest).removeprefix("sha256:")


class _Opened:
    """Blobs that stay open between calls: BuildKit reads a megabyte with each.

    To open a blob may mean to hash or to download it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[tuple[Digest, int], tuple[BinaryIO, ExitStack]] = {}
        self._closed = False

    @contextmanager
    def at(self, digest: Digest, open_blob: BlobOpener, position: int) -> Iterator[BinaryIO]:
        """A blob from a position on; it waits for whoever goes on where this one ended."""
        with self._lock:
            found = self._waiting.pop((digest, position), None)
        if found is None:
            stack = ExitStack()
            stream = stack.enter_context(open_blob(digest))
        else:
            stream, stack = found
        counted = _Counted(stream, position)
        with stack:
            if found is None:
                _skip(stream, position)
            yield cast("BinaryIO", counted)
            with self._lock:
                place = (digest, counted.position)
                if not self._closed and place not in self._waiting:
                    self._waiting[place] = (stream, stack.pop_all())

    def close(self) -> None:
        """Close all that waits; what is read now is closed when that ends."""
        with self._lock:
            self._closed = True
            left, self._waiting = list(self._waiting.values()), {}
        for _, stack in left:
            stack.close()


class _Counted:
    """A stream that knows where it is."""

    def __init__(self, stream: BinaryIO, position: int) -> None:
        self._stream = stream
        self.position = position

    def read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self.position += len(part)
        return part


def _skip(stream: BinaryIO, count: int) -> None:
    with contextlib.suppress(OSError, io.UnsupportedOperation, AttributeError):
        stream.seek(count)
        return
    while count > 0 and (part := stream.read(min(_CHUNK, count))):
        count -= len(part)
