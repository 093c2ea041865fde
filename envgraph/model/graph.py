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
        """A directed graph with an edge from each node to every node that uses it.

        For questions that networkx answers (cycles, reductions, exports). Importing it
        takes longer than a small apply, so nothing that every apply does may need it.
        """
        import networkx

        graph: networkx.DiGraph[NodeKey] = networkx.DiGraph()
        graph.add_nodes_from(self._nodes)
        for node in self:
            graph.add_edges_from((need, node.key) for need in node.needs)
        return graph

    def generations(self, keys: Iterable[NodeKey] | None = None) -> list[list[Node]]:
        """Nodes (or those of ``keys``) in generations: each needs only earlier ones.

        A node's generation is the length of its longest chain of needs, the whole graph
        counted. The order within a generation is that in which the nodes were given.
        Raises :class:`GraphError` on a cycle, and names it.
        """
        wanted = set(self._nodes) if keys is None else set(keys)
        found: list[list[Node]] = []
        for key, depth in self._depths():
            while len(found) <= depth:
                found.append([])
            if key in wanted:
                found[depth].append(self._nodes[key])
        return [layer for layer in found if layer]

    def _depths(self) -> list[tuple[NodeKey, int]]:
        """The length of each node's longest chain of needs, in the order given."""
        users: dict[NodeKey, list[NodeKey]] = {key: [] for key in self._nodes}
        left: dict[NodeKey, int] = {}
        for node in self:
            needs = set(node.needs)
            left[node.key] = len(needs)
            for need in needs:
                if need not in users:
                    raise GraphError(f"{need} is needed and not in the graph")
                users[need].append(node.key)
        depths = {key: 0 for key, count in left.items() if not count}
        ready = list(depths)
        for key in ready:  # grows while it is read
            for user in users[key]:
                left[user] -= 1
                if not left[user]:
                    depths[user] = depths[key] + 1
                    ready.append(user)
        if len(ready) < len(self._nodes):
            raise GraphError(f"the graph has a cycle: {self._cycle()}")
        return [(key, depths[key]) for key in self._nodes]

    def _cycle(self) -> str:
        import networkx

        edges = networkx.find_cycle(self.as_networkx())
        return ", ".join(
            f"{self._nodes[user].name} needs itself"
            if need == user
            else f"{self._nodes[user].name} needs {self._nodes[need].name}"
            for need, user in edges
        )
