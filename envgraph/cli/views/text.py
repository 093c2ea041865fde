"""Small words: sizes, counts, times and tables as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from envgraph.cli.views.console import Piece, Styled, width_of

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
_PLURALS: Final = {"is": "are", "has": "have", "this": "these"}


def size(count: int) -> str:
    """Bytes as people write them, by thousands: ``512 B``, ``12.3 MB``, ``120 MB``."""
    value = float(count)
    for unit in _UNITS[:-1]:
        if value < 999.5 or (unit == "B" and value < 1000):
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {_UNITS[-1]}"


def many(count: int, noun: str) -> str:
    """``1 package``, ``1,234 packages``, ``2 libraries``."""
    if count == 1:
        return f"1 {noun}"
    plural = noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"
    return f"{count:,} {plural}"


def duration(seconds: float) -> str:
    """``0.3 s``, ``42 s``, ``3 min 05 s``."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def listed(words: Iterable[str], most: int = 8) -> str:
    """``a, b and c``; what goes beyond ``most`` is counted."""
    items = list(words)
    if len(items) > most:
        return ", ".join(items[: most - 1]) + f" and {len(items) - most + 1:,} more"
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]


def moment(timestamp: str) -> str:
    """``2026-11-23T04:25:00Z`` as ``2026-11-23 04:25 UTC``; other text as it is."""
    if len(timestamp) >= 17 and timestamp[10:11] == "T" and timestamp.endswith("Z"):
        return f"{timestamp[:10]} {timestamp[11:16]} UTC"
    return timestamp


def table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str] = (),
    right: Sequence[int] = (),
    indent: str = "",
    gap: str = "  ",
) -> list[list[Piece]]:
    """Rows in columns, each as wide as its widest cell; ``right`` are columns of numbers."""
    everything = [list(header), *rows] if header else list(rows)
    if not everything:
        return []
    columns = max(len(row) for row in everything)
    taken = [[width_of(cell) for cell in row] for row in everything]
    widths = [max((w[i] for w in taken if i < len(w)), default=0) for i in range(columns)]
    lines: list[list[Piece]] = []
    for number, row in enumerate(everything):
        cells = []
        for i, cell in enumerate(row):
            space = " " * (widths[i] - taken[number][i])
            cells.append(space + cell if i in right else cell + space)
        text = (indent + gap.join(cells)).rstrip()
        lines.append([Styled(text, "bold")] if header and number == 0 else [text])
    return lines
