"""YAML as marked text: hostile and odd files end in one clear message with a place."""

from __future__ import annotations

import pytest

from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode
from envgraph.spec.problems import MOST, Problems
from envgraph.spec.templates import find_templates
from envgraph.spec.yaml_text import MAX_NODES, load_yaml


def parse(data: str | bytes) -> tuple[Node | None, list[str], Problems]:
    problems = Problems()
    raw = data.encode() if isinstance(data, str) else data
    root, _ = load_yaml(raw, "f", problems)
    return root, [f"{d.source} {d.code}" for d in problems.result()], problems


def plain(node: Node | None) -> object:
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    assert isinstance(node, MapNode)
    return {key.value: plain(value) for key, value in node}


def test_there_are_no_implicit_types() -> None:
    root, codes, _ = parse(
        "a: 3.10\nb: no\nc: 1e400\nd: 0o17\ne: 2026-11-23\nf: ~\ng: on\nh: 1_0\n"
    )
    assert codes == []
    assert plain(root) == {
        "a": "3.10", "b": "no", "c": "1e400", "d": "0o17", "e": "2026-11-23", "f": "~", "g": "on",
        "h": "1_0",
    }  # fmt: skip
    assert isinstance(root, MapNode)
    assert root.get("f") is None
    assert root.index["b"].boolean is False  # type: ignore[union-attr]


def test_marks_count_from_one_and_characters_not_bytes() -> None:
    root, _, _ = parse("é: {ü: x}\n- ".replace("\n- ", "\nb:\n  - c\n"))
    assert isinstance(root, MapNode)
    inner = root.index["é"]
    assert (inner.line, inner.column) == (1, 4)
    item = root.index["b"].items[0]  # type: ignore[union-attr]
    assert (item.line, item.column) == (3, 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a: 1\nb: 2\na: 3\n", ["f:3:1 duplicate-key"]),
        (b"a: {b: 1, b: 2}\n", ["f:1:11 duplicate-key"]),
        (b"a: !!python/object/apply:os.system [id]\n", ["f:1:4 yaml-tag"]),
        (b"a: !!python/name:os.system ''\nb: !mine 1\n", ["f:1:4 yaml-tag", "f:2:4 yaml-tag"]),
        (b"a: !!binary aGk=\n", ["f:1:4 yaml-tag"]),
        (b"a: b\n\tc: d\n", ["f:2:1 yaml-syntax"]),
        (b"a:\n\tb: d\n", ["f:2:1 yaml-syntax"]),
        ("a: 1\n".encode("utf-16"), ["f:1:1 encoding"]),
        (b"a: 1\nb: caf\xe9\n", ["f:2:7 encoding"]),
        (b"a: 1\nb: \x00\n", ["f:2:4 control-character"]),
        (b"a: \x1b[31m\n", ["f:1:4 control-character"]),
        (b'a: "\\0"\nb: "\\e"\n', ["f:1:4 control-character", "f:2:4 control-character"]),
        (b"a: 1\n---\nb: 2\n", ["f:2:1 multi-document"]),
        (b"", ["f:1:1 empty-file"]),
        (b"# nothing\n", ["f:1:1 empty-file"]),
        (b"---\n...\n", ["f:1:1 empty-file"]),
        (b"a: *b\n", ["f:1:4 yaml-alias"]),
        (b"a: &a [*a]\n", ["f:1:8 yaml-alias"]),
        (b"a: &a {b: *a}\n", ["f:1:11 yaml-alias"]),
        (b"? [a, b]\n: c\nd: e\n", ["f:1:3 yaml-key"]),
        (b"<<: 3\na: 1\n", ["f:1:5 yaml-merge"]),
        (b'a: "b\nc: d\n', ["f:3:1 yaml-syntax"]),
        (b"a: " + b"[" * 100_000, ["f:1:103 too-deep"]),
        (b"a: " + b"{x: " * 100_000, ["f:1:400 too-deep"]),
        (b"- " * 100_000, ["f:1:201 too-deep"]),
    ],
)  # fmt: skip
def test_what_is_refused_names_its_place(text: bytes, expected: list[str]) -> None:
    assert parse(text)[1] == expected


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfa: 1\n", b"a: 1\r\n", b"a: 1\r", b"a: 1", b"---\na: 1\n...\n",
        b"%YAML 1.1\n---\na: 1\n", b"a: &x 1\n", b"'a': \"1\"\n", b"a: >-\n  1\n", b"{a: 1}\n",
        b"a: !!str 1\n", b"a: !!int 1\n", b"a: 1 # comment\n",
    ],
)  # fmt: skip
def test_what_is_accepted_is_the_same(text: bytes) -> None:
    root, codes, _ = parse(text)
    assert codes == []
    assert plain(root) == {"a": "1"}


def test_anchors_and_merges_are_followed() -> None:
    root, codes, _ = parse("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: [*x, {c: 4}]}\n")
    assert codes == []
    assert plain(root) == {
        "x": {"a": "1", "b": "2"},
        "y": {"b": "3", "a": "1"},
        "z": {"a": "1", "b": "2", "c": "4"},
    }


def test_an_alias_bomb_costs_nothing() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 40):
        lines.append(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9) + "]")
    root, codes, _ = parse("\n".join(lines))
    assert root is None
    assert [code.split()[1] for code in codes] == ["too-large"]


def test_a_file_of_too_many_values_is_refused() -> None:
    root, codes, _ = parse("- x\n" * (MAX_NODES + 10))
    assert root is None
    assert codes == [f"f:{MAX_NODES + 1}:3 too-large"] or codes[0].endswith("too-large")


def test_problems_are_bounded() -> None:
    _, codes, _ = parse("a: 1\n" * 5000)
    assert len(codes) == MOST + 1
    assert any(code.endswith("too-many") for code in codes)


def test_lines_are_counted_as_yaml_counts_them() -> None:
    """A Unicode line separator in a comment must not shift or break anything."""
    root, codes, _ = parse("# a\u2028# b\u0085# c\nd: {e: f}\n")
    assert codes == []
    assert isinstance(root, MapNode)
    assert root.line == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: '{{x}}'\n", [("f:1:4", "{{x}}")]),
        ("a: {{x}}\n", [("f:1:4", "{{x}}")]),
        ("a: {{ x.y }}\nb: 1\n", [("f:1:4", "{{ x.y }}")]),
        (
            "a: {{x}}/y:{{z}}\nb: '{{q}}'\n",
            [("f:1:4", "{{x}}"), ("f:1:12", "{{z}}"), ("f:2:5", "{{q}}")],
        ),
        ("a: {% if x %}1{% endif %}\n", [("f:1:4", "{% if x %}"), ("f:1:15", "{% endif %}")]),
        ("- pip:\n  - a=={{v}}\n", [("f:2:5", "{{v}}")]),
        ("a: '{{never ends'\n", [("f:1:4", "{{never ends")]),
        ("a: '{{x}} {{y}}'\n", [("f:1:4", "{{x}}"), ("f:1:4", "{{y}}")]),
        ("a: ${{inputs.x}}\n", []),
    ],
)
def test_templates_are_reported_as_templates(text: str, expected: list[tuple[str, str]]) -> None:
    problems = Problems()
    root, _ = load_yaml(text.encode(), "f", problems)
    if root is not None:
        find_templates(root, "f", problems)
    found = [(str(d.source), d.summary.partition(" is a template")[0]) for d in problems.result()]
    assert found == expected
    assert {d.code for d in problems.result()} <= {"template"}


def test_the_first_problem_of_each_kind_has_a_hint() -> None:
    for text in ("a:\n\tb: 1\n", "a: 1\na: 2\n", "a: {{x}}-{{y}}\n", "a: 1\n---\nb: 1\n"):
        _, _, problems = parse(text)
        assert problems.result()[0].hint, text
