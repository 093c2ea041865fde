"""An environment made in code → EnvironmentSpec, by the reader of files.

Python values become the nodes that a file's text would have become, so every rule and
every message is the same; in place of a line, a problem names the field::

    Environment('train').conda_file.dependencies[2]
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from envgraph.model.addresses import masked
from envgraph.model.config import WorkspaceConfig
from envgraph.spec.environment_file import parse_environment
from envgraph.spec.load import LoadResult
from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode
from envgraph.spec.problems import place
from envgraph.spec.reading import Reading
from envgraph.spec.templates import find_templates
from envgraph.spec.text import FORBIDDEN
from envgraph.spec.yaml_text import MAX_DEPTH, MAX_NODES

_SHOWN: Final = 60
"""Characters of a name or key in the name of a field."""


def load_values(values: Mapping[str, object], config: WorkspaceConfig) -> LoadResult:
    """Read an environment from the keys that an Azure ML environment file has.

    Texts, numbers, booleans (``true``), paths, None (not there), mappings and lists;
    anything else is a problem. Relative paths start at the workspace's folder. Never
    raises for what the values hold; all problems come at once.
    """
    reading = Reading()
    title = f"Environment({_shown(str(values.get('name') or ''))})"
    root = _Maker(reading, title).mapping(values, title, 0)
    if isinstance(values.get("version"), float):
        reading.problems.add(
            "version", "a version that is a number loses its last zeros",
            place(title, root.get("version")), hint='write it as text: "1.10"',
        )  # fmt: skip
    find_templates(root, title, reading.problems)
    spec = parse_environment(root, reading, title, folder=config.root)
    inputs = tuple(reading.inputs)
    problems = reading.problems
    if problems.failed:
        return LoadResult(None, problems.result(), inputs)
    return LoadResult(replace(spec, inputs=inputs), problems.result(), inputs)


def _shown(text: str) -> str:
    text = masked(text)
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…")


class _Maker:
    """Makes nodes of values; what cannot be one is a problem and an empty text."""

    def __init__(self, reading: Reading, file: str) -> None:
        self.problems = reading.problems
        self.file = file
        self.count = 0

    def node(self, value: object, where: str, depth: int) -> Node:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_NODES:
            return self.wrong("too-large", "the value holds too much, or itself", where)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if value is None:
            return ScalarNode("", 1, 1, True, where)
        if isinstance(value, bool):
            return ScalarNode("true" if value else "false", 1, 1, False, where)
        if isinstance(value, str | int | float):
            return self.text(str(value), where)
        if isinstance(value, Mapping):
            return self.mapping(value, where, depth)
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            items = [self.node(v, f"{where}[{n}]", depth + 1) for n, v in enumerate(value)]
            return ListNode(items, 1, 1, where)
        return self.wrong(
            "type", f"a {type(value).__name__} cannot be here",
            where, "give text, a number, a list or a mapping",
        )  # fmt: skip

    def mapping(self, values: Mapping[object, object] | Mapping[str, object], where: str,
                depth: int) -> MapNode:  # fmt: skip
        made = MapNode([], 1, 1, {}, where)
        for key, value in values.items():
            if not isinstance(key, str | int | float):
                self.wrong("type", f"a key is text, and not a {type(key).__name__}", where)
                continue
            word = str(key)
            plain = word.isidentifier() and len(word) <= _SHOWN
            below = f"{where}.{word}" if plain else f"{where}[{_shown(word)}]"
            name = self.text(word, below)
            node = self.node(value, below, depth + 1)
            made.pairs.append((name, node))
            made.index[name.value] = node
        return made

    def text(self, text: str, where: str) -> ScalarNode:
        """A scalar that means its text, and never YAML's null."""
        bad = FORBIDDEN.search(text)
        if bad is not None:
            return self.wrong(
                "control-character", f"the text holds the character U+{ord(bad[0]):04X}", where
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            return self.wrong("encoding", "the text cannot be written as UTF-8", where)
        return ScalarNode(text, 1, 1, False, where)

    def wrong(self, code: str, summary: str, where: str, hint: str = "") -> ScalarNode:
        node = ScalarNode("", 1, 1, True, where)
        self.problems.add(code, summary, place(self.file, node), hint=hint)
        return node
