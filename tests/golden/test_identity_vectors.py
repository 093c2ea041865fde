"""Identities for ever: documents and digests of values that every version must agree on.

A vector is never edited and never removed. A new field or form adds a vector. If one
of these fails, every environment that was ever pinned would be lost: bump the schema
tag in envgraph/model/identity.py instead, and keep the old vectors passing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envgraph.model.canonical import canonical_bytes, node_key
from envgraph.model.identity import (
    SolveContract,
    definition_digest,
    definition_document,
    image_name,
    lock_identity,
    pin_key,
    runtime_digest,
    runtime_document,
)
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
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

FOLDER = Path(__file__).parent / "identity"
A, B, C = (Digest.from_hex(letter * 64) for letter in "abc")
ROUTES = InferenceConfig(Route(8080, "/live"), Route(8080, "/ready"), Route(8080, "/score"))

SPECS: dict[str, EnvironmentSpec] = {
    "image-only": EnvironmentSpec("a", image="docker.io/library/python:3.12"),
    "scratch-conda": EnvironmentSpec(
        "train",
        image="scratch",
        conda=CondaSpec(
            channels=("conda-forge",),
            dependencies=(Requirement("python=3.12"), Requirement("numpy >=1.2,<2")),
        ),
    ),
    "no-channels": EnvironmentSpec(
        "n", image="scratch", conda=CondaSpec(dependencies=(Requirement("xz"),))
    ),
    "everything": EnvironmentSpec(
        "all",
        image="mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest",
        conda=CondaSpec(
            name="ignored",
            channels=(
                "https://user:secret@host.example/t/token/channel/",
                "./local",
                "conda-forge",
            ),
            dependencies=(
                Requirement("python=3.11"),
                Requirement("conda-forge::pytorch=2.*=cuda*"),
                Requirement("gdb", selector="linux"),
            ),
            pip=(
                PipLine("requirement", "requests[socks]>=2 ; python_version<'4'"),
                PipLine("constraint", "urllib3<3"),
                PipLine("option", "--extra-index-url https://u:p@index.example/simple"),
                PipLine("project", ".[test]", editable=True, tree=A, path="/anywhere"),
                PipLine("url", "git+https://token@git.example/o/r@main#egg=r"),
                PipLine("requirement", "flit-core===3.9.0", hashes=("sha256:" + "0" * 64,)),
            ),
            variables={"A": "conda", "B": "2"},
        ),
        docker_steps=(
            DockerStep("RUN apt-get update"),
            DockerStep("COPY a b /x/", (CopiedInput("a", A), CopiedInput("b", B))),
        ),
        environment_variables={"A": "environment"},
        inference_config=ROUTES,
        platforms=("linux-64",),
        version="7",
        description="text",
        tags={"k": "v"},
    ),
    "build": EnvironmentSpec("b", build=BuildSpec("ctx", "docker/Dockerfile", C)),
    "remote-build": EnvironmentSpec(
        "r", build=BuildSpec("https://u:p@git.example/o/r.git#main:sub")
    ),
    "unicode": EnvironmentSpec(
        "ü",
        image="scratch",
        conda=CondaSpec(channels=("kanal-é", "kanal-e\u0301"), dependencies=(Requirement("日本"),)),
        environment_variables={"NAME": 'quote " backslash \\ tab \t é'},
    ),
}

CONTRACTS = {
    "defaults": SolveContract(
        (("__glibc", "2.28=0"), ("__linux", "0=0"), ("__unix", "0=0")),
        default_channels=("conda-forge",),
    ),
    "everything": SolveContract(
        (("__cuda", "12.4=0"), ("__glibc", "2.28=0")),
        "strict",
        (),
        ("https://u:p@index.example/simple",),
        (("strategy", "lowest"),),
    ),
}

NUMPY = LockedPackage(
    "conda", "numpy", "2.1.0", "py312h_0", "linux-64", A, "conda-forge",
    file_name="numpy-2.1.0-py312h_0.conda", url="https://host.example/numpy.conda", size=7,
)  # fmt: skip
WHEEL = LockedPackage(
    "pip", "six", "1.16.0", "", "", B, "", file_name="six-1.16.0-py3-none-any.whl"
)
LOCKS = {
    "scratch": LockedEnvironment(A, B, "linux-64", LockedBase("scratch"), (NUMPY, WHEEL)),
    "base-and-steps": LockedEnvironment(
        A, B, "linux-aarch64", LockedBase("docker.io/library/python:3.12", manifest=C, config=A),
        (NUMPY,), ("RUN true", "COPY a /x\na " + str(A)),
    ),
}  # fmt: skip


def _text(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"


@pytest.mark.parametrize("name", SPECS)
def test_definition_and_runtime(name: str, golden: Callable[[Path, str], None]) -> None:
    spec = SPECS[name]
    golden(
        FOLDER / f"spec-{name}.json",
        _text(
            {
                "definition": definition_digest(spec),
                "definition_document": definition_document(spec),
                "runtime": runtime_digest(spec),
                "runtime_document": runtime_document(spec),
                "kind": spec.kind,
            }
        ),
    )


def test_pin_keys(golden: Callable[[Path, str], None]) -> None:
    keys = {
        f"{name} {platform}": pin_key(A, platform, contract)
        for name, contract in CONTRACTS.items()
        for platform in ("linux-64", "linux-aarch64")
    }
    golden(FOLDER / "pin-keys.json", _text(keys))


def test_locks_and_images(golden: Callable[[Path, str], None]) -> None:
    document: dict[str, Any] = {}
    for name, lock in LOCKS.items():
        identity = lock_identity(lock)
        document[name] = {"lock": identity, "image_name": image_name(lock.definition)}
    golden(FOLDER / "locks.json", _text(document))


def test_the_encoding_itself(golden: Callable[[Path, str], None]) -> None:
    documents: list[Any] = [
        None, True, 1, "1", "", [], {}, ["ab", "c"], ["a", "bc"],
        {"b": [None], "a": {"é": "e\u0301"}}, A, {"\U0001f600": "\ud83d", "z": 0},
    ]  # fmt: skip
    golden(
        FOLDER / "canonical.json",
        _text(
            [
                [canonical_bytes("test/1", d).decode("utf-8", "backslashreplace"),
                 str(node_key("test", d))]
                for d in documents
            ]
        ),
    )  # fmt: skip


def test_no_secret_is_in_any_vector() -> None:
    for path in FOLDER.glob("*.json"):
        text = path.read_text("utf-8")
        for secret in ("secret", "user:", "u:p", "/t/token", "token@"):
            assert secret not in text, (path.name, secret)
