"""Package changes as rows: sign, name, from → to, and whether it may break things."""

from __future__ import annotations

from collections.abc import Iterable

from envgraph.cli.views.console import Piece, Styled
from envgraph.cli.views.text import table
from envgraph.diff.packages import PackageChange


def change_row(change: PackageChange, arrow: str, *, asked: bool = True) -> list[str]:
    """``~ numpy 1.26.4 → 2.1.0 nested, major``; without ``asked`` nobody knows what is nested."""
    document = change.to_json()
    before, after = document["from"], document["to"]
    remarks = [] if change.direct or not asked else ["nested"]
    if change.major:
        remarks.append("major")
    if change.kind == "added":
        sign, versions = "+", str(after)
    elif change.kind == "removed":
        sign, versions = "-", str(before)
    else:
        sign, versions = "~", f"{before} {arrow} {after}"
    name = change.name if change.manager == "conda" else f"{change.name} (pip)"
    return [sign, name, versions, ", ".join(remarks)]


def change_lines(
    changes: Iterable[PackageChange], arrow: str, indent: str, *, asked: bool = True
) -> list[list[Piece]]:
    """One line for each change, in the order given; what may break things stands out."""
    rows = [change_row(change, arrow, asked=asked) for change in changes]
    lines = table(rows, indent=indent)
    for row, line in zip(rows, lines, strict=True):
        text = line[0]
        if row[3].endswith("major") and isinstance(text, str):
            line[:] = [text.removesuffix("major"), Styled("major", "yellow")]
    return lines
