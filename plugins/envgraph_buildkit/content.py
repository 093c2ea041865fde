"""Blobs over the session, by containerd's content service, both ways.

BuildKit reads bases and caches out of stores of the client's, and writes images and caches into
them. A call names its store in a header. A layer of a base is never sent back: the host has it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from envgraph.api import Base, Digest, DigestError
from envgraph.errors import NotFoundError
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.normal import Hashing
from envgraph_buildkit.opened import Opened, skip
from envgraph_buildkit.quiet import grpc
from envgraph_buildkit.session import Refusal

_SERVICE: Final = "/containerd.services.content.v1.Content/"
_STORE_NAME: Final = "buildkit-attachable-store-id"
_CHUNK: Final = 1 << 20
_DOCUMENT_LIMIT: Final = 4 << 20
_STAT, _WRITE, _COMMIT = range(3)


class Store(Protocol):
    """Blobs by digest."""

    def size(self, digest: Digest) -> int:
        """Of a blob that is here; KeyError else."""
        ...

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """A blob that is here, from its first byte."""
        ...

    def place(self, digest: Digest) -> Path | None:
        """Where a blob goes that is sent; None when it need not be sent."""
        ...


class Bases:
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

    def size(self, digest: Digest) -> int:
        """Of a base's blob."""
        return self._blobs[digest][1]

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """A base's blob."""
        base = self._blobs[digest][0]
        assert base.open_blob is not None
        return base.open_blob(digest)

    def place(self, digest: Digest) -> Path | None:
        """In the folder, unless the host has it."""
        path = place_of(self._folder, digest)
        here = digest in self._known or path.exists() or self._is_known(digest)
        return None if here else path


class Layout:
    """The blobs of an OCI layout on disk."""

    def __init__(self, folder: Path) -> None:
        """``folder`` has ``blobs/sha256/``, or will have it."""
        self.folder = folder

    def size(self, digest: Digest) -> int:
        """Of a file."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            raise KeyError(str(digest)) from None

    def open(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """A file."""
        return self._path(digest).open("rb")

    def place(self, digest: Digest) -> Path | None:
        """Its file, when it is not there."""
        path = self._path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        return None if path.exists() else path

    def _path(self, digest: Digest) -> Path:
        return self.folder / "blobs/sha256" / str(digest).removeprefix("sha256:")


class Content:
    """Stores by name, behind the content service."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        default: Store | None = None,
        opened: Opened | None = None,
    ) -> None:
        """``default`` is for calls that name no store of ``stores``.

        ``opened`` keeps blobs open between calls, until its owner closes it.
        """
        self._stores = stores
        self._default = default
        self._opened = opened

    def _store(self, context: Any) -> Store:
        names = [str(value) for key, value in context.invocation_metadata() if key == _STORE_NAME]
        found = self._stores.get(names[0] if names else "", self._default)
        if found is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "no such store of blobs")
        return found

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

    def _find(self, store: Store, text: str) -> tuple[Digest, int]:
        try:
            digest = Digest(text)
            return digest, store.size(digest)
        except (DigestError, KeyError):
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"content {text[:80]}: not found") from None

    def _info(self, request: Any, context: Any) -> Any:
        digest, size = self._find(self._store(context), request.digest)
        info = message("ContentInfo")(digest=str(digest), size=size)
        return message("InfoResponse")(info=info)

    @contextmanager
    def _at(self, store: Store, digest: Digest, position: int) -> Iterator[BinaryIO]:
        if self._opened is not None:
            with self._opened.at(digest, store.open, position) as stream:
                yield stream
            return
        with store.open(digest) as stream:
            skip(stream, position)
            yield stream

    def _read(self, request: Any, context: Any) -> Iterator[Any]:
        store = self._store(context)
        digest, size = self._find(store, request.digest)
        answer = message("ReadContentResponse")
        position = request.offset
        left = min(request.size or size, size - position)
        try:
            with self._at(store, digest, position) as stream:
                while left > 0 and (part := stream.read(min(_CHUNK, left))):
                    yield answer(offset=position, data=part)
                    position += len(part)
                    left -= len(part)
        except NotFoundError as error:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"content {digest}: not found") from error

    def _write(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        """One blob: STAT, WRITE…, COMMIT; each is answered."""
        answer = message("WriteContentResponse")
        first = next(requests)
        try:
            digest = Digest(first.expected)
        except DigestError:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "a blob without a digest") from None
        path = self._store(context).place(digest)
        if path is None:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"content {digest}: already exists")
        part_path = path.with_name(f"{uuid.uuid4().hex}.part")
        try:
            with part_path.open("wb") as target:
                out = Hashing(target)
                yield answer(action=_STAT, offset=0, total=first.total)
                for request in requests:
                    if request.data:
                        if request.offset != out.size:
                            raise Refusal(
                                grpc.StatusCode.OUT_OF_RANGE, "a blob's bytes in disorder"
                            )
                        out.write(request.data)
                    if request.action == _COMMIT:
                        if out.digest != digest:
                            raise Refusal(
                                grpc.StatusCode.FAILED_PRECONDITION, "a blob's wrong bytes"
                            )
                        target.flush()
                        part_path.rename(path)
                    yield answer(
                        action=request.action, offset=out.size, total=out.size,
                        digest=str(digest) if request.action == _COMMIT else "",
                    )  # fmt: skip
        finally:
            part_path.unlink(missing_ok=True)  # a blob that is whole has its name by now


def place_of(folder: Path, digest: Digest) -> Path:
    """Where a blob that was sent lies."""
    return folder / str(digest).removeprefix("sha256:")
