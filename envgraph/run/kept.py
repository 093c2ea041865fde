"""Folders that are made once per machine and user, whole or not at all.

They lie in ``$XDG_CACHE_HOME/envgraph`` (``~/.cache`` where that is not set), apart from
the store: nothing refers to them, and removing them costs only time::

    <kind>/<name>/                 whole; a rename put it there
    <kind>/<name>/.envgraph.json   what it is
    <kind>/<name>.lock             kernel lock: one maker at a time
    <kind>/.<name>.<random>/       being made; the next maker of <name> sweeps it
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envgraph import folders
from envgraph.errors import EnvgraphError, PlatformError
from envgraph_store import locks
from envgraph_store.digest import Digest
from envgraph_store.errors import StoreLocked
from envgraph_store.files import Disk

MARKER: Final = ".envgraph.json"
LOCK_TIMEOUT: Final = 1800.0
"""Seconds to wait for another process that makes the same folder."""

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Kept:
    """A whole folder. ``created`` says whether this call made it."""

    path: Path
    key: Digest
    created: bool


def cache_folder(kind: str, environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_CACHE_HOME/envgraph/<kind>``; PlatformError where there is no home."""
    try:
        return Path(folders.cache_folder(os.environ if environ is None else environ), kind)
    except FileNotFoundError as error:
        raise PlatformError(str(error.strerror), code="no-home") from None


def keep(
    root: Path,
    key: Digest,
    make: Callable[[Path, Path], object],
    *,
    purpose: str,
    waiting: Say | None = None,
    renew: bool = False,
) -> Kept:
    """Give the folder for ``key``, made by ``make(empty folder, final path)`` if need be.

    The folder's name is the first 32 hexadecimal digits of ``key``. ``waiting`` is told
    whom this call waits for. Raises EnvgraphError for what the file system refuses,
    PlatformError for a root that others may write to, StoreLocked after half an hour.
    """
    target = root / key.hex[:32]
    if not renew and _is_whole(target, key):
        return Kept(target, key, created=False)
    with _plain_errors(root):
        _make_private_folder(root)
        with _one_maker(root, f"{target.name}.lock", purpose, waiting):
            if not renew and _is_whole(target, key):
                return Kept(target, key, created=False)
            _make(make, target, key)
    return Kept(target, key, created=True)


def _is_whole(target: Path, key: Digest) -> bool:
    """The marker names this key. A rename put it there, so the rest is there too."""
    try:
        marker = json.loads((target / MARKER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(marker, dict) and marker.get("key") == str(key)


def _make_private_folder(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PlatformError(
            f"{root} belongs to somebody else, or others may write to it",
            code="untrusted-folder",
            detail="A command run from there could be one that somebody else put there.",
            hint="set XDG_CACHE_HOME to a folder of your own",
        )


@contextlib.contextmanager
def _one_maker(root: Path, name: str, purpose: str, waiting: Say | None) -> Iterator[None]:
    """Hold the kernel lock; say once for whom this waits, then wait."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def acquire(timeout: float) -> locks.HeldLock:
        what = f"{purpose} lock"
        return locks.acquire(
            folder, name, where=root / name, what=what, purpose=purpose, timeout=timeout
        )

    try:
        try:
            held = acquire(0)
        except StoreLocked as busy:
            if waiting is not None:
                waiting(f"waiting: {busy.summary}")
            held = acquire(LOCK_TIMEOUT)
        try:
            yield
        finally:
            held.release()
    finally:
        os.close(folder)


def _make(make: Callable[[Path, Path], object], target: Path, key: Digest) -> None:
    for leftover in target.parent.glob(f".{target.name}.*"):
        _remove(leftover)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        made = work / "made"
        made.mkdir(mode=0o755)
        make(made, target)
        (made / MARKER).write_text(json.dumps({"key": str(key)}) + "\n")
        _make_durable(made)
        if target.is_symlink() or target.exists():
            target.rename(work / "old")
        made.rename(target)
    finally:
        _remove(work)


def _make_durable(folder: Path) -> None:
    """A power cut must not leave a folder that is there and whose files are empty."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not Disk().sync_everything(descriptor):
            os.sync()
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a tree that is ours, read-only folders included."""

    def writable(function: Callable[[str], object], name: str, _error: object) -> None:
        Path(name).parent.chmod(0o700)
        if not Path(name).is_symlink():
            Path(name).chmod(0o700)
        function(name)

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=writable)
    else:
        shutil.rmtree(path, onerror=writable)


@contextlib.contextmanager
def _plain_errors(root: Path) -> Iterator[None]:
    """What the file system refuses is one clear error, not a traceback."""
    try:
        yield
    except OSError as error:
        raise EnvgraphError(
            f"could not write below {root}: {error.strerror or error}",
            code="no-space" if error.errno in (28, 122) else "cache-folder",
            detail=str(error.filename or ""),
            hint="set XDG_CACHE_HOME to a folder with space that you may write to",
        ) from error
