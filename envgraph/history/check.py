"""Is every history whole? What ``store verify`` asks beside the hashes of blobs.

Each chain is walked from its head: every record is there, continues the one below it,
and is of that environment and workspace; the kept state is what the records fold to; and
every older value of the ref that is still here names a record of the chain, so that a
history that was cut back, or replaced, is noticed. (A ref whose newest value was removed
from the disk altogether looks like one that never had it: nothing here can tell.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from envgraph.errors import EnvgraphError
from envgraph.history.fold import fold
from envgraph.history.listing import top_listing
from envgraph.history.read import read_version, state_at, walk
from envgraph.model.names import unescape_name
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError
from envgraph_store.naming import escape

BROKEN: Final = "history-broken"


@dataclass(frozen=True, slots=True)
class BrokenHistory:
    """One history that is not what it was when it was written."""

    ref: str
    head: str
    problem: str


def broken_histories(store: Store) -> Iterator[BrokenHistory]:
    """Every history of the store, of all workspaces, that is not whole."""
    for ref_name, ref in store.refs.list("environments/").items():
        head = str(ref.value.get("head"))
        try:
            problem = _problem(store, ref_name, ref.value)
        except (StoreError, EnvgraphError) as error:
            problem = str(error)
        except (ValueError, KeyError, TypeError) as error:
            problem = f"its ref cannot be read: {error!r}"
        if problem:
            yield BrokenHistory(ref_name, head, problem)


def _problem(store: Store, ref_name: str, value: dict[str, Any]) -> str:
    _, workspace, escaped = ref_name.split("/", 2)
    name = unescape_name(escaped)
    found = list(walk(store, workspace, name, Digest(value["head"])))
    state = fold(name, reversed(found))
    if value.get("sequence") != state.sequence:
        return f"the history of {name!r} has another length than its ref says"
    if "state" in value and state_at(store, workspace, name, value) != state:
        return f"the history of {name!r} does not lead to the state that is kept beside it"
    top = state.latest or state.newest
    listing = top_listing(state, None if top is None else read_version(store, top))
    if "listing" in value and value["listing"] != (listing and listing.to_ref()):
        return f"the history of {name!r} does not lead to what `list` shows of it"
    known = {digest for digest, _ in found}
    for number in store.refs.generations(escape(ref_name)):
        try:
            older = store.refs.load(escape(ref_name), number)["value"]
        except (StoreError, FileNotFoundError):
            continue  # damaged or collected: the store's own check names it
        if older is not None and Digest(older["head"]) not in known:
            return f"the history of {name!r} lacks what it had before (value {number} of its ref)"
    return ""
