"""What the store refuses, as one tree.

::

    StoreError
    ├── StoreMissing        no store at that path
    ├── StoreFormatError    not a store, or one of a newer envgraph
    ├── StoreUnsafe         owned by somebody else, or writable by others
    ├── StoreIOError        the operating system said no
    │   └── StoreFull       no space, no inodes, or over quota
    ├── ObjectMissing       no such blob or package
    ├── ObjectCorrupt       the bytes are not what their name says
    ├── ObjectTooBig        larger than the caller is ready to hold
    ├── ObjectCollision     other bytes with the same digest are already kept
    ├── DigestMismatch      what was written is not what was announced
    ├── RecordCorrupt       a ref or action whose checksum is wrong
    ├── RefConflict         somebody else moved the ref first
    ├── LockUnsupported     a file system without kernel locks
    ├── LockUnsafe          a lock file that is a link, or not ours
    └── StoreLocked         somebody else holds the lock, and the wait is over

Every error has a stable ``code``, a one-line ``summary`` and a ``hint`` (which
may be empty). The store knows nothing of diagnostics; its users turn these
three into theirs.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar, NamedTuple


class StoreError(Exception):
    """The root of the tree: ``code``, ``summary``, ``hint``."""

    code: ClassVar[str] = "store"

    def __init__(self, summary: str, *, hint: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.hint = hint


class StoreMissing(StoreError):
    """There is no store at that path."""

    code = "store-missing"


class StoreFormatError(StoreError):
    """The folder is not a store, or a newer envgraph wrote it."""

    code = "store-format"


class StoreUnsafe(StoreError):
    """Somebody else owns the store or may write to it."""

    code = "store-unsafe"


class StoreIOError(StoreError):
    """The operating system refused; ``errno`` says why."""

    code = "store-io"

    def __init__(self, summary: str, *, hint: str = "", number: int = 0) -> None:
        super().__init__(summary, hint=hint)
        self.errno = number


class StoreFull(StoreIOError):
    """No space, no inodes, or over quota; nothing was kept."""

    code = "no-space"


class ObjectMissing(StoreError):
    """No blob or package has that digest."""

    code = "object-missing"


class ObjectCorrupt(StoreError):
    """The kept bytes are not what their name says; none were handed out."""

    code = "object-corrupt"


class ObjectTooBig(StoreError):
    """The object is larger than the limit that the caller gave."""

    code = "object-too-big"


class ObjectCollision(StoreError):
    """Other bytes with the same digest are kept already; those stay."""

    code = "object-collision"


class DigestMismatch(StoreError):
    """What was written has another digest or size than was announced."""

    code = "digest-mismatch"


class RecordCorrupt(StoreError):
    """A ref or an action whose checksum or form is wrong."""

    code = "record-corrupt"


class RefConflict(StoreError):
    """The ref is not at the expected generation; ``current`` is where it is."""

    code = "ref-conflict"

    def __init__(self, summary: str, *, current: int | None = None) -> None:
        super().__init__(summary, hint="read the ref again, and decide anew")
        self.current = current


class LockUnsupported(StoreError):
    """The file system has no kernel locks, so the store cannot be shared safely."""

    code = "no-file-locks"


class LockUnsafe(StoreError):
    """The lock file is a link, not a regular file, or not ours; it was not touched."""

    code = "lock-unsafe"


class Holder(NamedTuple):
    """Who holds a lock, as the holder wrote it down; unknown parts are 0 or empty."""

    pid: int
    host: str
    command: str
    purpose: str

    def __str__(self) -> str:
        if not self.pid:
            return "another process"
        text = f"process {self.pid} on {self.host or 'this host'}"
        if self.command:
            text += f" ({self.command})"
        return text + (f", for: {self.purpose}" if self.purpose else "")


class StoreLocked(StoreError):
    """Somebody else holds the lock; ``holder`` says who."""

    code = "locked"

    def __init__(self, what: str, holder: Holder, waited: float) -> None:
        super().__init__(
            f"{what} is locked by {holder}; waited {waited:g} s",
            hint="wait for it or end that process; a killed holder leaves nothing to unlock",
        )
        self.what = what
        self.holder = holder

    @property
    def pid(self) -> int:
        """The holder's process id, 0 if unknown."""
        return self.holder.pid

    @property
    def host(self) -> str:
        """The holder's host name."""
        return self.holder.host

    @property
    def command(self) -> str:
        """The holder's command line, shortened."""
        return self.holder.command

    @property
    def purpose(self) -> str:
        """What the holder said it wanted the lock for."""
        return self.holder.purpose


_HINTS = {
    errno.EROFS: "the file system is mounted read-only",
    errno.EACCES: "check the owner and mode of the store's folder",
    errno.EPERM: "check the owner, mode and attributes of the store's folder",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the system has too many open files",
    errno.EIO: "the disk reports errors; what it acknowledged earlier may be damaged too: "
    "run 'envgraph store verify'",
}
_FULL = {errno.ENOSPC, errno.EDQUOT}


def io_error(error: OSError, what: str, path: Path | str) -> StoreIOError:
    """The store's error for ``error``, met while doing ``what`` at ``path``."""
    number = error.errno or 0
    summary = f"cannot {what} {path}: {error.strerror or error}"
    if number in _FULL:
        return StoreFull(summary, hint="free some space, then run it again", number=number)
    return StoreIOError(summary, hint=_HINTS.get(number, ""), number=number)
