"""Errors are data: every problem is a :class:`Diagnostic`, and all come at once.

::

    EnvgraphError                exit 1
    ├── InputError               a file that a user wrote is wrong
    ├── UsageError               the command line is wrong
    ├── NotFoundError            a name, version or label that is not there
    ├── ResolveError             solver, base image or pip could not answer
    ├── FetchError               an archive or an index could not be had (retryable?)
    ├── IntegrityError           bytes that are not what their hash says
    ├── OfflineError             --offline, and this would need a connection
    ├── BuildError               a node of the graph failed
    ├── StalePlanError           a saved plan whose inputs changed
    ├── PlatformError            this machine lacks what the verb needs
    └── LockedError              exit 11: somebody else holds the file lock

``envgraph_store`` has a tree of its own (it knows nothing of this package);
:func:`diagnostics_of` turns either into diagnostics.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A place in a file; line and column count from 1, None when unknown."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [self.file]
        if self.line is not None:
            parts.append(str(self.line))
            if self.column is not None:
                parts.append(str(self.column))
        return ":".join(parts)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem: a stable ``code``, what is wrong, why, where, and the fix."""

    code: str
    summary: str
    detail: str = ""
    source: SourceLocation | None = None
    hint: str = ""
    severity: Severity = "error"

    def to_json(self) -> dict[str, object]:
        """The object that programs read: code, severity, summary, detail, source, hint."""
        source = self.source
        return {
            "code": self.code,
            "severity": self.severity,
            "summary": self.summary,
            "detail": self.detail,
            "source": None
            if source is None
            else {"file": source.file, "line": source.line, "column": source.column},
            "hint": self.hint,
        }


class EnvgraphError(Exception):
    """The root: carries one or more diagnostics and the process's exit code."""

    exit_code = 1
    default_code = "error"

    def __init__(
        self,
        summary: str | Diagnostic | Iterable[Diagnostic],
        *,
        code: str | None = None,
        detail: str = "",
        source: SourceLocation | None = None,
        hint: str = "",
    ) -> None:
        """Take ready diagnostics, or make one from a summary and keywords."""
        if isinstance(summary, Diagnostic):
            self.diagnostics: tuple[Diagnostic, ...] = (summary,)
        elif isinstance(summary, str):
            self.diagnostics = (
                Diagnostic(code or self.default_code, summary, detail, source, hint),
            )
        else:
            self.diagnostics = tuple(summary)
        super().__init__("; ".join(d.summary for d in self.diagnostics))


class InputError(EnvgraphError):
    """A file that a user wrote is missing, unreadable or wrong."""

    default_code = "input"


class UsageError(EnvgraphError):
    """The command line asks for something that does not exist."""

    default_code = "usage"


class NotFoundError(EnvgraphError):
    """A name, version, label or digest that nothing here carries."""

    default_code = "not-found"


class ResolveError(EnvgraphError):
    """The solver, the base image's source or pip had no answer."""

    default_code = "unsatisfiable"


class FetchError(EnvgraphError):
    """Bytes could not be had; ``retryable`` says whether trying again may help.

    ``status``: what a server answered over HTTP, else 0.
    """

    default_code = "fetch"
    retryable = False
    status = 0


class IntegrityError(EnvgraphError):
    """Bytes are not what their hash, size or format says; nothing was kept."""

    default_code = "integrity"


class OfflineError(EnvgraphError):
    """``--offline`` is a promise, and this would open a connection."""

    default_code = "offline"


class BuildError(EnvgraphError):
    """A node of the build graph failed; the diagnostic names it."""

    default_code = "build"


class StalePlanError(EnvgraphError):
    """A saved plan no longer fits the files or the store it was made from."""

    default_code = "stale-plan"


class PlatformError(EnvgraphError):
    """The machine lacks what was asked for (another platform, no runtime)."""

    default_code = "platform"


class LockedError(EnvgraphError):
    """Somebody else holds the file lock, and the time to wait is over."""

    exit_code = 11
    default_code = "locked"
