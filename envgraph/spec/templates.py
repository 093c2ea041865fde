"""Templates that nothing has filled in: ``{{…}}`` and ``{%…%}``, quoted or breaking the YAML.

``${{…}}`` is an expression that Azure ML fills in when it runs a command or a job, and
no template there. What an environment is (:data:`SETTLED`) no job fills in: there it is one.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final, Literal

from envgraph.errors import SourceLocation
from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode
from envgraph.spec.problems import Problems, place
from envgraph.spec.text import split_lines

_Where = Literal["top", "settled", "open"]

TEMPLATE: Final = re.compile(r"(?<!\$)\{\{[^{}]{0,500}\}\}|\{%[^{}]{0,500}?%\}")
_EITHER: Final = re.compile(r"\$?\{\{[^{}]{0,500}\}\}|\{%[^{}]{0,500}?%\}")
_OPEN_EITHER: Final = re.compile(r"\$?\{\{|\{%")
SETTLED: Final = frozenset(
    {"name", "version", "image", "conda_file", "build", "channels", "dependencies"}
)
"""Keys of environment and conda files whose values are fixed before any job is there."""

_OPEN_TEMPLATE: Final = re.compile(r"(?<!\$)\{\{|\{%")
_BARE_TEMPLATE: Final = re.compile(
    r"^[ \t]*(?:-[ \t]+)*(?:[^\s'\"#{][^'\"#{]*:[ \t]+)?(?:\{\{|\{%)", re.MULTILINE
)


def template_problem(text: str, source: SourceLocation, problems: Problems) -> None:
    """Report one unfilled template by its text and place."""
    problems.add(
        "template",
        f"{text[:120]} is a template that nothing has filled in",
        source,
        hint="render the file with the tool that made it, or write the value itself",
    )


def templates_in(text: str, *, settled: bool = False) -> list[str]:
    """The first templates of a text; one that never ends is given as it begins.

    ``settled``: expressions are templates too.
    """
    opened = (_OPEN_EITHER if settled else _OPEN_TEMPLATE).search(text)
    if opened is None:
        return []
    pattern = _EITHER if settled else TEMPLATE
    found = [match[0] for match in islice(pattern.finditer(text), 20)]
    return found or [text[opened.start() : opened.start() + 80]]


def has_template(text: str) -> bool:
    """Whether ``text`` holds an unfilled template, whole or cut."""
    return _OPEN_TEMPLATE.search(text) is not None


def is_unfilled(text: str) -> bool:
    """Whether a settled value holds a template or an expression, whole or cut."""
    return _OPEN_EITHER.search(text) is not None


def bare_templates(text: str) -> list[tuple[int, int, str]]:
    """All templates of a text, when one without quotes breaks the YAML: line, column, text."""
    if _BARE_TEMPLATE.search(text) is None:
        return []
    found = []
    for number, line in enumerate(split_lines(text), 1):
        if line.lstrip().startswith("#"):
            continue
        found += [(number, match.start() + 1, match[0]) for match in TEMPLATE.finditer(line)]
    return found or [(1, 1, "{{")]


def find_templates(node: Node, file: str, problems: Problems) -> None:
    """Report every template in the scalars of an environment's or a conda file's tree."""
    stack: list[tuple[Node, _Where]] = [(node, "top")]
    seen: set[tuple[int, _Where]] = set()
    while stack:
        item, where = stack.pop()
        if (id(item), where) in seen:
            continue
        seen.add((id(item), where))
        if isinstance(item, ScalarNode):
            for text in templates_in(item.value, settled=where == "settled"):
                template_problem(text, place(file, item), problems)
        elif isinstance(item, ListNode):
            below: _Where = "settled" if where == "settled" else "open"
            stack += [(value, below) for value in reversed(item.items)]
        else:
            for key, value in reversed(item.pairs):
                stack += [(value, _below(key, value, where)), (key, where)]


def _below(key: ScalarNode, value: Node, where: _Where) -> _Where:
    if where != "top":
        return where
    if key.value == "conda_file" and isinstance(value, MapNode):
        return "top"
    return "settled" if key.value in SETTLED else "open"
