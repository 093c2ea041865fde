"""Read versions back: the newest by ref, the others along the chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from envgraph.errors import IntegrityError
from envgraph.model.names import escape_name, unescape_name
from envgraph.model.records import VersionRecord
from envgraph_store import Store
from envgraph_store.digest import Digest

RECORD_LIMIT: Final = 8 << 20
"""Bytes; a record is a few kilobytes."""


def environment_ref(workspace_id: str, name: str) -> str:
    """The ref that names the newest record of an environment."""
    return f"environments/{workspace_id}/{escape_name(name)}"


def image_ref(workspace_id: str, name: str) -> str:
    """The ref that puts an environment's newest image into the layout's index."""
    return f"images/{workspace_id}/{escape_name(name)}"


def environment_names(store: Store, workspace_id: str) -> list[str]:
    """All environments of a workspace that have a version, sorted."""
    prefix = f"environments/{workspace_id}/"
    return sorted(unescape_name(ref.removeprefix(prefix)) for ref in store.refs.list(prefix))


def read_record(store: Store, digest: Digest) -> VersionRecord:
    """One record by its digest; IntegrityError when it is gone or not whole."""
    return VersionRecord.from_bytes(store.blobs.read(digest, limit=RECORD_LIMIT))


def latest(store: Store, workspace_id: str, name: str) -> VersionRecord | None:
    """The newest version of an environment, or None."""
    ref = store.refs.get(environment_ref(workspace_id, name))
    return None if ref is None else read_record(store, Digest(ref.value["head"]))


def versions(store: Store, workspace_id: str, name: str) -> Iterator[VersionRecord]:
    """Every version, newest first, checking the links on the way.

    Raises IntegrityError where a record is missing, or does not continue the one
    before it.
    """
    record = latest(store, workspace_id, name)
    while record is not None:
        yield record
        if record.previous is None:
            if record.sequence != 1:
                raise IntegrityError(
                    f"the history of {name!r} begins at record {record.sequence}, not at 1",
                    code="history-broken",
                )
            return
        before = read_record(store, record.previous)
        if before.sequence != record.sequence - 1 or before.environment != record.environment:
            raise IntegrityError(
                f"the history of {name!r} is broken before record {record.sequence}",
                code="history-broken",
            )
        record = before
