"""conda-lock's v1 file, as envgraph commits it: every platform, conda and pip."""

from __future__ import annotations

from collections.abc import Sequence

from envgraph.interchange.document import Document
from envgraph.model.locked import LockedEnvironment


def conda_lock(locks: Sequence[LockedEnvironment]) -> Document:
    """The same text that ``envgraph lock`` writes for these locks."""
    from envgraph.lock.lockfile import lockfile_text

    return Document(lockfile_text(locks))
