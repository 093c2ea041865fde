"""Digests of files that have not changed since they were read: asked by stat, not by reading.

A file is the one that it was when device, inode, size, time of change and time of its inode's
change are. What changed less than two seconds before it was read may change again within the
clock's tick, and is not remembered; that is git's rule too. A hint: without it files are read.

In this process everything is remembered; between processes what :func:`kept_in` names, a file
for each folder that was read whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Final

from envgraph_store.digest import Digest

RACY_NS: Final = 2_000_000_000
FORMAT: Final = 1
_WORTH: Final = 1 << 22
"""Bytes in a folder from which on reading a memo is quicker than hashing."""
_MOST: Final = 1_000_000

_State = tuple[int, int, int, int, int]

_lock = threading.Lock()
_known: dict[_State, str] = {}
_folder: ContextVar[Path | None] = ContextVar("envgraph-file-memo", default=None)
_fresh: ContextVar[bool] = ContextVar("envgraph-file-memo-fresh", default=False)


def state_of(status: os.stat_result) -> _State:
    """What has to be equal for a file to be the same."""
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def known_digest(status: os.stat_result) -> Digest | None:
    """The digest of an unchanged file."""
    if _fresh.get():
        return None
    found = _known.get(state_of(status))
    return None if found is None else Digest.from_hex(found)


def remember(status: os.stat_result, digest: Digest, read_ns: int) -> None:
    """Keep a digest. ``read_ns``: the time before the first byte was read."""
    if max(status.st_mtime_ns, status.st_ctime_ns) + RACY_NS < read_ns:
        with _lock:
            if len(_known) >= _MOST:
                _known.clear()
            _known[state_of(status)] = digest.hex


@contextlib.contextmanager
def kept_in(folder: Path, *, fresh: bool = False) -> Iterator[None]:
    """Until the end, folders that are read are remembered below ``folder``.

    ``fresh``: every file is read, whatever is remembered.
    """
    before, looked = _folder.set(folder), _fresh.set(fresh)
    try:
        yield
    finally:
        _folder.reset(before)
        _fresh.reset(looked)


class FolderMemo:
    """What is remembered of one folder that is read whole; trouble with it is no error."""

    def __init__(self, root: str) -> None:
        """Read it, where there is a place for it."""
        place = _folder.get()
        self._path: Path | None = None
        self._read: set[_State] = set()
        self._used: dict[_State, str] = {}
        if place is not None:
            name = sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
            self._path = place / f"{name}.json"
            if not _fresh.get():
                self._load(self._path)

    def _load(self, path: Path) -> None:
        try:
            document = json.loads(path.read_bytes())
            if document["format"] != FORMAT:
                return
            found = {
                (int(a), int(b), int(c), int(d), int(e)): Digest.from_hex(text).hex
                for a, b, c, d, e, text in document["files"]
            }
        except (OSError, ValueError, KeyError, TypeError):
            return
        self._read = set(found)
        with _lock:
            _known.update(found)

    def use(self, status: os.stat_result, digest: Digest) -> None:
        """A file of the folder."""
        self._used[state_of(status)] = digest.hex

    def save(self) -> None:
        """Write what was used, if that is worth it and something of it is new."""
        kept = {state: text for state, text in self._used.items() if state in _known}
        new = kept.keys() != self._read
        if self._path is None or not new or sum(state[2] for state in kept) < _WORTH:
            return
        text = json.dumps({"format": FORMAT, "files": [[*s, d] for s, d in kept.items()]})
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".")
            try:
                with os.fdopen(handle, "w") as stream:
                    stream.write(text)
                Path(name).replace(self._path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise


def now_ns() -> int:
    """The clock that files' times are compared with."""
    return time.time_ns()
