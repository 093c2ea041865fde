"""Bytes of a YAML file → nodes with marks, or every reason why not.

``yaml.load`` is never used: events of the C parser where it is there (the pure
one is five times slower) become nodes here, without recursion, so that deep
nesting, alias bombs and tags cost nothing and end in a message with a place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from envgraph.errors import SourceLocation
from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode
from envgraph.spec.problems import Problems, place, quoted
from envgraph.spec.templates import TEMPLATE, bare_templates, template_problem
from envgraph.spec.text import FORBIDDEN, decode, split_lines

MAX_DEPTH: Final = 100
MAX_NODES: Final = 100_000
"""Nodes after aliases are followed; the largest real environment file has 2,000."""

_CORE_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")
) | {"!"}


@dataclass(slots=True)
class _Open:
    """A collection that is being read."""

    node: MapNode | ListNode
    anchor: str | None
    flow: bool
    weight: int = 1
    key: Node | None = None
    merges: list[Node] = field(default_factory=list)
    template: bool = False


@dataclass(slots=True)
class _Composer:
    file: str
    problems: Problems
    text: str
    lines: list[str]
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    root: Node | None = None
    nodes: int = 0
    stopped: bool = False

    def stop(self, code: str, summary: str, line: int, column: int, hint: str = "") -> None:
        self.problems.add(code, summary, SourceLocation(self.file, line, column), hint=hint)
        self.stopped = True

    def open(self, event: Any, mapping: bool) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if len(self.stack) >= MAX_DEPTH:
            self.stop("too-deep", f"nested more than {MAX_DEPTH} levels deep", line, column)
            return
        self.check_tag(event, line, column)
        node: MapNode | ListNode
        node = MapNode([], line, column) if mapping else ListNode([], line, column)
        if event.anchor:
            self.anchors.pop(event.anchor, None)
            self.pending.add(event.anchor)
        opened = _Open(node, event.anchor, bool(event.flow_style))
        opened.template = mapping and self.line(line)[column - 1 : column + 1] == "{{"
        self.stack.append(opened)

    def line(self, number: int) -> str:
        return self.lines[number - 1] if number <= len(self.lines) else ""

    def check_tag(self, event: Any, line: int, column: int) -> None:
        if event.tag is not None and event.tag not in _CORE_TAGS:
            self.problems.add(
                "yaml-tag",
                f"the tag {_tag_text(event.tag)} is not allowed",
                SourceLocation(self.file, line, column),
                hint="write the plain value",
            )

    def close(self) -> None:
        done = self.stack.pop()
        node: Node = done.node
        if isinstance(node, MapNode):
            self.merge(node, done.merges)
            if done.template:
                node = self.as_template(node)
        if done.anchor:
            self.pending.discard(done.anchor)
            self.anchors[done.anchor] = (node, done.weight)
        self.add(node, done.weight)

    def as_template(self, node: MapNode) -> Node:
        """``{{name}}`` without quotes is YAML for a mapping in a mapping: not meant."""
        line = self.line(node.line)
        match = TEMPLATE.match(line, node.column - 1)
        text = match[0] if match else line[node.column - 1 :].strip()
        return ScalarNode(text, node.line, node.column)

    def merge(self, node: MapNode, merges: list[Node]) -> None:
        for value in merges:
            for source in value.items if isinstance(value, ListNode) else [value]:
                if not isinstance(source, MapNode):
                    self.problems.add(
                        "yaml-merge", "only a mapping can be merged by <<", place(self.file, source)
                    )
                    continue
                for key, item in source.pairs:
                    if key.value not in node.index:
                        node.pairs.append((key, item))
                        node.index[key.value] = item

    def scalar(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        self.check_tag(event, line, column)
        value = event.value
        if FORBIDDEN.search(value):  # written as an escape: "\\0" in a path stops the system
            self.problems.add(
                "control-character",
                "the text holds a control character",
                SourceLocation(self.file, line, column),
            )
            value = FORBIDDEN.sub("", value)
        node = ScalarNode(value, line, column, event.style in (None, ""))
        if event.anchor:
            self.anchors[event.anchor] = (node, 1)
        self.add(node, 1)

    def alias(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if event.anchor in self.pending:
            self.stop("yaml-alias", f"*{event.anchor} holds itself", line, column)
        elif event.anchor not in self.anchors:
            self.stop("yaml-alias", f"there is no anchor &{event.anchor}", line, column)
        else:
            self.add(*self.anchors[event.anchor], line=line, column=column)

    def add(self, node: Node, weight: int, line: int | None = None, column: int = 1) -> None:
        self.nodes += 1
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        top.weight += weight
        if top.weight > MAX_NODES or self.nodes > MAX_NODES:
            self.stop(
                "too-large", f"more than {MAX_NODES} values once aliases are followed",
                line or node.line, column,
            )  # fmt: skip
            return
        if isinstance(top.node, ListNode):
            top.node.items.append(node)
        elif top.key is None:
            top.key = node
        else:
            key, top.key = top.key, None
            self.pair(top, key, node)

    def pair(self, top: _Open, key: Node, value: Node) -> None:
        assert isinstance(top.node, MapNode)
        if not isinstance(key, ScalarNode):
            if not top.template:
                self.problems.add(
                    "yaml-key", "a key must be text", place(self.file, key),
                    hint="a template needs quotes: \"{{ … }}\"",
                )  # fmt: skip
            return
        if key.value == "<<" and key.plain:
            top.merges.append(value)
            return
        if key.value in top.node.index:
            first = next(k.line for k, _ in top.node.pairs if k.value == key.value)
            self.problems.add(
                "duplicate-key",
                f"the key {quoted(key.value)} was given before, in line {first}",
                place(self.file, key),
                hint="keep one of them",
            )
            return
        top.node.pairs.append((key, value))
        top.node.index[key.value] = value


def _tag_text(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)[:100]


def compose(text: str, file: str, problems: Problems) -> Node | None:
    """The one document of ``text``; None when it has problems that leave no tree.

    Some problems (duplicate keys, tags) still leave a tree, so that whatever else
    is wrong can be said too; ``problems.failed`` tells.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    lines = split_lines(text)
    composer = _Composer(file, problems, text, lines)
    documents = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.ScalarEvent):
                composer.scalar(event)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                composer.open(event, isinstance(event, yaml.MappingStartEvent))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                composer.close()
            elif isinstance(event, yaml.AliasEvent):
                composer.alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    mark: Any = event.start_mark
                    composer.stop(
                        "multi-document", "a second document begins here", mark.line + 1,
                        mark.column + 1, "one file holds one document: split the file at ---",
                    )  # fmt: skip
            if composer.stopped:
                return None
    except yaml.YAMLError as error:
        _syntax_problem(error, lines, file, problems)
        return None
    root = composer.root
    if root is None or (isinstance(root, ScalarNode) and root.is_null):
        problems.add("empty-file", "the file holds nothing", SourceLocation(file, 1, 1))
        return None
    return root


def _syntax_problem(error: Any, lines: list[str], file: str, problems: Problems) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    templates = bare_templates("\n".join(lines))
    if templates:
        for line, column, text in templates:
            template_problem(text, SourceLocation(file, line, column), problems)
        return
    summary = getattr(error, "problem", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    line = min(mark.line, len(lines) - 1) if mark is not None else 0
    hint = ""
    if "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())] or "'\\t'" in summary:
        hint = "YAML indents with spaces, never with tabs"
    elif "could not find expected ':'" in summary or "mapping values are not" in summary:
        hint = "check the indentation, and the quotes of a value that holds ': '"
    problems.add(
        "yaml-syntax",
        f"not YAML: {summary}" + (f" {context}" if context else ""),
        SourceLocation(file, line + 1, mark.column + 1 if mark is not None else None),
        hint=hint,
    )


def load_yaml(data: bytes, file: str, problems: Problems) -> tuple[Node | None, str]:
    """Bytes → root node and text. Templates in scalars stay: ``find_templates`` reports them."""
    text = decode(data, file, problems)
    return (None, "") if text is None else (compose(text, file, problems), text)
