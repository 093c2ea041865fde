"""Pushing and pulling, run on the executor's threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from envgraph.api.events import Event
from envgraph.apply.batches import Batches
from envgraph.apply.counter import Counter
from envgraph.apply.executor import Executor, Outcome
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.nodes import Node, NodeKind
from envgraph.model.records import VersionRecord
from envgraph.registry.names import STEPS_REPOSITORY
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.interchange.parcel import Parcel
    from envgraph.interchange.pull import Puller
    from envgraph.interchange.push import Piece, Pusher, Shipment
    from envgraph.interchange.wanted import Layer, Wanted, WantedSteps

_T = TypeVar("_T")


@dataclass(slots=True)
class Transfer:
    """What became of a transfer. ``outcome`` is that of its last part."""

    outcome: Outcome
    shipments: tuple[Shipment, ...] = ()
    bytes_moved: int = 0
    unusable: tuple[Wanted | WantedSteps, ...] = ()
    """What was wanted and is not there as it has to be: gone, or other bytes."""

    lost: frozenset[NodeKey] = frozenset()
    """The nodes of which a layer is so, whatever was said of it."""


class Transfers:
    """Runs pushers and pullers; a failure stops new starts, and what was done is kept."""

    def __init__(self, store: Store, parallelism: int, on_event: Callable[[Event], None]) -> None:
        """Bind; no thread is started yet."""
        self._store = store
        self._parallelism = parallelism
        self._on_event = on_event

    def pull(
        self, puller: Puller, wanted: Sequence[Wanted], steps: Sequence[WantedSteps] = ()
    ) -> Transfer:
        """Bring images, and results of steps, into the store, each whole or not at all."""
        everything: list[Wanted | WantedSteps] = [*wanted, *steps]
        if not everything:
            return Transfer(Outcome())
        from envgraph.interchange.wanted import WantedSteps

        batches = Batches(self._store)

        def open_(item: Wanted | WantedSteps) -> None:
            if isinstance(item, WantedSteps):
                puller.open_steps(item)
            else:
                puller.open(item)

        def finish(item: Wanted | WantedSteps) -> None:
            end = puller.finish_steps if isinstance(item, WantedSteps) else puller.finish
            with batches.writing() as batch:
                end(item.key, batch)

        with closing(batches):
            asked = {self._node("question", item.title, item.key): item for item in everything}
            outcome = self._run(asked, open_)
            unusable = [asked[node] for node in _unusable(outcome)]
            lost: set[NodeKey] = set()
            if outcome.whole:
                layers = self._layers(puller)
                outcome = self._fetch(puller, layers, batches)
                wrong = {layers[node].node.key for node in _unusable(outcome)}
                unusable = [item for item in everything if not wrong.isdisjoint(item.nodes_in)]
                lost = {layers[node].node.key for node in _unusable(outcome, "registry-steps")}
            if outcome.whole:
                made = {self._node("pull", item.title, item.key): item for item in everything}
                outcome = self._run(made, finish, batches)
                unusable = [made[node] for node in _unusable(outcome)]
        return Transfer(
            outcome,
            bytes_moved=puller.bytes_fetched,
            unusable=tuple(unusable),
            lost=frozenset(lost),
        )

    def _layers(self, puller: Puller) -> dict[Node, Layer]:
        return {
            self._node(
                "transfer",
                layer.title,
                (layer.descriptor.digest, layer.node.key),
                layer.descriptor.size,
            ): layer
            for layer in puller.layers()
        }

    def _fetch(self, puller: Puller, layers: dict[Node, Layer], batches: Batches) -> Outcome:
        counters = {id(layer): Counter(self._on_event, node) for node, layer in layers.items()}

        def fetch(layer: Layer) -> None:
            with batches.writing() as batch:
                puller.fetch(layer, batch, counters[id(layer)])

        return self._run(layers, fetch, batches)

    def push(
        self,
        pusher: Pusher,
        records: Sequence[VersionRecord],
        pack: Callable[[VersionRecord], Parcel],
        *,
        thorough: Callable[[str], bool] = lambda repository: False,
    ) -> Transfer:
        """Bring versions into a registry; each becomes visible there when it is whole.

        What is not there yet is ``pack``-ed. Versions whose repository is ``thorough`` are
        looked at blob by blob.
        """
        shipments: list[Shipment] = []

        def look(record: VersionRecord) -> None:
            suspected = thorough(record.image_name)
            again = thorough(STEPS_REPOSITORY)
            shipments.append(
                pusher.look(record, lambda: pack(record), thorough=suspected, steps_again=again)
            )

        asked = {self._node("question", _title(r), (_title(r), r.image)): r for r in records}
        outcome = self._run(asked, look)
        for questions in (pusher.questions, pusher.layer_questions):
            if outcome.whole:
                parts = {self._node("question", q.repository, q.blobs): q for q in questions()}
                outcome = self._run(parts, pusher.ask)
        if outcome.whole:
            outcome = self._send(pusher)
        if outcome.whole:
            shown = {
                self._node("push", _title(s.record), (_title(s.record), s.record.image)): s
                for s in shipments
                if not s.whole
            }
            outcome = self._run(shown, pusher.finish)
        return Transfer(outcome, tuple(shipments), pusher.bytes_sent)

    def _send(self, pusher: Pusher) -> Outcome:
        pieces = {
            self._node(
                "transfer",
                f"blob {piece.descriptor.digest.hex[:12]}",
                piece.descriptor.digest,
                piece.size,
            ): piece
            for piece in pusher.pieces()
        }
        counters = {id(piece): Counter(self._on_event, node) for node, piece in pieces.items()}

        def send(piece: Piece) -> None:
            pusher.send(piece, counters[id(piece)])

        return self._run(pieces, send)

    def _run(
        self, items: dict[Node, _T], work: Callable[[_T], None], batches: Batches | None = None
    ) -> Outcome:
        by_key = {node.key: item for node, item in items.items()}

        def settle(close: bool) -> None:
            if batches is not None:
                batches.settle(close)

        executor = Executor(
            self._parallelism, lambda node: work(by_key[node.key]), settle, self._on_event
        )
        return executor.run([list(items)] if items else [])

    def _node(self, kind: NodeKind, name: str, what: object, size: int | None = None) -> Node:
        document = [str(part) for part in what] if isinstance(what, tuple) else [str(what)]
        return Node(node_key(kind, document), kind, name, (), size)


def _unusable(outcome: Outcome, but: str = "") -> list[Node]:
    """What failed because of what is there, and not because nobody answered; ``but`` a code."""
    return [
        outcome.nodes[key]
        for key, error in outcome.failed.items()
        if isinstance(error, IntegrityError | NotFoundError) and error.diagnostics[0].code != but
    ]


def _title(record: VersionRecord) -> str:
    return f"{record.environment}:{record.version}"
