"""A layer's tar, written anew so that equal files give equal bytes.

What differs between two runs of a step, or two kinds of worker, and says nothing about the
files: times later than the epoch, times of access and change, names of owners (their
numbers stay), how a header is encoded. Contents, modes, links, order, extended attributes
stay as they are.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import Any, BinaryIO, Final

from envgraph.api import Digest
from envgraph.errors import IntegrityError

_XATTR: Final = "SCHILY.xattr."
_CHUNK: Final = 1 << 20


def rule(epoch: int) -> str:
    """What :func:`normalise` does to a layer, as :class:`LayerSource` wants it.

    The layer is named by its blob or by its DiffID: either decides the files. The number is
    raised with every change of this module that could give other bytes.
    """
    return f"normal form 1, epoch {epoch}"


class Hashing:
    """Passes bytes on, and knows their digest and count."""

    def __init__(self, target: BinaryIO | None) -> None:
        """``target``: where they go; None drops them."""
        self._target = target
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._hash.update(data)
        self.size += len(data)
        if self._target is not None:
            self._target.write(data)
        return len(data)

    def tell(self) -> int:
        """How many there were."""
        return self.size

    @property
    def digest(self) -> Digest:
        """Of all bytes so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")


class Watched:
    """Reads a stream, and knows the digest of what was read."""

    def __init__(self, source: BinaryIO) -> None:
        """Read from ``source``."""
        self._source = source
        self._seen = Hashing(None)

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        part = self._source.read(size)
        self._seen.write(part)
        return part

    def check(self, digest: Digest, what: str) -> None:
        """Read the rest; IntegrityError when it was not what ``digest`` says."""
        while self.read(_CHUNK):
            pass
        if self._seen.digest != digest:
            raise IntegrityError(f"{what} is {self._seen.digest} and not {digest}")


class Verified(io.RawIOBase):
    """A file that raises IntegrityError at its end when it was not what its digest says."""

    def __init__(self, source: BinaryIO, digest: Digest, what: str) -> None:
        """Read from ``source``, which stays the caller's."""
        self._watched = Watched(source)
        self._digest = digest
        self._what = what

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """The next bytes; the check is at the end."""
        part = self._watched.read(len(buffer))
        if not part and len(buffer):
            self._watched.check(self._digest, self._what)
        buffer[: len(part)] = part
        return len(part)


def normalise(
    source: BinaryIO, diff_id: Digest, target: BinaryIO, epoch: int, *, verified: bool = False
) -> tuple[Digest, int]:
    """Write the layer of ``source`` (plain tar, whose digest is ``diff_id``) to ``target``.

    Gives the new digest and size. IntegrityError for bytes of another digest, or no tar.
    ``verified``: the bytes are known to be those.
    """
    out = Hashing(target)
    watched = None if verified else Watched(source)
    try:
        with (
            tarfile.open(fileobj=watched or source, mode="r|", errorlevel=2) as layer,  # type: ignore[call-overload]
            tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made,  # type: ignore[call-overload]
        ):
            for member in layer:
                member.mtime = min(int(member.mtime), epoch)
                member.uname = member.gname = ""
                member.pax_headers = {
                    key: value
                    for key, value in sorted(member.pax_headers.items())
                    if key.startswith(_XATTR)
                }
                made.addfile(member, layer.extractfile(member) if member.isreg() else None)
    except tarfile.TarError as error:
        raise IntegrityError(f"the layer {diff_id} is no tar: {error}") from None
    if watched is not None:
        watched.check(diff_id, "a layer")
    return out.digest, out.size
