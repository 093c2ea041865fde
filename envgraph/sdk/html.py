"""Tables for notebooks: every text escaped, no script, no style of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

ROWS: Final = 100
"""As many of a long list as somebody reads in a notebook."""


def table(
    rows: Iterable[Sequence[str]], header: Sequence[str] = (), caption: str = "", note: str = ""
) -> str:
    """A table; without ``header`` the first cell of each row is its label."""
    parts = ["<table>"]
    if caption:
        parts.append(f"<caption>{escape(caption)}</caption>")
    if header:
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        parts.append(f"<thead><tr>{cells}</tr></thead>")
    parts.append("<tbody>")
    for row in rows:
        first, *others = row
        tag = "td" if header else "th"
        cells = f"<{tag}>{escape(first)}</{tag}>"
        cells += "".join(f"<td>{escape(cell)}</td>" for cell in others)
        parts.append(f"<tr>{cells}</tr>")
    parts.append("</tbody></table>")
    if note:
        parts.append(f"<p>{escape(note)}</p>")
    return "".join(parts)


def left_out(count: int, what: str) -> str:
    """The line under a table that shows only its first :data:`ROWS`; else nothing."""
    return f"and {count - ROWS:,} more {what}" if count > ROWS else ""


def text_of(value: object) -> str:
    """A value as one text: collections as JSON."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def short(digest: str | None) -> str:
    """``sha256:`` and the first twelve digits, as tables show a digest."""
    return "" if digest is None else digest[: len("sha256:") + 12]
