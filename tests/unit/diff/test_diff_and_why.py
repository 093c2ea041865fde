"""What differs, and which inputs explain it: values in, values out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envgraph.diff.deciding import deciding
from envgraph.diff.versions import Lines, Side, compare_lines, compare_versions
from envgraph.diff.why import (
    definition_inputs,
    definition_key,
    explain,
    explain_image,
    image_inputs,
    lock_inputs,
    lock_key,
)
from envgraph.model.canonical import digest_of
from envgraph.model.identity import DEFINITION_SCHEMA, lock_identity
from envgraph.model.locked import LockedBase, LockedContext, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

BASE = LockedBase("docker.io/library/python:3.12", Digest.of(b"base"), "", Digest.of(b"config"))


def package(name: str, version: str = "1.0", *, direct: bool = False) -> LockedPackage:
    return LockedPackage(
        manager="conda", name=name, version=version, build="0", subdir="noarch",
        sha256=Digest.of(f"{name} {version}".encode()), channel="demo", direct=direct,
    )  # fmt: skip


def side(
    *packages: LockedPackage,
    asked: tuple[str, ...] = ("alpha",),
    base: LockedBase = BASE,
    steps: tuple[str, ...] = (),
    variables: Mapping[str, str] = {},
    **more: Any,
) -> Side:
    document = {
        "base": base.reference,
        "build": None,
        "steps": [{"instruction": step, "inputs": []} for step in steps],
        "conda": {
            "channels": ["demo"],
            "dependencies": [{"text": text, "selector": ""} for text in asked],
            "pip": [],
        },
    }
    definition = digest_of(DEFINITION_SCHEMA, document)
    lock = LockedEnvironment(definition, definition, "linux-64", base, packages, steps)
    runtime = {"environment_variables": dict(variables), "inference_config": None}
    made = Side(
        "train:1", lock, lock_identity(lock), definition, document,
        digest_of("runtime/1", runtime), runtime, lock_identity(lock), "", {}, {},
        tuple((p.sha256, 10) for p in packages),
    )  # fmt: skip
    return replace(made, **more)


def test_a_diff_goes_from_metadata_to_packages() -> None:
    other = LockedBase("docker.io/library/python:3.13", Digest.of(b"other"), "", Digest.of(b"c"))
    before = side(
        package("alpha", direct=True), package("beta"), package("gone"), steps=("RUN true",),
        variables={"A": "1", "B": "2"}, metadata={"description": "old", "tags.t": "1"},
        base_labels={"v": "1", "same": "x"},
    )  # fmt: skip
    after = side(
        package("alpha", "2.0", direct=True), package("beta", "1.1"), package("new"), base=other,
        asked=("alpha >=2",), variables={"A": "1", "C": "3"}, metadata={"description": "new"},
        base_labels={"v": "2", "same": "x"},
    )  # fmt: skip
    document = compare_versions(before, after).to_json()
    assert document["same_definition"] is False
    assert document["same_lock"] is False
    [alpha, beta] = document["packages"]["changed"]
    assert (alpha["name"], alpha["direct"], alpha["major"]) == ("alpha", True, True)
    assert (beta["name"], beta["direct"], beta["major"]) == ("beta", False, False)
    assert [p["name"] for p in document["packages"]["added"]] == ["new"]
    assert [p["name"] for p in document["packages"]["removed"]] == ["gone"]
    assert document["requirements"]["added"] == ["alpha >=2"]
    assert document["docker_steps"]["removed"] == ["RUN true"]
    assert document["base"]["to"]["digest"] == str(other.manifest)
    assert document["base"]["labels"] == [{"name": "v", "from": "1", "to": "2"}]
    assert [v["name"] for v in document["environment_variables"]] == ["B", "C"]
    assert [m["name"] for m in document["metadata"]] == ["description", "tags.t"]
    assert document["layers"] == {"from": 3, "to": 3, "new": 3, "new_bytes": 30}


def test_what_one_side_does_not_know_is_not_compared() -> None:
    lockfile = side(package("alpha"), metadata=None, runtime=None, runtime_document=None,
                    image=None, layers=None, base_labels=None)  # fmt: skip
    document = compare_versions(lockfile, side(package("alpha"), variables={"A": "1"})).to_json()
    assert document["same_lock"] is True
    assert document["same_runtime"] is None
    assert document["same_image"] is None
    assert document["layers"] is None
    assert document["environment_variables"] == []


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("ab", "ab", Lines()), ("ab", "ba", Lines(reordered=True)), ("ab", "b", Lines((), ("a",))),
        ("a", "ba", Lines(("b",))), ("abc", "cbd", Lines(("d",), ("a",), reordered=True)),
    ],
)  # fmt: skip
def test_lines(before: str, after: str, lines: Lines) -> None:
    assert compare_lines(list(before), list(after)) == lines
    assert bool(lines) == (before != after)


# -- why -----------------------------------------------------------------

INPUTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2), min_size=6, max_size=6)


@given(INPUTS, INPUTS, st.sets(st.sampled_from("abcdef")))
def test_the_inputs_that_decide_are_those_that_differ_and_count(
    before: dict[str, int], after: dict[str, int], counted: set[str]
) -> None:
    def key(inputs: Mapping[str, Any]) -> object:
        return [inputs[name] for name in sorted(counted)]

    found, idle = deciding(before, after, key)
    differing = {name for name in before if before[name] != after[name]}
    assert set(found) == differing & counted
    assert set(idle) == differing - counted
    assert key({**before, **{name: after[name] for name in found}}) == key(after)


def test_inputs_that_count_only_together_are_named_together() -> None:
    def key(inputs: Mapping[str, Any]) -> object:
        return inputs["a"] and inputs["b"]

    found, idle = deciding({"a": 0, "b": 0, "c": 0}, {"a": 1, "b": 1, "c": 1}, key)
    assert (set(found), set(idle)) == ({"a", "b"}, {"c"})


def names(explanation: Any) -> list[str]:
    return [item.name for item in explanation.inputs]


def test_one_changed_package_is_the_whole_reason() -> None:
    found = explain(
        side(package("alpha"), package("beta")),
        side(package("alpha"), package("beta", "1.1")),
        None,
    )
    assert found.definition.same
    assert names(found.lock) == ["conda beta"]
    [item] = found.lock.inputs
    assert (item.before, item.after) == ("1.0", "1.1")


def test_who_asked_for_a_package_explains_no_lock() -> None:
    before = side(package("alpha"), package("beta"))
    after = side(package("alpha", direct=True), package("beta", "2.0"))
    found = explain(before, after, None).lock
    assert (names(found), found.idle) == (["conda beta"], ())


def test_an_order_only_edit_is_said_to_be_one() -> None:
    packages = (package("alpha"), package("beta"))
    found = explain(side(*packages, asked=("a", "b")), side(*packages, asked=("b", "a")), None)
    [item] = found.definition.inputs
    assert (item.name, item.after) == ("conda packages", "in another order")
    assert found.lock.same


def test_a_variable_and_a_step_are_named() -> None:
    found = explain(side(variables={"A": "1"}), side(variables={"A": "2"}, steps=("RUN x",)), None)
    assert found.runtime is not None
    assert names(found.runtime) == ["variable A"]
    assert names(found.definition) == ["docker steps"]
    assert names(found.lock) == ["docker steps"]


def test_an_image_is_explained_by_what_its_key_takes_in() -> None:
    before = side(package("alpha"))
    after = side(package("alpha", direct=True), variables={"A": "1"}, image=Digest.of(b"other"))

    def key(inputs: Mapping[str, Any]) -> object:
        return digest_of("test/1", [inputs["runtime"], [p.identity() for p in inputs["packages"]]])

    inputs = (image_inputs(before, "zstd"), image_inputs(after, "gzip"))
    found = explain_image(before, after, *inputs, key)
    assert names(found) == ["runtime"]
    assert found.idle == ("options",)


def test_without_the_definition_itself_only_that_it_differs_is_said() -> None:
    found = explain(side(definition_document=None), side(asked=("b",)), None)
    assert names(found.definition) == ["the definition"]


def test_the_keys_from_parts_are_the_identities_themselves() -> None:
    made = side(
        package("zeta"), package("alpha"), steps=("RUN true",), asked=("zeta", "alpha"),
        variables={"A": "1"},
    )  # fmt: skip
    assert lock_key(lock_inputs(made.lock)) == lock_identity(made.lock)
    context = LockedContext(Digest.of(b"tree"), "Dockerfile", {"A": "1"})
    for lock in (
        replace(made.lock, images={"python:3.12": BASE}),
        replace(made.lock, context=context, packages=(), steps=()),
    ):
        assert lock_key(lock_inputs(lock)) == lock_identity(lock)
    assert made.definition_document is not None
    assert definition_key(definition_inputs(made.definition_document)) == made.definition
    plain = {"base": "scratch", "build": None, "steps": [], "conda": None}
    assert definition_key(definition_inputs(plain)) == digest_of(DEFINITION_SCHEMA, plain)


def test_a_moved_image_of_a_step_and_a_changed_context_are_named() -> None:
    before = side()
    moved = replace(BASE, manifest=Digest.of(b"moved"))
    locks = [replace(before.lock, images={"python:3.12": base}) for base in (BASE, moved)]
    one, two = (replace(before, lock=lock, lock_identity=lock_identity(lock)) for lock in locks)
    [item] = explain(one, two, None).lock.inputs
    assert item.name == "images of the steps"
    assert moved.short in item.after
    contexts = [LockedContext(Digest.of(text), "Dockerfile") for text in (b"1", b"2")]
    locks = [replace(before.lock, context=context) for context in contexts]
    one, two = (replace(before, lock=lock, lock_identity=lock_identity(lock)) for lock in locks)
    assert names(explain(one, two, None).lock) == ["build context"]
