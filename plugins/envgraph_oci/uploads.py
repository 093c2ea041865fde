"""Pushing one blob: POST then PUT, one POST, or chunks; and mounting it from next door.

The bytes are hashed on their way. The last of them leave only when the whole is what its
descriptor says, so that no registry ever completes a blob from a wrong source.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Generator
from typing import Final
from urllib.parse import quote

from envgraph.api import BlobSource, Descriptor, Digest, RegistryError
from envgraph.errors import IntegrityError
from envgraph_oci.answers import Answer, Call
from envgraph_oci.auth import Auth, Scopes
from envgraph_oci.options import OciOptions, Place, next_address

_PIECE: Final = 256 << 10
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class _SourceFault(Exception):
    """The source could not be read: no fault of the registry."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def pieces_of(descriptor: Descriptor, source: BlobSource) -> Generator[bytes, None, None]:
    """The source's bytes; IntegrityError before the last piece when they are other ones."""
    found, left = hashlib.sha256(), descriptor.size
    try:
        with source() as body:
            while True:
                data = body.read(min(_PIECE, left) if left else 1)
                if not data and left:
                    raise _other(descriptor, f"it ends {left} bytes early")
                if data and not left:
                    raise _other(descriptor, f"it is longer than {descriptor.size} bytes")
                found.update(data)
                left -= len(data)
                if not left:
                    if body.read(1):
                        raise _other(descriptor, f"it is longer than {descriptor.size} bytes")
                    if found.hexdigest() != descriptor.digest.hex:
                        raise _other(descriptor, f"its bytes are sha256:{found.hexdigest()}")
                    yield data
                    return
                yield data
    except IntegrityError:
        raise
    except Exception as error:  # whatever a source raises comes out as it is, past urllib3
        raise _SourceFault(error) from error


def _other(descriptor: Descriptor, why: str) -> IntegrityError:
    return IntegrityError(
        f"the blob to push is not {descriptor.digest}: {why}", code="registry-digest"
    )


def with_digest(location: str, digest: Digest) -> str:
    """An upload's address with the digest that completes it; its own query stays as it is."""
    return f"{location}{'&' if '?' in location else '?'}digest={quote(str(digest), safe='')}"


class Uploads:
    """The uploads of one repository. ``base`` gives ``https://host/v2/NAME``."""

    def __init__(
        self, auth: Auth, place: Place, options: OciOptions, name: str, base: Callable[[], str]
    ) -> None:
        """Bind."""
        self._auth = auth
        self._place = place
        self._options = options
        self._name = name
        self._base = base
        self._scopes: Scopes = (f"repository:{name}:pull,push",)

    def push(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Upload a blob in the way that the options say."""
        what = f"push {descriptor.digest} to {self._name}"
        try:
            if self._options.upload == "single" and self._single(descriptor, source, what):
                return
            answer = self._begin(what)
            minimum = answer.header("OCI-Chunk-Min-Length")
            self._finish(descriptor, source, what, answer, minimum)
        except _SourceFault as fault:
            raise fault.cause from None

    def _begin(self, what: str) -> Answer:
        url = f"{self._base()}/blobs/uploads/"
        answer = self._auth.send(Call("POST", url, what, {"Content-Length": "0"}), self._scopes)
        if answer.status != 202:
            raise answer.error()
        answer.discard()
        return answer

    def _single(self, descriptor: Descriptor, source: BlobSource, what: str) -> bool:
        """One POST with the bytes. A registry that only begins an upload gets it whole."""
        url = with_digest(f"{self._base()}/blobs/uploads/", descriptor.digest)
        answer = self._send("POST", url, descriptor, source, what)
        if answer.status == 201:
            self._completed(answer, descriptor)
            return True
        if answer.status != 202:
            raise answer.error()
        answer.discard()
        self._finish(descriptor, source, what, answer, "")
        return True

    def _finish(
        self, descriptor: Descriptor, source: BlobSource, what: str, begun: Answer, minimum: str
    ) -> None:
        location = self._location(begun, what)
        chunked = self._options.upload == "chunked" or (
            self._options.upload == "auto" and minimum.isdecimal()
        )
        try:
            if chunked:
                self._chunks(descriptor, source, what, location, minimum)
                return
            url = with_digest(location, descriptor.digest)
            answer = self._send("PUT", url, descriptor, source, what)
        except (IntegrityError, _SourceFault):
            self._cancel(location)
            raise
        self._check_completed(answer, descriptor, what)

    def _send(
        self, method: str, url: str, descriptor: Descriptor, source: BlobSource, what: str
    ) -> Answer:
        call = Call(
            method, url, what, _OCTETS, lambda: pieces_of(descriptor, source), descriptor.size
        )
        return self._auth.send(call, self._scopes)

    def _check_completed(self, answer: Answer, descriptor: Descriptor, what: str) -> None:
        if answer.status == 404:
            answer.discard()
            raise RegistryError(
                f"{self._place.title}: {what}: it lost the upload",
                code="registry-down",
                retryable=True,
            )
        if answer.status != 201:
            raise answer.error()
        self._completed(answer, descriptor)

    def _completed(self, answer: Answer, descriptor: Descriptor) -> None:
        """A digest in the answer must be ours; one by another algorithm says nothing."""
        answer.discard()
        said = answer.header("Docker-Content-Digest")
        if said.startswith("sha256:") and said != str(descriptor.digest):
            raise IntegrityError(
                f"{self._place.title} keeps {descriptor.digest} as {said[:80]!r}",
                code="registry-digest",
            )

    def _location(self, answer: Answer, what: str) -> str:
        location = answer.header("Location")
        if not location:
            raise answer.answer_error("it named no place to upload to")
        return next_address(answer.url, location, self._place)

    def _chunks(
        self, descriptor: Descriptor, source: BlobSource, what: str, location: str, minimum: str
    ) -> None:
        """PATCH after PATCH, one chunk in memory, each to the newest address; then PUT."""
        least = int(minimum) if minimum.isdecimal() and len(minimum) < 12 else 0
        length = max(self._options.chunk_size, least)
        pieces, chunk, sent = pieces_of(descriptor, source), bytearray(), 0
        try:
            for piece in pieces:
                chunk += piece
                while len(chunk) >= length:
                    location = self._patch(location, bytes(chunk[:length]), sent, what)
                    sent += length
                    del chunk[:length]
        finally:
            pieces.close()
        if chunk:
            location = self._patch(location, bytes(chunk), sent, what)
        call = Call("PUT", with_digest(location, descriptor.digest), what, _OCTETS, b"")
        self._check_completed(self._auth.send(call, self._scopes), descriptor, what)

    def _patch(self, location: str, chunk: bytes, start: int, what: str) -> str:
        """Send a chunk; the address for what follows. A 416 is asked how far it came."""
        done = 0
        for _ in range(2):
            span = f"{start + done}-{start + len(chunk) - 1}"
            headers = {**_OCTETS, "Content-Range": span}
            answer = self._auth.send(
                Call("PATCH", location, what, headers, chunk[done:]), self._scopes
            )
            if answer.status == 202:
                answer.discard()
                end = _range_end(answer)
                location = self._location(answer, what)
                if end in (None, start + len(chunk)):
                    return location
                done = self._resumed(end or 0, start, len(chunk), what)
                continue
            if answer.status not in (404, 416):
                raise answer.error()
            answer.discard()
            status = self._auth.send(Call("GET", location, what), self._scopes)
            status.discard()
            if status.status not in (202, 204):
                raise self._lost(what)
            done = self._resumed(_range_end(status) or 0, start, len(chunk), what)
            location = self._location(status, what) if status.header("Location") else location
            if done == len(chunk):
                return location
        raise self._lost(what)

    def _resumed(self, end: int, start: int, length: int, what: str) -> int:
        if not start <= end <= start + length:
            raise self._lost(what)
        return end - start

    def _lost(self, what: str) -> RegistryError:
        return RegistryError(
            f"{self._place.title}: {what}: it lost the chunks", code="registry-down", retryable=True
        )

    def _cancel(self, location: str) -> None:
        """Tell that nothing more comes; whether it listens does not matter."""
        with contextlib.suppress(RegistryError):
            self._auth.send(Call("DELETE", location, "cancel an upload"), self._scopes).discard()

    def mount(self, digest: Digest, other: str) -> bool:
        """Take a blob from the repository ``other``; False when it has to be pushed."""
        what = f"mount {digest} from {other}"
        query = f"mount={quote(str(digest), safe='')}&from={quote(other, safe='/')}"
        call = Call("POST", f"{self._base()}/blobs/uploads/?{query}", what, {"Content-Length": "0"})
        try:
            answer = self._auth.send(call, (*self._scopes, f"repository:{other}:pull"))
        except RegistryError as error:
            if error.diagnostics[0].code == "registry-denied":
                return False
            raise
        if answer.status == 201:
            answer.discard()
            said = answer.header("Docker-Content-Digest")
            return said == str(digest) if said else self._is_there(digest)
        if answer.status == 202:
            answer.discard()
            self._cancel(self._location(answer, what))
            return False
        if answer.status in (400, 401, 403, 404, 405):
            answer.discard()
            return False
        raise answer.error()

    def _is_there(self, digest: Digest) -> bool:
        call = Call("HEAD", f"{self._base()}/blobs/{digest}", f"look for {digest}")
        answer = self._auth.send(call, self._scopes)
        answer.discard()
        return answer.status == 200


def _range_end(answer: Answer) -> int | None:
    """The number of bytes that ``Range: 0-N`` says are there; None when it says nothing."""
    found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.header("Range"), re.ASCII)
    return int(found[1]) + 1 if found else None
