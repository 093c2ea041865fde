"""What an import wrote, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envgraph.cli.views.console import Styled
from envgraph.cli.views.diagnostics import place
from envgraph.cli.views.text import many, size
from envgraph.errors import SourceLocation

if TYPE_CHECKING:
    from envgraph.apply.importing import Imported
    from envgraph.cli.session import Session


def show_import(done: Imported, session: Session) -> None:
    """The two files, how much is pinned, and what comes next."""
    show = session.console.out
    show(Styled(done.name, "bold"), "  ", place(SourceLocation(str(done.file))))
    show("  ", place(SourceLocation(str(done.lockfile))))
    for platform, count in done.packages.items():
        show(f"  {platform}: {many(count, 'package')} pinned")
    if done.fetched:
        session.console.note(
            f"fetched and checked {many(done.fetched, 'archive')}, {size(done.bytes)}"
        )
    session.console.note(f"next: envgraph plan --target {done.name}")
