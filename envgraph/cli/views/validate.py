"""What ``validate`` found: problems under their file, then a sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envgraph.cli.views.console import Styled
from envgraph.cli.views.diagnostics import lines_of, place, redacted
from envgraph.cli.views.text import many
from envgraph.errors import Diagnostic, SourceLocation

if TYPE_CHECKING:
    from envgraph.cli.session import Session


@dataclass(frozen=True, slots=True)
class Judged:
    """One file, the kind of file that it is (``title`` in words), and what is wrong with it."""

    file: str
    kind: str
    title: str
    diagnostics: tuple[Diagnostic, ...]

    @property
    def valid(self) -> bool:
        """It has no error; warnings do not count."""
        return not any(d.severity == "error" for d in self.diagnostics)

    def to_json(self) -> dict[str, object]:
        """``file, kind, valid, diagnostics``."""
        return {
            "file": self.file,
            "kind": self.kind,
            "valid": self.valid,
            "diagnostics": [redacted(d) for d in self.diagnostics],
        }


def summary_of(judged: Sequence[Judged]) -> dict[str, int]:
    """Counts of files, of files with errors, and of problems by severity."""
    problems = [d.severity for item in judged for d in item.diagnostics]
    return {
        "files": len(judged),
        "invalid": sum(1 for item in judged if not item.valid),
        "errors": problems.count("error"),
        "warnings": problems.count("warning"),
    }


def show_judged(judged: Sequence[Judged], session: Session) -> None:
    """Files with problems (all files with ``-v``), each with its lines; then the sum."""
    console = session.console
    for item in judged:
        shown = [d for d in item.diagnostics if d.severity != "info" or session.common.verbose]
        if not shown and not session.common.verbose:
            continue
        console.out(Styled(place(SourceLocation(item.file)), "bold"), f"  {item.title}")
        for diagnostic in shown:
            own = diagnostic.source is not None and diagnostic.source.file == item.file
            for line in lines_of(diagnostic, console.width - 2, with_file=not own):
                console.out("  ", *line)
        if shown:
            console.out()
    console.out(_summary_line(summary_of(judged)))


def _summary_line(summary: dict[str, int]) -> str:
    text = f"{many(summary['files'], 'file')}: "
    if not summary["errors"] and not summary["warnings"]:
        return text + "no problems."
    good = summary["files"] - summary["invalid"]
    parts = [f"{good:,} valid"]
    if summary["invalid"]:
        parts.append(f"{summary['invalid']:,} with errors")
    counts = [many(summary[k], k[:-1]) for k in ("errors", "warnings") if summary[k]]
    return f"{text}{', '.join(parts)}; {' and '.join(counts)}."
