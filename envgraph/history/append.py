"""Append to a history: records, and the state that they fold to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from envgraph import __version__
from envgraph.history.fold import EnvironmentState, advance
from envgraph.history.listing import top_listing
from envgraph.history.read import edited, environment_ref, read_record, state_at
from envgraph.model.history import Change, ChangeRecord
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store, Transaction

TOOL: Final = f"envgraph {__version__}"


class Appender:
    """Appends to one environment's history within one batch; the caller commits.

    One for each environment and batch: a ref is set once. The caller excludes every
    other writer of the workspace; the ref's compare-and-swap holds against what does not.
    """

    def __init__(self, store: Store, workspace_id: str, name: str) -> None:
        """Read what is there."""
        self._ref_name = environment_ref(workspace_id, name)
        self._workspace = workspace_id
        self._name = name
        self._ref = store.refs.get(self._ref_name)
        self._store = store
        self._records: dict[Digest, VersionRecord] = {}
        self.state = EnvironmentState(name)
        if self._ref is not None:
            self.state = state_at(store, workspace_id, name, self._ref.value)

    def add_version(self, batch: Transaction, record: VersionRecord) -> VersionRecord:
        """Register a version; its place in the chain is put in. As it will be read back."""
        holdings = batch.add_bytes(record.holdings_bytes())
        placed = replace(
            record,
            workspace=self._workspace,
            environment=self._name,
            sequence=self.state.sequence + 1,
            previous=self.state.head,
            holdings=holdings,
        )
        digest = batch.add_bytes(placed.chain_bytes())
        self._records[digest] = placed
        self.state = advance(self.state, placed, digest)
        return replace(placed, members=())

    def add_change(self, batch: Transaction, change: Change, time: str) -> ChangeRecord:
        """Record a change at ``time`` (UTC, ``2026-11-23T04:25:00Z``)."""
        placed = ChangeRecord(
            self._workspace,
            self._name,
            self.state.sequence + 1,
            self.state.head,
            time,
            change,
            TOOL,
        )
        self.state = advance(self.state, placed, batch.add_bytes(placed.chain_bytes()))
        return placed

    def finish(self, batch: Transaction) -> None:
        """Let the history end in what was added, once for all of it."""
        state = batch.add_bytes(
            json.dumps(self.state.to_json(), ensure_ascii=False, separators=(",", ":")).encode()
        )
        top = self.state.latest or self.state.newest
        record = None
        if top is not None:
            record = self._records.get(top.record) or read_record(self._store, top.record)
            record = edited(record, top)
        listing = top_listing(self.state, record)
        value = {
            "head": str(self.state.head),
            "sequence": self.state.sequence,
            "state": str(state),
            "listing": None if listing is None else listing.to_ref(),
        }
        expected = None if self._ref is None else self._ref.generation
        batch.set_ref(self._ref_name, value, expected=expected)
