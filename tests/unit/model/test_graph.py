"""The build graph: needs are present, generations in order, users known."""

from __future__ import annotations

import pytest

from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.graph import BuildGraph, GraphError
from envgraph.model.nodes import Node


def key(name: str) -> NodeKey:
    return node_key("test", {"name": name})


def node(name: str, *needs: str) -> Node:
    return Node(key(name), "conda-package", name, tuple(key(need) for need in needs))


def test_generations_need_only_earlier_ones() -> None:
    graph = BuildGraph(
        [node("image", "group", "c"), node("group", "a", "b"), node("a"), node("b"), node("c")],
        {"train": [key("image")]},
    )
    names = [[item.name for item in layer] for layer in graph.generations()]
    assert [set(layer) for layer in names] == [{"a", "b", "c"}, {"group"}, {"image"}]
    assert [[n.name for n in layer] for layer in graph.generations([key("b"), key("image")])] == [
        ["b"],
        ["image"],
    ]


def test_environments_of_a_shared_node() -> None:
    graph = BuildGraph(
        [node("one", "shared"), node("two", "shared"), node("shared")],
        {"first": [key("one")], "second": [key("two")]},
    )
    assert graph.environments(key("shared")) == ("first", "second")
    assert graph.environments(key("one")) == ("first",)


def test_equal_keys_are_one_node() -> None:
    assert len(BuildGraph([node("a"), node("a")], {})) == 1


def test_a_need_that_is_not_there_is_an_error() -> None:
    with pytest.raises(GraphError, match="not in the graph"):
        BuildGraph([node("a", "b")], {"train": [key("a")]})


def test_a_cycle_is_an_error() -> None:
    graph = BuildGraph([node("a", "b"), node("b", "a")], {"train": [key("a")]})
    with pytest.raises(GraphError, match=r"cycle: (a needs b, b needs a|b needs a, a needs b)$"):
        graph.generations()


def test_a_node_that_needs_itself_is_an_error() -> None:
    graph = BuildGraph([node("a", "a")], {})
    with pytest.raises(GraphError, match="a needs itself"):
        graph.generations()


def test_generations_need_every_node() -> None:
    with pytest.raises(GraphError, match="not in the graph"):
        BuildGraph([node("a", "b")], {}).generations()
