"""Collect everything that is wrong with a file, each with its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from envgraph.errors import Diagnostic, EnvgraphError, Severity, SourceLocation
from envgraph.model.addresses import masked
from envgraph.spec.nodes import Node

MOST: Final = 500
"""Problems of one load that are kept."""


@dataclass(slots=True)
class Problems:
    """Diagnostics of one load, over all files that it read, in the order found.

    Whatever comes in, credentials of addresses go out masked.
    """

    found: list[Diagnostic] = field(default_factory=list)
    _seen: set[Diagnostic] = field(default_factory=set)

    def add(
        self,
        code: str,
        summary: str,
        source: SourceLocation | None,
        *,
        hint: str = "",
        detail: str = "",
        severity: Severity = "error",
    ) -> None:
        """Note one problem; the same one twice counts once, and those past the limit not."""
        if len(self.found) >= MOST:
            if severity == "error" and len(self.found) == MOST:
                self.found.append(
                    Diagnostic(
                        "too-many", f"more than {MOST} problems: the rest is not shown", "", source
                    )
                )
            return
        problem = Diagnostic(
            code,
            printable(masked(summary)),
            printable(masked(detail)),
            source,
            masked(hint),
            severity,
        )
        if problem not in self.found:
            self.found.append(problem)

    def warn(
        self, code: str, summary: str, source: SourceLocation | None, *, hint: str = ""
    ) -> None:
        """Note something that does not stop anybody."""
        self.add(code, summary, source, hint=hint, severity="warning")

    def take(self, error: EnvgraphError, source: SourceLocation | None) -> None:
        """Note what an exception carries, at ``source`` where it has no place itself."""
        for d in error.diagnostics:
            self.add(
                d.code, d.summary, d.source or source, hint=d.hint, detail=d.detail,
                severity=d.severity,
            )  # fmt: skip

    @property
    def failed(self) -> bool:
        """Whether there is an error among them."""
        return any(d.severity == "error" for d in self.found)

    def result(self) -> tuple[Diagnostic, ...]:
        """All of them: by file in reading order, then by line."""
        order: dict[str, int] = {}
        for d in self.found:
            order.setdefault(d.source.file if d.source else "", len(order))
        return tuple(
            sorted(
                self.found,
                key=lambda d: (
                    order[d.source.file if d.source else ""],
                    (d.source.line or 0, d.source.column or 0) if d.source else (0, 0),
                ),
            )
        )


def printable(text: str) -> str:
    """``text`` safe for a terminal: control and direction characters escaped, not too long."""
    if len(text) > 2000:
        text = text[:2000] + "…"
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def quoted(text: str, limit: int = 80) -> str:
    """``text`` in quotes, shortened, for a message."""
    text = masked(text)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def place(file: str, node: Node | None) -> SourceLocation:
    """Where ``node`` begins in ``file``; its field, where it comes from no file."""
    if node is None:
        return SourceLocation(file)
    if node.where:
        return SourceLocation(node.where)
    return SourceLocation(file, node.line, node.column)


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'image'?`` when a known word is near, else the known words."""
    import difflib

    words = sorted(known)
    word = word[:100]
    folded = {w.lower(): w for w in words}
    match = difflib.get_close_matches(word.lower(), folded, 1, 0.6)
    if match:
        return f"did you mean {folded[match[0]]!r}?"
    return "known here: " + ", ".join(words)
