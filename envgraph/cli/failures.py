"""What was raised, as diagnostics: errors that happen, and bugs with their log file."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from envgraph.cli.views.diagnostics import redact
from envgraph.errors import Diagnostic, EnvgraphError, LockedError, SourceLocation
from envgraph.folders import state_folder

_SYSTEM: Final[dict[int, tuple[str, str, str]]] = {
    errno.ENOSPC: ("no-space", "no space left", "free some space; the next run continues"),
    errno.EDQUOT: ("no-space", "the disk quota is used up", "free some space; then run it again"),
    errno.EACCES: ("no-permission", "no permission", ""),
    errno.EPERM: ("no-permission", "not permitted", ""),
    errno.EROFS: ("read-only", "the file system is read-only", ""),
    errno.ENOENT: ("no-file", "no such file or folder", ""),
    errno.ENOTDIR: ("no-file", "not a folder", ""),
    errno.EISDIR: ("is-folder", "it is a folder", ""),
    errno.EMFILE: ("too-many-files", "too many open files", "raise the limit: ulimit -n 4096"),
    errno.ENFILE: ("too-many-files", "the system has too many open files", ""),
    errno.ENAMETOOLONG: ("name-too-long", "the name is too long", ""),
    errno.EIO: ("input-output", "the device reports an error", "check the disk"),
}


def expected_failure(error: BaseException) -> tuple[int, tuple[Diagnostic, ...]] | None:
    """Exit code and diagnostics of an error that happens; None for a bug."""
    if isinstance(error, EnvgraphError):
        return error.exit_code, error.diagnostics
    if (store := store_failure(error)) is not None:
        return store
    if isinstance(error, MemoryError):
        return 1, (Diagnostic("no-memory", "not enough memory", hint="try --parallelism 1"),)
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        return 1, (_system_failure(error),)
    return None


def store_failure(error: BaseException) -> tuple[int, tuple[Diagnostic, ...]] | None:
    """Errors of ``envgraph_store``; not imported here, since most answers do without it."""
    errors: Any = sys.modules.get("envgraph_store.errors")
    if errors is None or not isinstance(error, errors.StoreError):
        return None
    locked = isinstance(error, getattr(errors, "StoreLocked", ()))
    diagnostic = Diagnostic(
        str(getattr(error, "code", "store")),
        str(getattr(error, "summary", "") or error),
        hint=str(getattr(error, "hint", "")),
    )
    return (LockedError.exit_code if locked else 1), (diagnostic,)


def _system_failure(error: OSError) -> Diagnostic:
    code, text, hint = _SYSTEM[error.errno or 0]
    name = error.filename
    place = SourceLocation(os.fsdecode(name)) if isinstance(name, (str, bytes)) else None
    said = error.strerror or ""
    return Diagnostic(code, text, "" if said.lower() in text else said, place, hint)


def bug_report(error: BaseException, argv: Sequence[str], *, verbose: bool) -> Diagnostic:
    """Write the traceback to a log file of the user's own, and name it."""
    text = redact("".join(traceback.format_exception(error)))
    now = datetime.now(UTC)
    header = (
        f"time: {now.isoformat(timespec='seconds')}\n"
        f"command: envgraph {redact(' '.join(argv))}\n"
        f"python: {sys.version.split()[0]} on {sys.platform}\n\n"
    )
    log = _write_log(f"crash-{now:%Y%m%dT%H%M%S}", header + text)
    if (verbose or log is None) and sys.stderr is not None:
        sys.stderr.write(text.encode("ascii", "backslashreplace").decode())
    what = redact(f"{type(error).__name__}: {error}".splitlines()[0])
    return Diagnostic(
        "bug",
        "this is a bug in envgraph",
        what,
        None,
        f"please report it with {log}" if log is not None else "please report it",
    )


def _write_log(name: str, text: str) -> Path | None:
    import tempfile

    try:
        folder = Path(state_folder(os.environ))
        folder.mkdir(parents=True, exist_ok=True)
        candidates = [folder, Path(tempfile.gettempdir())]
    except OSError:
        candidates = [Path(tempfile.gettempdir())]
    for candidate in candidates:
        try:
            handle, path = tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=candidate)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
        except OSError:
            continue
        return Path(path)
    return None
