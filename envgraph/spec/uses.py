"""Where jobs, pipelines, components and deployments use an environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from envgraph.errors import SourceLocation
from envgraph.model.spec import EnvironmentSpec
from envgraph.spec import paths
from envgraph.spec.environment_file import parse_environment
from envgraph.spec.kinds import FLOW, kind_of_tree
from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode
from envgraph.spec.problems import place, quoted
from envgraph.spec.reading import Reading
from envgraph.spec.references import (
    BadEnvironmentReferenceError,
    EnvironmentReference,
    parse_environment_reference,
)
from envgraph.spec.templates import find_templates, has_template, template_problem
from envgraph.spec.yaml_text import load_yaml

_FILES: Final = frozenset({"component", "trial", "create_job"})
_LOCAL_FILE: Final = re.compile(r"(?!azureml:|https?:|git)\S.*\.ya?ml", re.IGNORECASE)
_NOT_BELOW: Final = frozenset(
    {
        "inputs", "outputs", "tags", "properties", "environment_variables", "resources",
        "search_space", "limits",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EnvironmentUse:
    """One ``environment:`` of a file: the keys that lead to it, and what it says."""

    where: str
    reference: EnvironmentReference | None = None
    inline: EnvironmentSpec | None = None
    source: SourceLocation | None = None


def environment_nodes(root: Node) -> list[tuple[str, Node]]:
    """Every value of a key ``environment``, with its path (``jobs.train.environment``)."""
    found: list[tuple[str, Node]] = []
    stack: list[tuple[str, Node]] = [("", root)]
    seen: set[int] = set()
    while stack:
        where, node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, ListNode):
            stack += [(f"{where}[{i}]", item) for i, item in enumerate(node.items)]
        elif isinstance(node, MapNode):
            for key, value in node:
                path = f"{where}.{key.value}" if where else key.value
                if key.value == "environment":
                    found.append((path, value))
                elif key.value not in _NOT_BELOW:
                    stack.append((path, value))
    return sorted(found, key=lambda item: (item[1].line, item[1].column))


def read_uses(
    root: Node, reading: Reading, file: str, reserved: tuple[str, ...] = ()
) -> tuple[EnvironmentUse, ...]:
    """Read and check every environment of a file; problems go to ``reading``.

    Those of local components, trials and jobs that it names come after its own. A name
    with a ``reserved`` prefix is a warning.
    """
    uses: list[EnvironmentUse] = []
    waiting: list[tuple[str, Node, str]] = [("", root, file)]
    seen = {paths.absolute(file)}
    while waiting:
        outer, tree, path = waiting.pop(0)
        for where, node in environment_nodes(tree):
            use = _read_use(outer + where, node, reading, path, reserved)
            if use is not None:
                uses.append(use)
        for where, node in _files_in(tree):
            below = _follow(outer + where, node, reading, path, seen)
            if below is not None:
                waiting.append((f"{outer}{where}.", *below))
    _check_names(uses, reading)
    return tuple(uses)


def _check_names(uses: Sequence[EnvironmentUse], reading: Reading) -> None:
    """Two environments of one name have to be the same: one of them would be lost."""
    found: dict[str, EnvironmentSpec] = {}
    for spec in (use.inline for use in uses if use.inline is not None):
        first = found.setdefault(spec.name, spec)
        if spec.name and first != spec:
            at = "" if first.source is None else f" (line {first.source.line})"
            reading.problems.add(
                "duplicate-name", f"{spec.name!r} is another environment here than before{at}",
                spec.source, hint="give one of them another name",
            )  # fmt: skip


def _files_in(root: Node) -> list[tuple[str, ScalarNode]]:
    """Every local YAML file that is named as a component, trial or job."""
    found: list[tuple[str, ScalarNode]] = []
    stack: list[tuple[str, Node]] = [("", root)]
    seen: set[int] = set()
    while stack:
        where, node = stack.pop()
        if id(node) in seen or isinstance(node, ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, ListNode):
            stack += [(f"{where}[{i}]", item) for i, item in enumerate(node.items)]
            continue
        for key, value in node:
            path = f"{where}.{key.value}" if where else key.value
            if key.value in _FILES and isinstance(value, ScalarNode):
                if _LOCAL_FILE.fullmatch(value.value.strip()):
                    found.append((path, value))
            elif key.value not in _NOT_BELOW and key.value != "environment":
                stack.append((path, value))
    return sorted(found, key=lambda item: (item[1].line, item[1].column))


def _follow(
    where: str, node: ScalarNode, reading: Reading, file: str, seen: set[str]
) -> tuple[Node, str] | None:
    """The tree and path of a named file; each file is read once."""
    text = node.value.strip()
    if has_template(text) or "${{" in text:
        return None
    text = text.removeprefix("file:").removeprefix("//")
    path = paths.joined(paths.folder_of(file), text)
    if paths.absolute(path) in seen:
        return None
    seen.add(paths.absolute(path))
    data = reading.read(path, place(file, node), where)
    if data is None:
        return None
    tree, _ = load_yaml(data, path, reading.problems)
    if isinstance(tree, MapNode) and kind_of_tree(tree) is FLOW:
        reading.problems.warn(
            "flow-environment", f"{where}: {path} is a prompt flow, whose environment is made by "
            "prompt flow: left alone", place(file, node),
        )  # fmt: skip
        return None
    return None if tree is None else (tree, path)


def _read_use(
    where: str, node: Node, reading: Reading, file: str, reserved: tuple[str, ...]
) -> EnvironmentUse | None:
    source = place(file, node)
    if isinstance(node, MapNode):
        find_templates(node, file, reading.problems)
        spec = parse_environment(node, reading, file, inline=True, reserved=reserved)
        return EnvironmentUse(where, None, spec, source)
    if isinstance(node, ListNode):
        reading.problems.add("type", f"{where} is a reference or a mapping, not a list", source)
        return None
    text = node.value.strip()
    if node.is_null or not text:
        reading.problems.add("no-environment", f"{where} is empty", source)
        return None
    if text.startswith("${{"):
        return EnvironmentUse(where, None, None, source)
    if has_template(text):
        template_problem(text, source, reading.problems)
        return None
    if text.startswith("file:"):
        return _read_file(where, text, node, reading, file, reserved)
    try:
        return EnvironmentUse(where, parse_environment_reference(text), None, source)
    except BadEnvironmentReferenceError as error:
        reading.problems.add(
            "environment-reference", f"{where}: {quoted(text)}: {error}", source,
            hint="write azureml:NAME:VERSION, azureml:NAME@LABEL or an inline environment",
        )  # fmt: skip
        return None


def _read_file(
    where: str,
    text: str,
    node: ScalarNode,
    reading: Reading,
    file: str,
    reserved: tuple[str, ...],
) -> EnvironmentUse | None:
    source = place(file, node)
    path = paths.joined(paths.folder_of(file), text.removeprefix("file:").removeprefix("//") or ".")
    data = reading.read(path, source, where)
    if data is None:
        return None
    root, _ = load_yaml(data, path, reading.problems)
    if not isinstance(root, MapNode):
        if root is not None:
            reading.problems.add("environment-shape", f"{path} holds no environment", source)
        return None
    find_templates(root, path, reading.problems)
    spec = parse_environment(root, reading, path, inline=True, reserved=reserved)
    return EnvironmentUse(where, None, spec, source)
