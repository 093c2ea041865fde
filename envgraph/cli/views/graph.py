"""The build graph as dot, mermaid and JSON. Arrows point from what is needed to who needs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from envgraph.cli.views.console import harmless
from envgraph.model.canonical import NodeKey
from envgraph.model.graph import BuildGraph
from envgraph.model.nodes import Node

_SHAPES: Final[Mapping[str, str]] = {
    "base-image": "cylinder",
    "image": "box3d",
    "image-index": "folder",
    "layer-group": "component",
}


def _label(node: Node) -> str:
    if node.package is not None:
        return f"{node.package.name} {node.package.version}"
    return f"{node.kind} {node.name}"


def _ids(graph: BuildGraph) -> dict[NodeKey, str]:
    return {node.key: f"n{number}" for number, node in enumerate(graph)}


def as_dot(graph: BuildGraph) -> str:
    """For Graphviz."""
    ids = _ids(graph)
    lines = ["digraph envgraph {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    for node in graph:
        shape = f", shape={_SHAPES[node.kind]}" if node.kind in _SHAPES else ""
        lines.append(f"  {ids[node.key]} [label={_quoted(_label(node))}{shape}];")
    for node in graph:
        lines += [f"  {ids[need]} -> {ids[node.key]};" for need in node.needs]
    for number, (name, keys) in enumerate(graph.roots.items()):
        lines.append(f"  e{number} [label={_quoted(name)}, shape=plaintext];")
        lines += [f"  {ids[key]} -> e{number};" for key in keys]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + harmless(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def as_mermaid(graph: BuildGraph) -> str:
    """For Markdown."""
    ids = _ids(graph)
    lines = ["flowchart LR"]
    lines += [f'  {ids[node.key]}["{_entities(_label(node))}"]' for node in graph]
    for node in graph:
        lines += [f"  {ids[need]} --> {ids[node.key]}" for need in node.needs]
    for number, (name, keys) in enumerate(graph.roots.items()):
        lines.append(f'  e{number}(["{_entities(name)}"])')
        lines += [f"  {ids[key]} --> e{number}" for key in keys]
    return "\n".join([*lines, ""])


def _entities(text: str) -> str:
    return harmless(text).replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;")


def as_json(graph: BuildGraph) -> str:
    """``nodes`` with their ``needs``, and ``environments`` with their final nodes."""
    nodes = [
        {
            "key": str(node.key),
            "kind": node.kind,
            "name": node.name,
            "version": None if node.package is None else node.package.version,
            "size": node.size,
            "needs": [str(need) for need in node.needs],
            "environments": list(graph.environments(node.key)),
        }
        for node in graph
    ]
    environments = {name: [str(key) for key in keys] for name, keys in graph.roots.items()}
    document = {"format_version": "1", "nodes": nodes, "environments": environments}
    return json.dumps(document) + "\n"
