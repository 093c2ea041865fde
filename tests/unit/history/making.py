"""Histories for tests: versions and changes, appended to a store as the product does it."""

from __future__ import annotations

from envgraph.history.append import Appender
from envgraph.model.history import Change
from envgraph.model.records import LockReference, VersionRecord
from envgraph_store import Digest, Store

ID = "w0rk"
TIME = "2026-01-01T00:00:00Z"


def version(number: str, name: str = "train", *, anonymous: bool = False) -> VersionRecord:
    """A version whose digests follow from name and number."""

    def digest(what: str) -> Digest:
        return Digest.of(f"{what} {name} {number}".encode())

    return VersionRecord(
        workspace=ID,
        environment=name,
        sequence=0,
        previous=None,
        time=TIME,
        version=number,
        kind="system-managed",
        definition=digest("definition"),
        runtime=digest("runtime"),
        locks={"linux-64": LockReference(digest("identity"), digest("lock"))},
        images={"linux-64": digest("image")},
        image=digest("image"),
        image_name="envgraph/envgraph_0",
        image_keys={"linux-64": "envkey1:" + digest("key").hex},
        members=(digest("layer"),),
        tool="test",
        anonymous=anonymous,
    )


def happen(store: Store, *events: VersionRecord | Change, name: str = "train") -> None:
    """Append these to the history of ``name``, in one batch."""
    with store.transaction() as batch:
        appender = Appender(store, ID, name)
        for event in events:
            if isinstance(event, VersionRecord):
                appender.add_version(batch, event)
            else:
                appender.add_change(batch, event, TIME)
        appender.finish(batch)
        batch.commit()
