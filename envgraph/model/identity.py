"""The identities: what was asked, what it resolved to, how it runs.

Each is the digest of a document under a schema tag (:mod:`envgraph.model.canonical`).
A document can be printed, which is how ``why`` shows what changed. Nothing here
reads a file, a clock or the machine: equal values give equal digests everywhere
and for ever; ``tests/golden/identity`` holds the vectors that say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from envgraph.model.addresses import without_credentials
from envgraph.model.canonical import digest_of
from envgraph.model.locked import LockedEnvironment
from envgraph.model.spec import BuildSpec, CondaSpec, EnvironmentSpec, InferenceConfig
from envgraph_store.digest import Digest

DEFINITION_SCHEMA: Final = "definition/1"
PIN_SCHEMA: Final = "pin/1"
LOCK_SCHEMA: Final = "lock/1"
RUNTIME_SCHEMA: Final = "runtime/1"


@dataclass(frozen=True, slots=True)
class SolveContract:
    """What besides the definition decides the answer of a solve.

    ``virtual_packages``: sorted pairs of name and ``version=build``.
    ``default_channels``: only for a conda file that names none, else empty.
    ``pip_indexes``: without credentials. ``options``: sorted pairs of solver
    options that change answers and differ from the defaults of this version.
    Where a channel's bytes come from (a mirror) has no part in it.
    """

    virtual_packages: tuple[tuple[str, str], ...] = ()
    channel_priority: str = "strict"
    default_channels: tuple[str, ...] = ()
    pip_indexes: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    def document(self) -> dict[str, Any]:
        """The document that enters the pin key; the order of packages has no meaning."""
        return {
            "virtual_packages": sorted([list(pair) for pair in self.virtual_packages]),
            "channel_priority": self.channel_priority,
            "default_channels": [without_credentials(c) for c in self.default_channels],
            "pip_indexes": [without_credentials(i) for i in self.pip_indexes],
            "options": sorted([list(pair) for pair in self.options]),
        }


def _conda_document(conda: CondaSpec) -> dict[str, Any]:
    channels = conda.channels
    return {
        "channels": None
        if channels is None
        else [without_credentials(c).rstrip("/") or c for c in channels],
        "dependencies": [
            {"text": without_credentials(r.text), "selector": r.selector}
            for r in conda.dependencies
        ],
        "pip": [
            {
                "kind": line.kind,
                "text": without_credentials(line.text),
                "editable": line.editable,
                "tree": line.tree,
                "hashes": list(line.hashes),
            }
            for line in conda.pip
        ],
    }


def _build_document(build: BuildSpec) -> dict[str, Any]:
    """A context by its tree; one at an address by that, as written: a branch stays a branch.

    ``arguments`` are there only where there are any.
    """
    document: dict[str, Any] = {
        "dockerfile_path": build.dockerfile_path,
        "tree": build.tree,
        "address": without_credentials(build.path) if build.tree is None else None,
    }
    return document | ({"arguments": dict(build.arguments)} if build.arguments else {})


def definition_document(spec: EnvironmentSpec) -> dict[str, Any]:
    """What the file says about base, docker steps and packages, and nothing else.

    Names, versions, tags, descriptions, platforms, variables, routes and the
    places of things on this machine are not in it (M42, M43).
    """
    return {
        "base": spec.image,
        "build": None if spec.build is None else _build_document(spec.build),
        "steps": [
            {
                "instruction": step.instruction,
                "inputs": [{"path": item.path, "tree": item.tree} for item in step.inputs],
            }
            for step in spec.docker_steps
        ],
        "conda": None if spec.conda is None else _conda_document(spec.conda),
    }


def definition_digest(spec: EnvironmentSpec) -> Digest:
    """The identity of what was asked; sensitive to the order of channels and packages."""
    return digest_of(DEFINITION_SCHEMA, definition_document(spec))


def pin_key(definition: Digest, platform: str, contract: SolveContract) -> Digest:
    """Under what a lock is kept: same key, same pins, for ever."""
    return digest_of(
        PIN_SCHEMA,
        {"definition": definition, "platform": platform, "contract": contract.document()},
    )


def lock_document(lock: LockedEnvironment) -> dict[str, Any]:
    """What a lock is, apart from how it came to be: bytes, not addresses or times."""
    document: dict[str, Any] = {
        "platform": lock.platform,
        "base": lock.base.manifest,
        "steps": list(lock.steps),
        "packages": [package.identity() for package in lock.packages],
    }
    if lock.images:
        document["images"] = {text: base.manifest for text, base in lock.images.items()}
    if lock.context is not None:
        document["context"] = {
            "tree": lock.context.tree,
            "dockerfile_path": lock.context.dockerfile_path,
            "arguments": dict(lock.context.arguments),
        }
    return document


def lock_identity(lock: LockedEnvironment) -> Digest:
    """The identity of what it resolved to, on one platform."""
    return digest_of(LOCK_SCHEMA, lock_document(lock))


def _routes(config: InferenceConfig) -> dict[str, Any]:
    return {
        name: {"port": route.port, "path": route.path}
        for name, route in (
            ("liveness_route", config.liveness_route),
            ("readiness_route", config.readiness_route),
            ("scoring_route", config.scoring_route),
        )
    }


def runtime_document(spec: EnvironmentSpec) -> dict[str, Any]:
    """How it runs: variables (the environment's win over the conda file's) and routes."""
    variables = dict(spec.conda.variables) if spec.conda is not None else {}
    variables.update(spec.environment_variables)
    routes = spec.inference_config
    return {
        "environment_variables": variables,
        "inference_config": None if routes is None else _routes(routes),
    }


def runtime_digest(spec: EnvironmentSpec) -> Digest:
    """The identity of the runtime: it changes the image's config and none of its layers."""
    return digest_of(RUNTIME_SCHEMA, runtime_document(spec))


def image_name(definition: Digest) -> str:
    """``envgraph/envgraph_<32 hex>`` of the definition: where its images are kept (M51).

    One definition may come to have several images (an update of its lock, another
    runtime): their tags tell them apart.
    """
    return f"envgraph/envgraph_{definition.hex[:32]}"
