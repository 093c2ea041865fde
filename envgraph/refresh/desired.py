"""What should be: environment files become targets with locks and graph nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from envgraph.errors import Diagnostic, EnvgraphError, InputError, SourceLocation
from envgraph.image.nodes import (
    ImageNodes,
    host_platform,
    image_nodes,
    index_node,
    too_many_layers,
)
from envgraph.lock.find import FoundLocks, lockfile_path
from envgraph.model.canonical import NodeKey
from envgraph.model.config import WorkspaceConfig
from envgraph.model.graph import BuildGraph
from envgraph.model.identity import (
    definition_digest,
    image_name,
    lock_identity,
    runtime_digest,
    runtime_document,
)
from envgraph.model.names import reserved_prefix
from envgraph.model.nodes import Node
from envgraph.model.spec import EnvironmentSpec
from envgraph.plan.target import LockedTarget, Target
from envgraph.refresh.observe import Subject
from envgraph_store import Digest

if TYPE_CHECKING:
    from envgraph.spec.job_files import UsedReference
    from envgraph.spec.references import EnvironmentReference


class FindsLocks(Protocol):
    """Gives the locks of an environment: :class:`~envgraph.lock.find.LockFinder`, or a rebase."""

    def find(
        self, spec: EnvironmentSpec, definition: Digest, platforms: Sequence[str], /
    ) -> FoundLocks:
        """The lock of every platform."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Environment files as read: the good ones, every problem, and all that was read."""

    specs: tuple[EnvironmentSpec, ...]
    diagnostics: tuple[Diagnostic, ...]
    inputs: tuple[str, ...]
    references: tuple[UsedReference, ...] = ()
    """Environments that jobs and deployments name, and no file here defines."""


@dataclass(frozen=True, slots=True)
class Desired:
    """Targets and the graph over all of them. ``inputs`` is what they were made from."""

    targets: tuple[Target, ...]
    graph: BuildGraph
    subjects: Mapping[NodeKey, Subject]
    diagnostics: tuple[Diagnostic, ...]
    inputs: tuple[str, ...] = ()


@dataclass(slots=True)
class _Gathered:
    targets: list[Target] = field(default_factory=list)
    nodes: dict[NodeKey, Node] = field(default_factory=dict)
    roots: dict[str, list[NodeKey]] = field(default_factory=dict)
    subjects: dict[NodeKey, Subject] = field(default_factory=dict)


def load_specs(config: WorkspaceConfig, files: Sequence[Path], names: Sequence[str] = ()) -> Loaded:
    """Read the files (all of the workspace's when none is named) with every problem.

    ``names`` keeps only those environments; one that no file defines is a problem.
    """
    from envgraph.spec import discover
    from envgraph.spec.job_files import load_environments

    problems: list[Diagnostic] = []
    inputs: list[str] = []
    found = _Found()
    references: list[UsedReference] = []
    for path in files or discover(config):
        result = load_environments(Path(path), config)
        problems += result.diagnostics
        inputs.append(str(Path(path).absolute()))
        inputs += result.inputs
        references += result.references
        problems += found.add(result.specs, str(path), inline=result.inline)
    if files and references:
        references, more, read = _from_workspace(config, found, references)
        problems += more
        inputs += read
    specs = list(found.specs.values())
    if names:
        known = {spec.name for spec in specs}
        problems += [
            Diagnostic("unknown-target", f"no environment file defines {name!r}")
            for name in names
            if name not in known
        ]
        specs = [spec for spec in specs if spec.name in names]
    return Loaded(tuple(specs), tuple(problems), tuple(dict.fromkeys(inputs)), tuple(references))


@dataclass(slots=True)
class _Found:
    """Environments by name, and which file each came from."""

    specs: dict[str, EnvironmentSpec] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    inline: set[str] = field(default_factory=set)

    def add(
        self, specs: Sequence[EnvironmentSpec], file: str, *, inline: bool = False
    ) -> list[Diagnostic]:
        """Take them in; a second one of a name is a problem.

        Unless both are anonymous, or the same and one of them stands in a job: jobs share.
        """
        problems = []
        for spec in specs:
            if inline:
                self.inline.add(spec.name)
            if spec.name not in self.specs:
                self.specs[spec.name] = spec
                self.files[spec.name] = file
            elif spec.name in self.inline and spec == self.specs[spec.name]:
                continue
            elif not spec.anonymous:
                problems.append(
                    Diagnostic(
                        "duplicate-name",
                        f"the environment {spec.name!r} is defined twice",
                        f"{self.files[spec.name]} defines it too",
                        spec.source or SourceLocation(file),
                        "give one of them another name",
                    )
                )
        return problems


def _from_workspace(
    config: WorkspaceConfig, found: _Found, references: Sequence[UsedReference]
) -> tuple[list[UsedReference], list[Diagnostic], list[str]]:
    """Take in the workspace's own files for names that jobs refer to.

    The references that no file answers, problems of files that do, and what was read. A
    version that a file does not define (``train:2`` where the file counts up) is looked for
    among what is registered.
    """
    from envgraph.spec import discover, load_environment

    own = [used for used in references if not used.reference.is_of_another(config.name)]
    wanted = {used.reference.name for used in own if not used.reference.registry}
    problems: list[Diagnostic] = []
    inputs: list[str] = []
    if wanted - set(found.specs):
        for path in discover(config):
            result = load_environment(path, config)
            inputs += [str(Path(path).absolute()), *result.inputs]
            spec = result.spec
            if spec is None or spec.name not in wanted or spec.name in found.specs:
                continue
            if any(_answers(spec, used.reference) for used in own):
                problems += result.diagnostics
                problems += found.add([spec], str(path))
    left = [
        used
        for used in references
        if used not in own
        or not any(_answers(spec, used.reference) for spec in found.specs.values())
    ]
    return left, problems, inputs


def _answers(spec: EnvironmentSpec, reference: EnvironmentReference) -> bool:
    """Whether the file that defines ``spec`` is what the reference means."""
    if reference.registry or reference.name != spec.name or reference.definition is not None:
        return False
    if reference.version is not None:
        return reference.version == spec.version
    return reference.label in (None, "latest")


def desire(config: WorkspaceConfig, loaded: Loaded, finder: FindsLocks) -> Desired:
    """Find or solve every lock and lay out the graph; one bad environment stops no other."""
    gathered = _Gathered()
    problems = [d for d in loaded.diagnostics if d.code != "reserved-prefix"]
    inputs = list(loaded.inputs)
    for spec in loaded.specs:
        if (prefix := reserved_prefix(spec.name, config.reserved_prefixes)) is not None:
            problems.append(_reserved(spec, prefix))
            continue
        inputs.append(str(lockfile_path(config.root, spec.name)))
        problem: Diagnostic | None = None
        if spec.os_type == "windows":
            problem = _not_linux(spec)
        if problem is not None:
            problems.append(problem)
            continue
        definition = definition_digest(spec)
        try:
            found = finder.find(spec, definition, spec.platforms or config.platforms)
            problems += found.diagnostics
            _gather(config, spec, found, gathered, problems)
        except EnvgraphError as error:
            problems += (about_environment(spec, d) for d in error.diagnostics)
    graph = BuildGraph(gathered.nodes.values(), gathered.roots)
    return Desired(
        tuple(gathered.targets),
        graph,
        gathered.subjects,
        tuple(problems),
        tuple(dict.fromkeys(inputs)),
    )


def _gather(
    config: WorkspaceConfig,
    spec: EnvironmentSpec,
    found: FoundLocks,
    gathered: _Gathered,
    problems: list[Diagnostic],
) -> None:
    runtime = runtime_digest(spec)
    document = runtime_document(spec)
    platforms: dict[str, LockedTarget] = {}
    images: dict[str, NodeKey] = {}
    for platform, item in found.locks.items():
        nodes = image_nodes(item.lock, runtime, config.image, host_platform())
        if (problem := too_many_layers(item.lock, nodes.layers)) is not None:
            raise InputError(
                f"the image of {spec.name!r} would have {problem}",
                code="too-many-layers",
                source=spec.source,
                hint="lower image.max_layers in envgraph.yaml",
            )
        _merge(gathered, nodes, Subject(spec, item.lock, document, nodes, item.documents))
        images[platform] = nodes.image
        platforms[platform] = LockedTarget(
            item.lock,
            lock_identity(item.lock),
            item.origin,
            nodes.image,
            found.file_current,
            item.documents,
            item.left,
            item.available,
            item.moved,
        )
    final = next(iter(images.values()))
    if len(images) > 1:
        index = index_node(images)
        gathered.nodes[index.key] = index
        final = index.key
    definition = next(iter(found.locks.values())).lock.definition
    pinned = all(item.pinned for item in found.locks.values())
    gathered.roots[spec.name] = [final]
    gathered.targets.append(
        Target(spec, definition, runtime, platforms, final, image_name(definition), pinned)
    )


def _merge(gathered: _Gathered, nodes: ImageNodes, subject: Subject) -> None:
    """Add nodes. One base may be named on disk and in a registry: on disk it is copied whole."""
    for node in nodes.nodes:
        known = gathered.nodes.get(node.key)
        if known is None or known.base is None or known.base.in_registry:
            gathered.nodes[node.key] = node
    same = gathered.subjects.get(nodes.image)
    if same is None or same.lock.base.in_registry:
        gathered.subjects[nodes.image] = subject


def _not_linux(spec: EnvironmentSpec) -> Diagnostic:
    return Diagnostic(
        "image-platform",
        f"{spec.name!r} has `os_type: windows`, and images are for Linux",
        "",
        spec.source,
        "leave os_type out, or write `os_type: linux`",
    )


def _reserved(spec: EnvironmentSpec, prefix: str) -> Diagnostic:
    """Such a name may be read, and not registered (rows M46 to M48)."""
    return Diagnostic(
        "reserved-prefix",
        f"the name {spec.name!r} begins with the reserved prefix {prefix!r}",
        "such names belong to curated environments",
        spec.source,
        f"choose another name, for example {'my-' + spec.name!r}",
    )


def about_environment(spec: EnvironmentSpec, problem: Diagnostic) -> Diagnostic:
    """The problem with the environment's name and place, where it has none of its own."""
    if problem.source is not None:
        return problem
    return Diagnostic(
        problem.code,
        f"{spec.name}: {problem.summary}",
        problem.detail,
        spec.source,
        problem.hint,
        problem.severity,
    )
