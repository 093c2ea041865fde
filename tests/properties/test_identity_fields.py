"""Every field of a spec and a lock, changed in turn, changes exactly what it should."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envgraph.errors import IntegrityError, SourceLocation
from envgraph.model.canonical import CanonicalError, canonical_bytes, digest_of
from envgraph.model.documents import lock_document as record_document
from envgraph.model.documents import lock_from_document
from envgraph.model.identity import (
    SolveContract,
    definition_digest,
    definition_document,
    lock_identity,
    pin_key,
    runtime_digest,
)
from envgraph.model.locked import (
    BaseLayer,
    ContextOrigin,
    LockedBase,
    LockedContext,
    LockedEnvironment,
    LockedPackage,
)
from envgraph.model.spec import (
    BuildSpec,
    CondaSpec,
    CopiedInput,
    DockerStep,
    EnvironmentSpec,
    InferenceConfig,
    PipLine,
    Requirement,
    Route,
)
from envgraph_store.digest import Digest

A, B = (Digest.from_hex(letter * 64) for letter in "ab")
HERE, THERE = SourceLocation("a", 1, 1), SourceLocation("b", 2, 2)
ROUTE = Route(1, "/")

SPEC = EnvironmentSpec(
    name="n",
    image="scratch",
    build=BuildSpec("ctx", "Dockerfile", A, HERE),
    conda=CondaSpec(
        name="c",
        channels=("x", "y"),
        dependencies=(Requirement("a", HERE), Requirement("b", HERE)),
        pip=(PipLine("project", "p", False, A, "/p", HERE), PipLine("requirement", "q")),
        variables={"V": "1"},
        platforms=("linux-64",),
        file="f",
        channel_paths={"x": "/x"},
    ),
    docker_steps=(DockerStep("RUN a", (CopiedInput("p", A),), HERE),),
    environment_variables={"E": "1"},
    inference_config=InferenceConfig(ROUTE, ROUTE, ROUTE),
    platforms=("linux-64",),
    version="1",
    description="d",
    tags={"t": "1"},
    properties={"p": "1"},
    os_type="linux",
    source=HERE,
    inputs=("/a",),
    image_path="/image",
)

#: Field → what it changes. A field that is not here fails the test: decide, then add it.
EXPECTED: Mapping[str, set[str]] = {
    "name": set(),
    "image": {"definition"},
    "build.path": set(),  # the tree says what is in it
    "build.dockerfile_path": {"definition"},
    "build.tree": {"definition"},
    "build.source": set(),
    "build.images": set(),  # what the Dockerfile says is in the tree
    "build.base": set(),
    "build.secrets": set(),
    "build.platforms": set(),
    "build.folder": set(),
    "build.arguments": {"definition"},
    "build.proxies": set(),  # how a builder reaches others, not what it builds
    "conda.name": set(),
    "conda.channels": {"definition"},
    "conda.dependencies[0].text": {"definition"},
    "conda.dependencies[0].source": set(),
    "conda.dependencies[0].selector": {"definition"},
    "conda.pip[0].kind": {"definition"},
    "conda.pip[0].text": {"definition"},
    "conda.pip[0].editable": {"definition"},
    "conda.pip[0].tree": {"definition"},
    "conda.pip[0].path": set(),
    "conda.pip[0].source": set(),
    "conda.pip[0].hashes": {"definition"},
    "conda.variables": {"runtime"},
    "conda.platforms": set(),
    "conda.file": set(),
    "conda.channel_paths": set(),
    "docker_steps[0].instruction": {"definition"},
    "docker_steps[0].inputs[0].path": {"definition"},
    "docker_steps[0].inputs[0].tree": {"definition"},
    "docker_steps[0].source": set(),
    "docker_steps[0].images": set(),  # the instruction says it
    "docker_steps[0].secrets": set(),
    "docker_steps[0].folder": set(),
    "environment_variables": {"runtime"},
    "inference_config.liveness_route.port": {"runtime"},
    "inference_config.liveness_route.path": {"runtime"},
    "inference_config.readiness_route.port": {"runtime"},
    "inference_config.readiness_route.path": {"runtime"},
    "inference_config.scoring_route.port": {"runtime"},
    "inference_config.scoring_route.path": {"runtime"},
    "platforms": set(),
    "version": set(),
    "description": set(),
    "tags": set(),
    "properties": set(),
    "os_type": set(),
    "source": set(),
    "inputs": set(),
    "image_path": set(),
    "anonymous": set(),  # how it is found, not what it is
}


def leaves(value: Any, path: str = "") -> list[str]:
    """The path of every field below ``value`` that holds no dataclass itself."""
    found = []
    for item in fields(value):
        here = f"{path}.{item.name}" if path else item.name
        inner = getattr(value, item.name)
        if isinstance(inner, SourceLocation | Digest):
            found.append(here)
        elif is_dataclass(inner):
            found += leaves(inner, here)
        elif isinstance(inner, tuple) and inner and is_dataclass(inner[0]):
            found += leaves(inner[0], f"{here}[0]")
        else:
            found.append(here)
    return found


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, Digest):
        return B if value == A else A
    if isinstance(value, SourceLocation):
        return THERE
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "z"
    if isinstance(value, tuple):
        return (*value, "sha256:" + "0" * 64)
    if isinstance(value, Mapping):
        return {**value, "ANOTHER": "9"}
    raise AssertionError(f"no other value for {value!r}")


def with_change(value: Any, path: str) -> Any:
    """``value`` with the field at ``path`` changed."""
    head, _, rest = path.partition(".")
    name, bracket, _ = head.partition("[")
    inner = getattr(value, name)
    if bracket:
        new: Any = (with_change(inner[0], rest), *inner[1:])
    elif rest:
        new = with_change(inner, rest)
    else:
        new = changed(inner)
    return replace(value, **{name: new})


def test_the_table_names_every_field() -> None:
    assert set(leaves(SPEC)) == set(EXPECTED)


@pytest.mark.parametrize("path", EXPECTED)
def test_a_field_changes_exactly_what_it_should(path: str) -> None:
    other = with_change(SPEC, path)
    moved = set()
    if definition_digest(other) != definition_digest(SPEC):
        moved.add("definition")
    if runtime_digest(other) != runtime_digest(SPEC):
        moved.add("runtime")
    assert moved == EXPECTED[path]


def test_the_address_of_a_remote_context_is_its_definition() -> None:
    one, two = (
        EnvironmentSpec("n", build=BuildSpec(f"https://h.example/{name}.git")) for name in "ab"
    )
    assert definition_digest(one) != definition_digest(two)


@pytest.mark.parametrize(
    "wrong",
    [{"pinned": "--upload-pack=touch x"}, {"pinned": "main"}, {"pinned": "1" * 39},
     {"kind": "archive"}, {"kind": "ext"}, {"ref": "--upload-pack=x"}, {"ref": "refs/heads/a b"},
     {"ref": "main"}],
)  # fmt: skip
def test_a_lock_names_no_option_for_git(wrong: dict[str, str]) -> None:
    origin = ContextOrigin("git", "https://h/r.git#main", "1" * 40, "refs/heads/main")
    good = replace(LOCK, context=LockedContext(A, "Dockerfile", origin=origin))
    document = record_document(good)
    assert lock_from_document(document) == good
    document["context"]["origin"] |= wrong
    with pytest.raises(IntegrityError):
        lock_from_document(document)


def test_arguments_enter_a_definition_only_where_there_are_any() -> None:
    build = definition_document(EnvironmentSpec("n", build=BuildSpec("x", tree=A)))["build"]
    assert set(build) == {"address", "dockerfile_path", "tree"}
    given = EnvironmentSpec("n", build=BuildSpec("x", tree=A, arguments={"V": "1"}))
    assert definition_document(given)["build"] == build | {"arguments": {"V": "1"}}


PACKAGE = LockedPackage(
    "conda", "numpy", "2.1", "py_0", "linux-64", A, "conda-forge", "f", "u", 1, "m", 2, "python",
    ("d",), ("c",), 3, "MIT", "lib", False, True,
)  # fmt: skip
IDENTITY_FIELDS = {"manager", "name", "version", "build", "subdir", "sha256", "channel"}
LOCK = LockedEnvironment(
    A, A, "linux-64",
    LockedBase("r", A, "m", A, (BaseLayer("m", A, 1, A),)), (PACKAGE,), ("RUN a",), "t", {"s": "1"},
)  # fmt: skip


@pytest.mark.parametrize("name", [item.name for item in fields(LockedPackage)])
def test_a_package_is_its_bytes_and_not_its_address(name: str) -> None:
    other = replace(PACKAGE, **{name: changed(getattr(PACKAGE, name))})
    same = lock_identity(LOCK) == lock_identity(replace(LOCK, packages=(other,)))
    assert same is (name not in IDENTITY_FIELDS)


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("definition", False), ("pin_key", False), ("platform", True), ("base.reference", False),
        ("base.manifest", True), ("base.manifest_media_type", False), ("base.config", False),
        ("steps", True), ("created", False), ("solver", False), ("images", True), ("context", True),
    ],
)  # fmt: skip
def test_a_lock_is_what_it_resolved_to(path: str, counts: bool) -> None:
    if path == "images":
        other = replace(LOCK, images={"python:3": LOCK.base})
        assert lock_identity(other) != lock_identity(LOCK)
        assert lock_identity(replace(other, images={"python:3": LockedBase("r", B)})) not in (
            lock_identity(LOCK), lock_identity(other),
        )  # fmt: skip
        return
    if path == "context":
        seen = {
            lock_identity(replace(LOCK, context=context))
            for context in (
                None,
                LockedContext(A, "Dockerfile"),
                LockedContext(B, "Dockerfile"),
                LockedContext(A, "other"),
                LockedContext(A, "Dockerfile", {"V": "1"}),
            )
        }
        assert len(seen) == 5
        origin = ContextOrigin("git", "https://h/r.git#main", "1" * 40, "refs/heads/main")
        moved = LockedContext(A, "Dockerfile", origin=origin)
        assert lock_identity(replace(LOCK, context=moved)) in seen  # bytes, not addresses
        return
    assert (lock_identity(with_change(LOCK, path)) != lock_identity(LOCK)) is counts


CONTRACT = SolveContract((("__glibc", "2.28=0"),), "strict", ("c",), ("i",), (("o", "1"),))


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTRACT, virtual_packages=(("__glibc", "2.34=0"),)),
        replace(CONTRACT, virtual_packages=(("__glibc", "2.28=0"), ("__cuda", "12=0"))),
        replace(CONTRACT, channel_priority="flexible"),
        replace(CONTRACT, default_channels=("d",)),
        replace(CONTRACT, default_channels=()),
        replace(CONTRACT, pip_indexes=()),
        replace(CONTRACT, pip_indexes=("j",)),
        replace(CONTRACT, options=()),
    ],
)
def test_the_contract_is_in_the_pin_key(other: SolveContract) -> None:
    assert pin_key(A, "linux-64", CONTRACT) != pin_key(A, "linux-64", other)
    assert pin_key(A, "linux-64", CONTRACT) != pin_key(B, "linux-64", CONTRACT)
    assert pin_key(A, "linux-64", CONTRACT) != pin_key(A, "osx-64", CONTRACT)


def test_the_order_of_virtual_packages_is_none() -> None:
    one = SolveContract((("__a", "1"), ("__b", "2")))
    two = SolveContract((("__b", "2"), ("__a", "1")))
    assert pin_key(A, "linux-64", one) == pin_key(A, "linux-64", two)


TEXT = st.text(max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_different_documents_have_different_bytes(one: Any, two: Any) -> None:
    import json
    import unicodedata

    def plain(value: Any) -> str:
        if isinstance(value, str):
            return json.dumps(unicodedata.normalize("NFC", value))
        if isinstance(value, list):
            return "[" + ",".join(map(plain, value)) + "]"
        if isinstance(value, dict):
            return "{" + ",".join(sorted(plain(k) + ":" + plain(v) for k, v in value.items())) + "}"
        return json.dumps(value)

    try:
        equal = canonical_bytes("t", one) == canonical_bytes("t", two)
    except CanonicalError:
        return
    assert equal is (plain(one) == plain(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("ab", "c"), ("a", "bc")),
        (None, ""),
        (1, "1"),
        (1, True),
        ("1", True),
        ("true", True),
        ([], {}),
        ([[]], []),
        (["a", ["b"]], ["a", "b"]),
        ({"a": None}, {}),
        ('a","b', ["a", "b"]),
    ],
)
def test_boundaries_between_fields_hold(one: Any, two: Any) -> None:
    assert digest_of("t/1", one) != digest_of("t/1", two)
    assert digest_of("t/1", one) != digest_of("t/2", one)


def test_boundaries_hold_between_requirements() -> None:
    def definition(*texts: str) -> Digest:
        conda = CondaSpec(dependencies=tuple(Requirement(t) for t in texts))
        return definition_digest(EnvironmentSpec("n", image="scratch", conda=conda))

    texts = [("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c"), ("c", "ab"), ()]
    assert len({definition(*t) for t in texts}) == len(texts)
    nothing = definition_digest(EnvironmentSpec("n", image="scratch"))
    assert nothing != definition()


def test_floats_and_sets_have_no_canonical_form() -> None:
    for value in (1.5, {"a"}, b"x", {1: 2}):
        with pytest.raises(CanonicalError):
            canonical_bytes("t", value)
    with pytest.raises(CanonicalError, match="after NFC"):
        canonical_bytes("t", {"é": 1, "e\u0301": 2})
