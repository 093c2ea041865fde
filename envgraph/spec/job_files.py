"""Environment files and files that use environments → all environments in them.

A job, pipeline, component, sweep, schedule or deployment is a whole: where one of its
environments is wrong, none of them is handed on, and every problem is told. Inline
environments that no name is given to are anonymous (M26): their definition (and how it
runs) names them, so that two jobs that ask for the same share one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from envgraph.errors import Diagnostic, EnvgraphError, SourceLocation
from envgraph.model.canonical import digest_of
from envgraph.model.config import WorkspaceConfig
from envgraph.model.identity import definition_digest, runtime_digest
from envgraph.model.spec import EnvironmentSpec
from envgraph.spec import kinds
from envgraph.spec.assets import load_asset
from envgraph.spec.keys import check_user_keys
from envgraph.spec.kinds import FileKind, kind_of_tree
from envgraph.spec.load import load_environment
from envgraph.spec.nodes import MapNode
from envgraph.spec.problems import Problems
from envgraph.spec.reading import Reading
from envgraph.spec.references import EnvironmentReference
from envgraph.spec.uses import EnvironmentUse, read_uses
from envgraph.spec.yaml_text import load_yaml

USERS: Final = (
    kinds.JOB, kinds.PIPELINE, kinds.COMPONENT, kinds.DEPLOYMENT, kinds.SCHEDULE,
)  # fmt: skip
"""Kinds of files that use environments and are none."""

ANONYMOUS: Final = "anonymous-"
"""How the names of anonymous environments begin; 16 digits of their version follow."""

_EMPTY_RUNTIME: Final = runtime_digest(EnvironmentSpec(""))


@dataclass(frozen=True, slots=True)
class UsedReference:
    """An environment that a file names and does not hold. ``where`` are the keys to it."""

    reference: EnvironmentReference
    where: str
    source: SourceLocation | None


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """All that a file asks for. With an error there are no ``specs``."""

    specs: tuple[EnvironmentSpec, ...] = ()
    references: tuple[UsedReference, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    inputs: tuple[str, ...] = ()
    inline: bool = False
    """The ``specs`` stand inside of a job, deployment or such."""


def load_environments(path: Path | str, config: WorkspaceConfig | None = None) -> LoadedFile:
    """Read one file that is, or uses, environments; never raises for what it holds.

    Local files of components, trials and jobs that it names are read too.
    """
    file = os.fspath(path)
    settings = config if config is not None else WorkspaceConfig("default", "", "")
    kind, root = _look(file)
    if kind in USERS and root is not None:
        return _load_user(file, kind, root)
    if kind is kinds.ASSET and root is not None:
        return _load_asset(file, root, settings)
    result = load_environment(path, config)
    specs = () if result.spec is None else (result.spec,)
    return LoadedFile(specs, (), result.diagnostics, result.inputs)


def _look(file: str) -> tuple[FileKind, MapNode | None]:
    """A first look; its problems are found again by whoever reads the file in full."""
    reading = Reading()
    try:
        data = reading.read(file, SourceLocation(file), "")
        root = None if data is None else load_yaml(data, file, Problems())[0]
    except EnvgraphError:
        return kinds.UNKNOWN, None
    if not isinstance(root, MapNode):
        return kinds.UNKNOWN, None
    return kind_of_tree(root), root


def _load_user(file: str, kind: FileKind, root: MapNode) -> LoadedFile:
    reading = Reading()
    reading.note_input(file)
    uses: tuple[EnvironmentUse, ...] = ()
    try:
        check_user_keys(root, kind, reading, file)
        uses = read_uses(root, reading, file)
    except EnvgraphError as error:
        reading.problems.take(error, SourceLocation(file))
    inputs = tuple(reading.inputs)
    references = tuple(
        UsedReference(use.reference, use.where, use.source)
        for use in uses
        if use.reference is not None
    )
    if reading.problems.failed:
        return LoadedFile((), references, reading.problems.result(), inputs)
    specs = {
        spec.name: spec
        for use in uses
        if use.inline is not None
        for spec in (named(replace(use.inline, inputs=inputs)),)
    }
    found = tuple(specs.values())
    return LoadedFile(found, references, reading.problems.result(), inputs, inline=True)


def named(spec: EnvironmentSpec) -> EnvironmentSpec:
    """The inline environment as it is registered: under its own name, or anonymous.

    The version of an anonymous one is the digest of its definition; with variables or
    routes, that of both, since a version is one environment for ever.
    """
    if spec.name:
        return spec
    runtime = runtime_digest(spec)
    digest = definition_digest(spec)
    if runtime != _EMPTY_RUNTIME:
        digest = digest_of("anonymous/1", {"definition": digest, "runtime": runtime})
    return replace(spec, name=ANONYMOUS + digest.hex[:16], version=digest.hex, anonymous=True)


def _load_asset(file: str, root: MapNode, config: WorkspaceConfig) -> LoadedFile:
    reading = Reading()
    reading.note_input(file)
    spec = None
    try:
        spec = load_asset(file, root, config, reading)
    except EnvgraphError as error:
        reading.problems.take(error, SourceLocation(file))
    inputs = tuple(reading.inputs)
    if spec is None or reading.problems.failed:
        return LoadedFile((), (), reading.problems.result(), inputs)
    return LoadedFile((replace(spec, inputs=inputs),), (), reading.problems.result(), inputs)
