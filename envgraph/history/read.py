"""Read histories back: what holds now by one look, what happened by walking the chain.

The ref ``environments/<workspace id>/<name>`` names the newest record (``head``) and the
state that the chain folds to (``state``), and says what ``list`` shows (``listing``), so
that nobody walks a chain for that. A ref of an early store has neither: its chain is
walked. ``store verify`` compares them with the chain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from envgraph.errors import IntegrityError
from envgraph.history.fold import LATEST, EnvironmentState, VersionState, fold, state_from_json
from envgraph.history.listing import Listing, listing_in, top_listing
from envgraph.model.history import HistoryRecord, record_from_bytes
from envgraph.model.names import escape_name, unescape_name
from envgraph.model.records import VersionRecord, members_of
from envgraph_store import Ref, Store
from envgraph_store.digest import Digest

RECORD_LIMIT: Final = 8 << 20
"""Bytes; a record is a few kilobytes."""

STATE_LIMIT: Final = 256 << 20
"""Bytes; a version takes about half a kilobyte."""


def environment_ref(workspace_id: str, name: str) -> str:
    """The ref that names the newest record of an environment."""
    return f"environments/{workspace_id}/{escape_name(name)}"


def image_ref(workspace_id: str, name: str) -> str:
    """The ref that puts an environment's newest image into the layout's index."""
    return f"images/{workspace_id}/{escape_name(name)}"


def environment_names(store: Store, workspace_id: str) -> list[str]:
    """All environments of a workspace that have a history, sorted."""
    return sorted(environment_refs(store, workspace_id))


def environment_refs(store: Store, workspace_id: str) -> dict[str, Ref]:
    """The refs of all environments of a workspace, by name."""
    prefix = f"environments/{workspace_id}/"
    found = store.refs.list(prefix)
    return {unescape_name(name.removeprefix(prefix)): ref for name, ref in found.items()}


def read_record(store: Store, digest: Digest) -> VersionRecord:
    """One version by its record's digest; IntegrityError when it is gone or not whole."""
    return VersionRecord.from_bytes(store.blobs.read(digest, limit=RECORD_LIMIT))


def state_of(store: Store, workspace_id: str, name: str) -> EnvironmentState | None:
    """What holds now of an environment; None when there is none of that name."""
    ref = store.refs.get(environment_ref(workspace_id, name))
    return None if ref is None else state_at(store, workspace_id, name, ref.value)


def state_at(
    store: Store, workspace_id: str, name: str, value: Mapping[str, Any]
) -> EnvironmentState:
    """The state that the value of an environment's ref leads to."""
    head = Digest(value["head"])
    if "state" not in value:
        return fold(name, reversed(list(walk(store, workspace_id, name, head))))
    data = store.blobs.read(Digest(value["state"]), limit=STATE_LIMIT)
    try:
        document: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise IntegrityError(f"the state of {name!r} is no JSON: {error}") from error
    return state_from_json(document, head)


def read_version(store: Store, version: VersionState) -> VersionRecord:
    """The version's record, with the description and tags that it has now."""
    return edited(read_record(store, version.record), version)


def edited(record: VersionRecord, version: VersionState) -> VersionRecord:
    """A record with the description and tags that its version has now."""
    if not version.edited:
        return record
    return replace(record, description=version.description, tags=version.tags)


def latest(store: Store, workspace_id: str, name: str) -> VersionRecord | None:
    """The newest version that is neither archived nor deleted, or None."""
    state = state_of(store, workspace_id, name)
    found = None if state is None else state.latest
    return None if found is None else read_version(store, found)


def latest_listing(store: Store, workspace_id: str, name: str) -> Listing | None:
    """What ``list`` shows of the version that :func:`latest` finds: one ref is read for it."""
    ref = store.refs.get(environment_ref(workspace_id, name))
    if ref is None:
        return None
    if "listing" in ref.value:
        value = ref.value["listing"]
        found = None if value is None else listing_in(name, value)
    else:  # of an early store
        state = state_at(store, workspace_id, name, ref.value)
        top = state.latest
        found = None if top is None else top_listing(state, read_version(store, top))
    return found if found is not None and LATEST in found.labels else None


def newest(store: Store, workspace_id: str, name: str) -> VersionRecord | None:
    """The newest version that is not deleted, archived or not: what a plan compares with."""
    state = state_of(store, workspace_id, name)
    found = None if state is None else state.compared
    return None if found is None else read_version(store, found)


def history(store: Store, workspace_id: str, name: str) -> Iterator[tuple[Digest, HistoryRecord]]:
    """Every record with its digest, newest first, checking the links on the way.

    Raises IntegrityError (``history-broken``) where a record is missing, or does not
    continue the one before it. Nothing comes when there is no such environment.
    """
    ref = store.refs.get(environment_ref(workspace_id, name))
    if ref is not None:
        yield from walk(store, workspace_id, name, Digest(ref.value["head"]))


def walk(
    store: Store, workspace_id: str, name: str, head: Digest
) -> Iterator[tuple[Digest, HistoryRecord]]:
    """:func:`history` from a given head; any workspace's, where ``workspace_id`` is empty."""
    digest: Digest | None = head
    above: HistoryRecord | None = None
    while digest is not None:
        record = record_from_bytes(store.blobs.read(digest, limit=RECORD_LIMIT))
        wanted = record.sequence if above is None else above.sequence - 1
        if (record.sequence, record.environment) != (wanted, name):
            after = "" if above is None else f" before record {above.sequence}"
            raise _broken(name, f"is broken{after}")
        if record.workspace != workspace_id and workspace_id:
            raise _broken(name, f"holds record {record.sequence} of another workspace")
        yield digest, record
        above, digest = record, record.previous
    if above is not None and above.sequence != 1:
        raise _broken(name, f"begins at record {above.sequence}, not at 1")


def _broken(name: str, how: str) -> IntegrityError:
    return IntegrityError(f"the history of {name!r} {how}", code="history-broken")


def versions(
    store: Store, workspace_id: str, name: str, *, deleted: bool = False
) -> Iterator[VersionRecord]:
    """Every record of a version, newest first; those of ``deleted`` ones only if asked for.

    Description and tags are what they are now. IntegrityError as for :func:`history`.
    """
    state = state_of(store, workspace_id, name)
    if state is None:
        return
    for _, record in history(store, workspace_id, name):
        if isinstance(record, VersionRecord):
            known = state.versions.get(record.version)
            if known is None:
                raise _broken(name, f"has a version {record.version!r} that its state lacks")
            if deleted or not known.deleted:
                yield edited(record, known)


def whole_record(store: Store, record: VersionRecord) -> VersionRecord:
    """The record with its members, where the document that names them is still here."""
    if record.holdings is None or record.members or not store.blobs.has(record.holdings):
        return record
    held = members_of(store.blobs.read(record.holdings, limit=RECORD_LIMIT))
    images = {record.image, *record.images.values()}
    return replace(record, members=tuple(item for item in held if item not in images))
