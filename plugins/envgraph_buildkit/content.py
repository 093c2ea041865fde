"""Bases out of the host's store: containerd's content service, reading only."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final

import grpc

from envgraph.api import Base, Digest, DigestError
from envgraph.errors import NotFoundError
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.session import Refusal

_SERVICE: Final = "/containerd.services.content.v1.Content/"
_CHUNK: Final = 1 << 20
_DOCUMENT_LIMIT: Final = 4 << 20


class Content:
    """The blobs of some bases."""

    def __init__(self, bases: Iterable[Base]) -> None:
        """Read each base's manifest, for the sizes of what it names."""
        self._blobs: dict[Digest, tuple[Base, int]] = {}
        for base in bases:
            assert base.open_blob is not None
            with base.open_blob(base.manifest.digest) as stream:
                manifest = json.loads(stream.read(_DOCUMENT_LIMIT))
            self._blobs[base.manifest.digest] = (base, base.manifest.size)
            for part in (manifest["config"], *manifest["layers"]):
                self._blobs[Digest(part["digest"])] = (base, int(part["size"]))

    def handlers(self) -> dict[str, Any]:
        """For the session; none when there are no bases."""
        if not self._blobs:
            return {}
        return {
            _SERVICE + "Info": grpc.unary_unary_rpc_method_handler(
                self._info, message("InfoRequest").FromString, encode
            ),
            _SERVICE + "Read": grpc.unary_stream_rpc_method_handler(
                self._read, message("ReadContentRequest").FromString, encode
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
            with base.open_blob(digest) as stream:
                _skip(stream, position)
                while left > 0 and (part := stream.read(min(_CHUNK, left))):
                    yield answer(offset=position, data=part)
                    position += len(part)
                    left -= len(part)
        except NotFoundError as error:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"content {digest}: not found") from error


def _skip(stream: BinaryIO, count: int) -> None:
    try:
        stream.seek(count)
    except (OSError, io.UnsupportedOperation, AttributeError):
        while count > 0 and (part := stream.read(min(_CHUNK, count))):
            count -= len(part)
