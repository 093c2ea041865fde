"""Schemas say what the readers say: the same keys, and every good file passes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import fastjsonschema
import jsonschema
import pytest

from envgraph.errors import InputError
from envgraph.spec import (
    conda_file,
    discover,
    drift_policy,
    environment_file,
    judge_file,
    load_environment,
    load_workspace,
    workspace_file,
)
from envgraph.spec.new_workspace import new_workspace, write_schemas
from envgraph.spec.nodes import ListNode, MapNode, Node
from envgraph.spec.problems import Problems
from envgraph.spec.reading import READ_ONLY
from envgraph.spec.schemas import NAMES, published
from envgraph.spec.schemas.fields import record, text
from envgraph.spec.yaml_text import load_yaml

Validate = Callable[[object], object]


def schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(published(name))
    return document


@pytest.fixture(scope="module")
def validators() -> Mapping[str, Validate]:
    return {name: fastjsonschema.compile(schema(name)) for name in NAMES}


def core(node: Node) -> object:
    """A tree as an editor's YAML 1.2 parser gives it."""
    if isinstance(node, ListNode):
        return [core(item) for item in node.items]
    if isinstance(node, MapNode):
        return {key.value: core(value) for key, value in node}
    if node.is_null:
        return None
    if not node.plain:
        return node.value
    if node.value in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return node.value.lower() == "true"
    if re.fullmatch(r"[-+]?[0-9]+", node.value):
        return int(node.value)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", node.value):
        return float(node.value)
    return node.value


def value_of(data: bytes) -> object:
    tree, _ = load_yaml(data, "x.yml", Problems())
    assert tree is not None
    return core(tree)


def test_the_schemas_name_the_keys_that_the_readers_know() -> None:
    environment = schema("environment.json")["definitions"]
    assert set(environment["environment"]["properties"]) == environment_file.KNOWN
    others = set(conda_file.OTHER_TOOLS)
    assert set(environment["conda"]["properties"]) == conda_file.KNOWN | others
    assert set(schema("workspace.json")["properties"]) == workspace_file.KNOWN
    policy = schema("drift-policy.json")
    assert set(policy["properties"]) == drift_policy.KNOWN
    assert set(policy["definitions"]["allowance"]["properties"]) == drift_policy.ENTRY


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(schema(name))


def test_a_key_that_only_one_of_the_two_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="'b'"):
        record({"a", "b"}, {"a": text()})
    with pytest.raises(ValueError, match="'c'"):
        record({"a"}, {"a": text(), "c": text()})


def unknown(diagnostics: Iterable[Any]) -> list[str]:
    return [d.summary for d in diagnostics if d.code == "unknown-key"]


def closed_objects(node: object, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    """Every key of the mappings that take no others, as a path into a file."""
    if isinstance(node, list):
        for item in node:
            yield from closed_objects(item, path)
    if not isinstance(node, dict):
        return
    for part in ("anyOf", "items", "additionalProperties"):
        if isinstance(node.get(part), (list, dict)):
            yield from closed_objects(node[part], path)
    for key, value in node.get("properties", {}).items():
        if node.get("additionalProperties") is False:
            yield (*path, key)
        yield from closed_objects(value, (*path, key))


def test_the_readers_know_every_key_of_the_schemas(tmp_path: Path) -> None:
    """Each key, nested ones too, in a file of its own: no reader calls it unknown."""
    environment = schema("environment.json")["definitions"]
    files = [
        ("environment.yml", environment["environment"], {"name": "x"}),
        ("conda.yml", environment["conda"], {"dependencies": ["x"]}),
        ("envgraph.yaml", schema("workspace.json"), {}),
    ]
    tried = 0
    for file, start, beside in files:
        for path in closed_objects(start):
            value: object = "x"
            for key in reversed(path):
                value = {key: value}
            assert isinstance(value, dict)
            (tmp_path / file).write_text(json.dumps({**beside, **value}))
            found = load_environment(tmp_path / file).diagnostics
            if file == "envgraph.yaml":
                found = load_workspace(tmp_path)[1]
            assert unknown(found) == [], path
            tried += 1
    for key in schema("drift-policy.json")["definitions"]["allowance"]["properties"]:
        policy = tmp_path / "drift-policy.yaml"
        policy.write_text(json.dumps({"allow": [{key: "x"}]}))
        with pytest.raises(InputError) as caught:
            drift_policy.load_drift_policy(policy)
        assert unknown(caught.value.diagnostics) == []
        tried += 1
    assert tried > 60


GOOD = """\
name: train
version: 1.10
description: 5
tags: {a: {b: 1}}
image: python:3.12
conda_file:
  channels: conda-forge
  dependencies: [python=3.12, 'sel(linux)': x, pip: [-r req.txt]]
  variables: {A: 1, B: }
docker_steps: [RUN true]
environment_variables: {A: 1, B: yes, C: }
inference_config: &i
  liveness_route: {port: 80, path: /}
  readiness_route: {port: '80', path: /}
  scoring_route: {port: 80, path: /}
os_type: LINUX
platforms: linux-64
properties:
"""


def test_what_the_reader_takes_passes(validators: Mapping[str, Validate]) -> None:
    validate = validators["environment.json"]
    data = GOOD.replace("'sel(linux)': x", "{'sel(linux)': x}").replace("pip: [", "{pip: [")
    data = data.replace("req.txt]]", "req.txt]}]")
    validate(value_of(data.encode()))
    validate({"dependencies": ["python", 3]})
    validate({"name": "a", "build": {"path": "."}, **dict.fromkeys(READ_ONLY)})
    validators["workspace.json"](
        value_of(
            b"workspace: a\nid: '12345678'\nenvironments: '*.yml'\nplatforms: [linux-64]\n"
            b"virtual_packages: {linux-64: {__cuda: 12.4, __glibc: , __x: false}}\n"
            b"registry: {type: oci, url: h/p}\nregistries: {r: {type: dirs, path: ../x}}\n"
            b"base_images: Follow\nimage: {max_layers: 4, compression: GZIP}\n"
            b"secrets: {a: env:B, c: file:d}\nchannels:\n"
        )
    )
    validators["drift-policy.json"](
        value_of(b"max_age_days: 5\nallow:\n- {code: package-gone, until: 2026-12-31, reason: r}\n")
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("environment.json", "name: a\n"),
        ("environment.json", "image: x\n"),
        ("environment.json", "name: a\nimage: x\nimagee: y\n"),
        ("environment.json", "name: a/b\nimage: x\n"),
        ("environment.json", "name: a\nimage: [x]\n"),
        ("environment.json", "name: a\nbuild: {pth: x}\n"),
        ("environment.json", "name: a\nimage: x\nplatforms: [linux-65]\n"),
        ("environment.json", "name: a\nimage: x\nos_type: solaris\n"),
        ("environment.json", "name: a\nimage: x\nenvironment_variables: {A: [b]}\n"),
        ("environment.json", "name: a\nimage: x\ninference_config: {scoring_route: }\n"),
        ("environment.json", "name: a\nimage: x\nconda_file: {}\n"),
        ("environment.json", "name: a\nimage: x\nconda_file: {dependencies: [{pip: x}]}\n"),
        ("environment.json", "dependencies: {a: b}\n"),
        ("environment.json", "dependencies: []\nchanels: []\n"),
        ("workspace.json", "id: x\n"),
        ("workspace.json", "workspace: A\n"),
        ("workspace.json", "workspace: a\nbase_images: freez\n"),
        ("workspace.json", "workspace: a\nimage: {max_layers: 3}\n"),
        ("workspace.json", "workspace: a\nregistry: {url: x}\n"),
        ("workspace.json", "workspace: a\nsecrets: {a: hunter2}\n"),
        ("workspace.json", "workspace: a\nvirtual_packages: {linux-64: {cuda: 1}}\n"),
        ("drift-policy.json", "max_age_days: -1\n"),
        ("drift-policy.json", "allow: [{code: package-gone}]\n"),
        ("drift-policy.json", "allow: [{code: nonsense, reason: r}]\n"),
    ],
)
def test_what_the_reader_refuses_fails(
    name: str, data: str, validators: Mapping[str, Validate], tmp_path: Path
) -> None:
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        validators[name](value_of(data.encode()))
    path = tmp_path / {"environment.json": "e.yml", "workspace.json": "envgraph.yaml"}.get(
        name, "drift-policy.yaml"
    )
    path.write_text(data)
    if name == "environment.json":
        assert load_environment(path).spec is None
    elif name == "workspace.json":
        assert any(d.severity == "error" for d in load_workspace(tmp_path)[1])
    else:
        with pytest.raises(InputError):
            drift_policy.load_drift_policy(path)


def test_valid_files_of_the_corpus_pass(corpus: Path, validators: Mapping[str, Validate]) -> None:
    passed = 0
    failed: list[str] = []
    for path in sorted(corpus.rglob("*")):
        if not path.is_file() or path.suffix.lower() not in (".yml", ".yaml"):
            continue
        judged = judge_file(path)
        if judged.verdict != "valid" or judged.kind not in ("environment", "conda"):
            continue
        try:
            validators["environment.json"](value_of(path.read_bytes()))
            passed += 1
        except fastjsonschema.JsonSchemaValueException as error:
            failed.append(f"{path.name}: {error}")
    assert failed == []
    assert passed > 300


def test_a_new_workspace_passes_and_points_at_schemas_that_are_there(
    tmp_path: Path, validators: Mapping[str, Validate]
) -> None:
    new_workspace(tmp_path, "fresh")
    config, _ = load_workspace(tmp_path)
    files = [*discover(config), tmp_path / "envgraph.yaml"]
    assert len(files) == 2
    for file in files:
        first = file.read_text().splitlines()[0]
        named = (file.parent / first.removeprefix("# yaml-language-server: $schema=")).resolve()
        assert named.is_file()
        validators[named.name](value_of(file.read_bytes()))


def test_the_commented_settings_of_a_new_workspace_are_good_too(
    tmp_path: Path, validators: Mapping[str, Validate]
) -> None:
    new_workspace(tmp_path, "fresh")
    text_ = (tmp_path / "envgraph.yaml").read_text()
    bare = re.sub(r"(?m)^# ([a-z_]+:|  )", r"\1", text_)
    validators["workspace.json"](value_of(bare.encode()))
    (tmp_path / "envgraph.yaml").write_text(bare)
    assert load_workspace(tmp_path)[1] == ()


def test_schemas_are_written_anew(tmp_path: Path) -> None:
    new_workspace(tmp_path, "fresh", example=False)
    assert write_schemas(tmp_path) == []
    old = tmp_path / ".envgraph/schema/environment.json"
    old.write_text("{}")
    assert write_schemas(tmp_path) == [old]
    assert old.read_text() == published("environment.json")
