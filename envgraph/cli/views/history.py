"""A history for people: one line for each record, within the window's width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from envgraph.cli.views.console import Styled, pad, width_of, wrap
from envgraph.cli.views.text import moment

if TYPE_CHECKING:
    from envgraph.cli.session import Session
    from envgraph.history.fold import EnvironmentState
    from envgraph.history.timeline import Entry

_TIME: Final = 20
"""``2026-11-23 04:25 UTC``."""

_WIDEST: Final = 20
"""Columns of a version; a longer one has a line of its own."""


def show_history(state: EnvironmentState, entries: Sequence[Entry], session: Session) -> None:
    """What happened, newest first."""
    show = session.console.out
    versions = [entry.version or "" for entry in entries]
    width = max([7, *(w for v in versions if (w := width_of(v)) <= _WIDEST)])
    archived = "  (archived)" if state.archived else ""
    show(Styled(state.name, "bold"), archived)
    show(Styled(f"{'TIME':{_TIME}}  {'VERSION':{width}}  WHAT", "bold"))
    room = session.console.width - _TIME - width - 4
    for entry, version in zip(entries, versions, strict=True):
        first, *others = wrap(entry.what(), max(room, 20))
        time = pad(moment(entry.record.time), _TIME)
        if width_of(version) > width:
            show(f"{time}  {version}")
            others = [first, *others]
        else:
            show(f"{time}  {pad(version, width)}  {first}")
        for line in others:
            show(f"{'':{_TIME}}  {'':{width}}  {line}")
