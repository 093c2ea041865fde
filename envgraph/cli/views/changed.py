"""What became of a change to a version, for people and as an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envgraph.apply.versions import Changed
    from envgraph.cli.session import Session


def show_change(
    event: str,
    done: str,
    changed: Changed,
    session: Session,
    more: Mapping[str, object] | None = None,
) -> None:
    """``train:3 archived``, or that it was so already."""
    if session.common.json:
        session.answer(
            {
                "event": event,
                "name": changed.name,
                "version": changed.version,
                "changed": changed.done,
                **(more or {}),
            }
        )
        return
    session.console.out(f"{changed.title} {'' if changed.done else 'was already '}{done}")
