"""Why an archive was refused: one type, a reason that tests and programs can match."""

from __future__ import annotations

from enum import Enum

from envgraph.errors import IntegrityError


class Reason(Enum):
    """The stable part of a refusal; its value is the diagnostic's code."""

    MALFORMED = "archive-malformed"
    TRUNCATED = "archive-truncated"
    TRAILING = "archive-trailing-data"
    UNSAFE_NAME = "archive-unsafe-name"
    UNSAFE_LINK = "archive-unsafe-link"
    SPECIAL_FILE = "archive-special-file"
    SPARSE = "archive-sparse"
    DUPLICATE = "archive-duplicate"
    LIMIT = "archive-limit"
    MISMATCH = "archive-content-mismatch"
    MISSING = "archive-missing-file"
    METADATA = "archive-metadata"
    ENTRY_POINT = "archive-entry-point"
    PREFIX_TOO_LONG = "prefix-too-long"
    UNSUPPORTED = "archive-unsupported"


class ArchiveError(IntegrityError):
    """The archive cannot become a layer; ``entry`` names the member at fault, if one is.

    Nothing that was written so far may be kept.
    """

    def __init__(
        self, reason: Reason, problem: str, *, entry: str | bytes | None = None, hint: str = ""
    ) -> None:
        """Say what is wrong; the entry's name is escaped so a terminal is safe."""
        self.reason = reason
        self.entry = shown(entry) if entry is not None else None
        summary = problem if self.entry is None else f"{self.entry}: {problem}"
        super().__init__(summary, code=reason.value, hint=hint)


def shown(name: str | bytes) -> str:
    """``name`` for people: control, format and undecodable characters escaped, 200 at most."""
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text[:200]
    )
    return f"“{escaped}{'…' if len(text) > 200 else ''}”"
