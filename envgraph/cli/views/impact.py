"""Who stands on a base, for people: one table for each tie."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from envgraph.cli.views.console import Styled
from envgraph.cli.views.text import many, table

if TYPE_CHECKING:
    from envgraph.cli.session import Session
    from envgraph.diff.impact import Impact

_TIES: Final = {
    "digest": "On this very image",
    "reference": "On this reference, when it meant another image",
    "layers": "On another image that shares layers with it",
}
_DIGEST: Final = 19
"""Characters of ``sha256:`` and 12 of the digest."""

_NAME: Final = 30
_REFERENCE: Final = 34


def show_impact(base: str, found: Sequence[Impact], session: Session) -> None:
    """The versions by tie, closest first; then how many."""
    show = session.console.out
    for tie, members in groupby(found, key=lambda item: item.by):
        show(Styled(_TIES[tie], "bold"))
        for line in table([_row(item) for item in members], indent="  "):
            show(*line)
        show()
    show(_sum(base, found))


def _sum(base: str, found: Sequence[Impact]) -> str:
    title = base[:_DIGEST] if base.startswith("sha256:") else base
    on = {(item.registry, item.environment) for item in found if item.by != "layers"}
    sharing = {(item.registry, item.environment) for item in found} - on
    if not found:
        return f"No environment here stands on {title}."
    stand = "stands" if len(on) == 1 else "stand"
    text = f"{many(len(on), 'environment')} {stand} on {title}"
    return text + (f"; {len(sharing):,} on other images with its layers." if sharing else ".")


def _row(item: Impact) -> list[str]:
    digest = "" if item.manifest is None else item.manifest.hex[:12]
    shared = f"{item.shared} of {many(item.of, 'layer')}" if item.by == "layers" else ""
    where = f" in {item.registry}" if item.registry else ""
    title = _cut(f"{item.environment}:{item.version}{where}", _NAME)
    tail = shared or item.locked[:10]
    return [title, _cut(item.reference, _REFERENCE), digest, tail]


def _cut(text: str, width: int) -> str:
    """The end of a long text says more than its beginning."""
    return text if len(text) <= width else "..." + text[-(width - 3) :]
