"""Templates that nothing has filled in: ``{{…}}`` and ``{%…%}``, quoted or breaking the YAML.

``${{…}}`` is an expression of Azure ML, not a template.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from envgraph.errors import SourceLocation
from envgraph.spec.nodes import ListNode, Node, ScalarNode
from envgraph.spec.problems import Problems, place
from envgraph.spec.text import split_lines

TEMPLATE: Final = re.compile(r"(?<!\$)\{\{[^{}]{0,500}\}\}|\{%[^{}]{0,500}?%\}")
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


def templates_in(text: str) -> list[str]:
    """The first templates of a text; one that never ends is given as it begins."""
    opened = _OPEN_TEMPLATE.search(text)
    if opened is None:
        return []
    found = [match[0] for match in islice(TEMPLATE.finditer(text), 20)]
    return found or [text[opened.start() : opened.start() + 80]]


def has_template(text: str) -> bool:
    """Whether ``text`` holds an unfilled template, whole or cut."""
    return _OPEN_TEMPLATE.search(text) is not None


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
    """Report every template in the scalars of a tree."""
    stack: list[Node] = [node]
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, ScalarNode):
            for text in templates_in(item.value):
                template_problem(text, place(file, item), problems)
        elif isinstance(item, ListNode):
            stack.extend(reversed(item.items))
        else:
            for key, value in reversed(item.pairs):
                stack += [value, key]
