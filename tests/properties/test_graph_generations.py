"""Generations are networkx's topological generations, in the order in which nodes were given."""

from __future__ import annotations

from collections.abc import Sequence

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.graph import BuildGraph, GraphError
from envgraph.model.nodes import Node

Edges = Sequence[tuple[int, int]]


def key(number: int) -> NodeKey:
    return node_key("test", {"number": number})


@st.composite
def graphs(draw: st.DrawFn, *, acyclic: bool) -> tuple[list[int], Edges]:
    """Node numbers in any order, and edges ``(node, need)``, some of them twice."""
    count = draw(st.integers(0, 12))
    numbers = draw(st.permutations(range(count)))
    if not count:
        return [], []
    number = st.integers(0, count - 1)
    edges = draw(st.lists(st.tuples(number, number), max_size=30))
    if acyclic:
        edges = [(max(edge), min(edge)) for edge in edges if edge[0] != edge[1]]
    return list(numbers), edges


def build(numbers: Sequence[int], edges: Edges) -> BuildGraph:
    nodes = [
        Node(key(n), "conda-package", str(n), tuple(key(need) for user, need in edges if user == n))
        for n in numbers
    ]
    return BuildGraph(nodes, {})


def test_what_networkx_says() -> None:
    seen: set[int] = set()

    @given(graphs(acyclic=True), st.data())
    def check(drawn: tuple[list[int], Edges], data: st.DataObject) -> None:
        numbers, edges = drawn
        graph = build(numbers, edges)
        found = [[int(node.name) for node in layer] for layer in graph.generations()]
        theirs = networkx.topological_generations(graph.as_networkx())
        assert [{key(n) for n in layer} for layer in found] == [set(layer) for layer in theirs]
        for layer in found:
            assert layer == sorted(layer, key=numbers.index)
        wanted = set(data.draw(st.lists(st.sampled_from(numbers)))) if numbers else set()
        some = [[int(node.name) for node in layer] for layer in graph.generations(map(key, wanted))]
        kept = [[n for n in layer if n in wanted] for layer in found]
        assert some == [layer for layer in kept if layer]
        seen.add(len(found))

    check()
    assert max(seen) > 2


def test_cycles_are_where_networkx_sees_them() -> None:
    seen: set[bool] = set()

    @given(graphs(acyclic=False))
    def check(drawn: tuple[list[int], Edges]) -> None:
        graph = build(*drawn)
        acyclic = networkx.is_directed_acyclic_graph(graph.as_networkx())
        seen.add(acyclic)
        if acyclic:
            graph.generations()
        else:
            with pytest.raises(GraphError, match="cycle"):
                graph.generations()

    check()
    assert seen == {True, False}
