"""What moved, for people: one block for each environment, a line or two for each finding."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from envgraph.cli.views.console import Piece, Styled, wrap
from envgraph.cli.views.text import listed, many

if TYPE_CHECKING:
    from envgraph.cli.session import Session
    from envgraph.model.drift import Finding
    from envgraph.refresh.drift import DriftReport

_STYLES: Final = {"error": "red", "warning": "yellow", "info": "dim"}
_DIGEST: Final = 19
"""Characters of ``sha256:`` and 12 of the digest."""

_CODE: Final = 16


def show_drift(report: DriftReport, session: Session) -> None:
    """All findings by environment, then what was looked at."""
    show = session.console.out
    for (name, version), members in groupby(
        report.findings, key=lambda f: (f.environment, f.version)
    ):
        title = f"{name}:{version}" if name else "policy"
        show(Styled(title, "bold"))
        for finding in members:
            _finding(finding, session)
        show()
    show(_sum(report))


def _finding(finding: Finding, session: Session) -> None:
    console = session.console
    width = console.width - _CODE - 4
    code = finding.code.ljust(_CODE)
    style = "dim" if finding.allowed is not None else _STYLES[finding.severity]
    lines = wrap(f"{finding.subject}: {finding.summary}", width)
    moved = _moved(finding, console.symbols.arrow)
    if moved:
        if len(lines[-1]) + len(moved) + 2 <= width:
            lines[-1] += f"  {moved}"
        else:
            lines.append(moved)
    if finding.allowed is not None:
        lines += wrap(f"allowed: {finding.allowed}", width)
    if len(finding.platforms) > 1:
        lines.append(f"on {listed(finding.platforms)}")
    head: list[Piece] = ["  ", Styled(code, style), "  ", lines[0]]
    console.out(*head)
    for line in lines[1:]:
        console.out(" " * (_CODE + 4), line)


def _moved(finding: Finding, arrow: str) -> str:
    if finding.code == "package-patched" or not (finding.old and finding.new):
        return ""
    old, new = (_short(text) for text in (finding.old, finding.new))
    return "" if old == new else f"{old} {arrow} {new}"


def _short(text: str) -> str:
    return text[:_DIGEST] if text.startswith("sha256:") else text


def _sum(report: DriftReport) -> str:
    checked = report.checked
    parts = [many(checked["environments"], "environment")]
    parts += [many(checked["bases"], "base")] if checked["bases"] else []
    parts += [many(checked["contexts"], "build context")] if checked["contexts"] else []
    parts.append(many(checked["packages"], "package"))
    looked = f"{listed(parts)} checked"
    allowed = len(report.findings) - len(report.open)
    also = f" ({allowed:,} allowed)" if allowed else ""
    if report.skipped:
        also += f"; {many(len(report.skipped), 'thing')} could not be asked"
    if not report.open:
        return f"{looked}: nothing moved{also}."
    return f"{looked}: {many(len(report.open), 'finding')}{also}."
