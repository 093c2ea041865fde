"""Whatever the bytes, the answer is a value and diagnostics: no exception, no endless work."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from envgraph.spec import judge_file, load_environment, load_workspace
from envgraph.spec.match_spec import normal_form, requirement_problem
from envgraph.spec.problems import MOST
from envgraph.spec.references import BadEnvironmentReferenceError, parse_environment_reference

KEYS = st.sampled_from(
    ["name", "image", "conda_file", "build", "path", "dependencies", "channels", "pip", "tags",
     "version", "docker_steps", "platforms", "inference_config", "environment", "command", "jobs",
     "variables", "environment_variables", "os_type", "<<", "type", "workspace", "registry", "x",
     "virtual_packages", "linux-64", "secrets", "scoring_route", "port"]
)  # fmt: skip
SCALARS = st.sampled_from(
    ["", "a", "3.10", "no", "~", "{{t}}", "'{{t}}'", "-r x.txt", "-e .", "a=1", "a==1", "*a",
     "!!python/name:x ''", "https://u:p@h/x", "sel(linux)", '"\\x00"', "[", "}", "a: b", "\t", "é",
     "oci:x", "scratch", "python:3", "azureml:a:1", "file:x", ".", "../x", "COPY a b", "RUN x", "|",
     "&a b",
     ">-", "# [linux]", "%", "@", "`", "\u2028", "- -", "? x", "0x1F", "1e400"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: "[" + ", ".join(v) + "]")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda v: "{" + ", ".join(f"{k}: {x}" for k, x in v.items()) + "}"
        )
    ),
    max_leaves=6,
)
BLOCK = st.lists(
    st.tuples(st.sampled_from(["", "  ", "- ", "  - ", "\t"]), KEYS, VALUES).map(
        lambda t: f"{t[0]}{t[1]}: {t[2]}\n"
    ),
    max_size=8,
).map(lambda lines: "".join(lines).encode())
TEXTS = st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass"))


def check(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        if name == "envgraph.yaml":
            config, problems = load_workspace(folder)
            assert config.platforms
        else:
            result = load_environment(path)
            problems = result.diagnostics
            assert (result.spec is None) is any(d.severity == "error" for d in problems)
            judge_file(path)
        assert len(problems) <= MOST + 1
        for d in problems:
            assert d.source is not None
            assert d.code
            assert d.summary
            for text in (d.summary, d.detail, d.hint):
                assert all(c.isprintable() or c == "\n" for c in text), d


@pytest.mark.parametrize(
    "name", ["environment.yml", "MLmodel", "requirements.txt", "envgraph.yaml"]
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BLOCK | st.binary(max_size=200) | TEXTS)
@example(b"dependencies:\n- pip:\n  - '\x1b[31m'\n")
@example("name: \u202eabc\nimage: x\n".encode())
@example(b"dependencies: [a, {pip: [-r /dev/zero]}]\n")
@example(b"dependencies: [a, {pip: [-r /proc/self/environ, -e /proc]}]\n")
def test_any_bytes(name: str, data: bytes) -> None:
    check(data, name)


LONG = 60_000
PATTERNS = {
    "spaces": ("a", " ", "b"),
    "brackets": ("./", "[a]", ""),
    "parentheses": ("a; ", "(", ""),
    "equals": ("a", "=", ""),
    "at": ("", "a@", ""),
    "commas": ("a", ",>=1", ""),
    "names": ("", "a-", "!"),
    "schemes": ("", "https://", ""),
    "tokens": ("https://h", "/t/", ""),
    "query": ("https://h?", "token", ""),
    "query keys": ("https://h?", "a=&", ""),
    "passwords": ("https://", "a:", ""),
    "globs": ("COPY ", "*/", "x /y"),
    "flags": ("COPY ", "--a=b ", "x"),
    "templates": ("", "{{", ""),
    "comments": ("a ", "# [", ""),
    "colons": ("azureml:", ":", ""),
    "options": ("--find-links ", "= ", ""),
    "hashes": ("a", " --hash=", ""),
    "nul": ("./", "\\0", ""),
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize(
    "around",
    [
        "dependencies: [python, {pip: [%s]}]\n", "dependencies: [%s]\n",
        "channels: [%s]\ndependencies: [a]\n", "name: a\nimage: x\ndocker_steps: [%s]\n",
        "name: %s\nimage: x\n", "name: a\nimage: %s\n", "name: a\nimage: x\nconda_file: %s\n",
        "name: a\nbuild: {path: %s}\n", "command: x\nenvironment: %s\n",
        "name: a\nimage: oci:%s\n", "dependencies:\n- a # %s\n",
    ],
)  # fmt: skip
def test_long_runs_cost_what_they_are_long(name: str, around: str) -> None:
    """Each took minutes, or the parser's stack, in some place before it was bounded."""
    head, piece, tail = PATTERNS[name]
    text = head + piece * (LONG // len(piece)) + tail
    check((around % f'"{text}"').encode(), "environment.yml")


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60) | st.text("a0=<>!~*.,|[]()' :-", max_size=30))
def test_any_requirement(text: str) -> None:
    normal = normal_form(text)
    assert normal_form(normal) == normal
    requirement_problem(normal)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60) | st.text("azureml:/@versionslab", max_size=40))
def test_any_reference(text: str) -> None:
    try:
        reference = parse_environment_reference(text)
    except BadEnvironmentReferenceError:
        return
    assert parse_environment_reference(str(reference)) == reference
