"""Any sequence of events folds to what a plain dictionary says, and reads back the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from envgraph.history.check import broken_histories
from envgraph.history.fold import fold
from envgraph.history.read import history, state_of
from envgraph.model.history import Change
from envgraph.model.records import VersionRecord
from envgraph_store import Store
from tests.unit.history.making import ID, happen, version

NUMBERS = ("1", "2", "18.04:2022")
Event = VersionRecord | Change
EVENTS = st.lists(
    st.one_of(
        st.sampled_from(NUMBERS).map(version),
        st.builds(
            lambda event, number: Change(event, number),
            st.sampled_from(("archive", "restore", "delete")),
            st.sampled_from(NUMBERS),
        ),
        st.sampled_from((Change("archive"), Change("restore"))),
        st.builds(
            lambda label, number: Change("label", number, label),
            st.sampled_from(("prod", "test")),
            st.sampled_from((*NUMBERS, None)),
        ),
        st.builds(
            lambda number, text: Change("metadata", number, description=text, tags={"t": text}),
            st.sampled_from(NUMBERS),
            st.text(max_size=3),
        ),
    ),
    max_size=14,
)


class Model:
    """The rules once more, as plain as they can be written."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.archived: set[str] = set()
        self.deleted: set[str] = set()
        self.said: dict[str, str | None] = {}
        self.labels: dict[str, str] = {}
        self.hidden = False
        self.events: list[Event] = []

    def offer(self, event: Event) -> None:
        """Take an event that can happen now; drop one of a version that is not there."""
        if isinstance(event, VersionRecord):
            number = event.version
            self.order = [n for n in self.order if n != number] + [number]
            self.deleted.discard(number)
            self.said[number] = None
        elif event.event == "label":
            if event.version is None:
                self.labels.pop(event.label or "", None)
            elif event.version in self.order:
                self.labels[event.label or ""] = event.version
            else:
                return
        elif event.version is None:
            self.hidden = event.event == "archive"
        elif event.version not in self.order:
            return
        elif event.event == "metadata":
            self.said[event.version] = event.description
        elif event.event == "delete":
            self.deleted.add(event.version)
        elif event.event == "archive":
            self.archived.add(event.version)
        else:
            self.archived.discard(event.version)
        self.events.append(event)

    @property
    def latest(self) -> str | None:
        there = [n for n in self.order if n not in self.archived | self.deleted]
        return there[-1] if there else None


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.integers(0, 14))
def test_the_fold_is_what_a_dictionary_says(events: list[Event], cut: int) -> None:
    model = Model()
    for event in events:
        model.offer(event)
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store") as store:
        for batch in (model.events[:cut], model.events[cut:]):
            if batch:
                happen(store, *batch)
        state = state_of(store, ID, "train")
        if not model.events:
            assert state is None
            return
        assert state is not None
        records = list(history(store, ID, "train"))
        assert state == fold("train", reversed(records))
        assert list(broken_histories(store)) == []
    assert state.sequence == len(model.events)
    assert set(state.versions) == set(model.order)
    assert {v.version for v in state.versions.values() if v.archived} == model.archived
    assert {v.version for v in state.versions.values() if v.deleted} == model.deleted
    assert {n: v.description for n, v in state.versions.items()} == model.said
    assert state.labels == model.labels
    assert state.archived == model.hidden
    assert (None if state.latest is None else state.latest.version) == model.latest
    for number, found in state.versions.items():
        kept = not (model.hidden or number in model.archived | model.deleted)
        assert state.holds(found) == kept
