"""The build graph: nodes by key, edges to what each needs. Pure; imports networkx late."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from envgraph.model.canonical import NodeKey
from envgraph.model.nodes import Node

if TYPE_CHECKING:
    import networkx


class GraphError(ValueError):
    """A node needs a key that is not in the graph, or needs itself in the end."""


class BuildGraph:
    """An immutable set of nodes in which every need is present.

    ``environments`` of a key are the names of all environments that reach it.
    """

    def __init__(self, nodes: Iterable[Node], roots: Mapping[str, Sequence[NodeKey]]) -> None:
        """Take nodes (equal keys collapse) and, by environment name, its final nodes."""
        self._nodes: dict[NodeKey, Node] = {}
        for node in nodes:
            self._nodes.setdefault(node.key, node)
        self._users: dict[NodeKey, list[str]] = {key: [] for key in self._nodes}
        self.roots = {name: tuple(keys) for name, keys in roots.items()}
        for name, keys in self.roots.items():
            for key in self._closure(keys):
                self._users[key].append(name)

    def _closure(self, keys: Iterable[NodeKey]) -> Iterator[NodeKey]:
        seen: set[NodeKey] = set()
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key in seen:
                continue
            if key not in self._nodes:
                raise GraphError(f"{key} is needed and not in the graph")
            seen.add(key)
            yield key
            waiting.extend(self._nodes[key].needs)

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __contains__(self, key: object) -> bool:
        return key in self._nodes

    def __getitem__(self, key: NodeKey) -> Node:
        return self._nodes[key]

    def restricted(self, names: Collection[str]) -> BuildGraph:
        """The graph of these environments alone; itself when they are all of them."""
        if all(name in names for name in self.roots):
            return self
        roots = {name: keys for name, keys in self.roots.items() if name in names}
        wanted = {key for keys in roots.values() for key in self._closure(keys)}
        return BuildGraph((node for node in self if node.key in wanted), roots)

    def environments(self, key: NodeKey) -> tuple[str, ...]:
        """The names of the environments that need this node, in the order given."""
        return tuple(self._users[key])

    def reachable(self, keys: Iterable[NodeKey]) -> tuple[Node, ...]:
        """The nodes that ``keys`` stand on, themselves included."""
        return tuple(self._nodes[key] for key in self._closure(keys))

    def as_networkx(self) -> networkx.DiGraph[NodeKey]:
        """A directed graph with an edge from each node to every node that uses it."""
        import networkx

        graph: networkx.DiGraph[NodeKey] = networkx.DiGraph()
        graph.add_nodes_from(self._nodes)
        for node in self:
            graph.add_edges_from((need, node.key) for need in node.needs)
        return graph

    def generations(self, keys: Iterable[NodeKey] | None = None) -> list[list[Node]]:
        """Nodes (or those of ``keys``) in generations: each needs only earlier ones.

        The order within a generation is that in which the nodes were given.
        Raises :class:`GraphError` on a cycle.
        """
        import networkx

        wanted = set(self._nodes) if keys is None else set(keys)
        try:
            layers = list(networkx.topological_generations(self.as_networkx()))
        except networkx.NetworkXUnfeasible as error:
            raise GraphError("the graph has a cycle") from error
        found = [[self._nodes[key] for key in layer if key in wanted] for layer in layers]
        return [layer for layer in found if layer]
