"""The history of one environment in a catalogue: moves of labels, archived and restored. Pure.

An artifact beside the shared versions holds every move as a record, hash-linked as the
records of a workspace's own history are, so that a changed, dropped or reordered one is
noticed. What a label means, and what is archived, is a fold over them. A registry without
one has what its tags say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from envgraph.errors import EnvgraphError, IntegrityError
from envgraph.model.history import Change, ChangeRecord, record_from_bytes
from envgraph.model.names import name_problem, version_problem
from envgraph.registry.artifacts import EMPTY, EMPTY_BYTES, Artifact, Contents, make_artifact
from envgraph_store.digest import Digest

MOVES_TYPE: Final = "application/vnd.envgraph.moves.v1"
MOVES: Final = "application/vnd.envgraph.moves.v1+jsonl"
EVENTS: Final = ("label", "archive", "restore")


@dataclass(frozen=True, slots=True)
class CatalogueState:
    """What holds now. Each label and each archived version with the workspace that said so.

    ``known``: every label that was ever moved, one that was taken away among them.
    """

    labels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    archived: Mapping[str, str] = field(default_factory=dict)
    known: frozenset[str] = frozenset()

    def meaning(self) -> dict[str, str]:
        """The version that each label means."""
        return {label: version for label, (version, _) in sorted(self.labels.items())}


def state_of_moves(moves: Sequence[ChangeRecord]) -> CatalogueState:
    """The fold over all moves, the oldest first."""
    labels: dict[str, tuple[str, str]] = {}
    archived: dict[str, str] = {}
    known: set[str] = set()
    for record in moves:
        change = record.change
        if change.event == "label" and change.label is not None:
            known.add(change.label)
            labels.pop(change.label, None)
            if change.version is not None:
                labels[change.label] = (change.version, record.workspace)
        elif change.event == "archive" and change.version is not None:
            archived[change.version] = record.workspace
        elif change.event == "restore" and change.version is not None:
            archived.pop(change.version, None)
    return CatalogueState(labels, archived, frozenset(known))


def appended(
    moves: Sequence[ChangeRecord],
    changes: Sequence[Change],
    *,
    name: str,
    workspace: str,
    time: str,
    tool: str,
) -> tuple[ChangeRecord, ...]:
    """The moves with these after them, each linked to the one before."""
    found = list(moves)
    for change in changes:
        previous = Digest.of(found[-1].chain_bytes()) if found else None
        number = found[-1].sequence + 1 if found else 1
        found.append(ChangeRecord(workspace, name, number, previous, time, change, tool))
    return tuple(found)


def moves_artifact(moves: Sequence[ChangeRecord]) -> Artifact:
    """The artifact of all moves."""
    lines = b"\n".join(record.chain_bytes() for record in moves)
    return make_artifact(MOVES_TYPE, (EMPTY, EMPTY_BYTES), [(MOVES, lines)])


def read_moves(
    contents: Contents, blobs: Mapping[Digest, bytes], name: str, what: str
) -> tuple[ChangeRecord, ...]:
    """The moves behind an artifact, the oldest first; IntegrityError where a link is broken."""
    parts = [part for part in contents.parts if part.media_type == MOVES]
    data = blobs.get(parts[0].digest) if len(parts) == 1 else None
    if data is None or Digest.of(data) != parts[0].digest:
        raise _wrong(what, "its moves are not there, or are other bytes")
    found: list[ChangeRecord] = []
    previous: Digest | None = None
    for line in data.split(b"\n"):
        record = _record(line, what)
        if (record.sequence, record.previous) != (len(found) + 1, previous):
            raise _wrong(what, f"move {len(found) + 1} does not follow the one before it")
        if record.environment != name:
            raise _wrong(what, f"it speaks of the environment {record.environment[:80]!r}")
        found.append(record)
        previous = Digest.of(line)
    return tuple(found)


def _record(line: bytes, what: str) -> ChangeRecord:
    try:
        record = record_from_bytes(line)
    except (EnvgraphError, RecursionError) as error:
        raise _wrong(what, "one of its moves is none") from error
    if not isinstance(record, ChangeRecord) or record.change.event not in EVENTS:
        raise _wrong(what, "one of its moves is none")
    change = record.change
    texts = [record.workspace, record.environment, record.time, record.tool]
    named = [t for t in (change.version, change.before) if t is not None]
    if not all(type(text) is str for text in (*texts, *named)):
        raise _wrong(what, "a move holds a value of another kind")
    problem = next((p for p in map(version_problem, named) if p), None)
    if change.event == "label" and problem is None:
        problem = name_problem(change.label) if type(change.label) is str else "no label"
    if problem is not None or (change.event != "label" and change.version is None):
        raise _wrong(what, f"a move is none: {problem or 'it names no version'}")
    return record


def _wrong(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{what}: {why}",
        code="registry-record",
        hint="the registry, or something before it, is damaged or lies: nothing was kept",
    )
