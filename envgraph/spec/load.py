"""The door of this package: paths → values and every diagnostic.

Nothing here raises for what a user wrote; nothing imports a YAML parser before
the first file is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from envgraph.errors import Diagnostic, EnvgraphError, SourceLocation
from envgraph.model.config import WorkspaceConfig
from envgraph.model.reference import LocalReference, parse_reference
from envgraph.model.spec import CondaSpec, EnvironmentSpec
from envgraph.spec import paths
from envgraph.spec.nodes import MapNode, Node, described
from envgraph.spec.problems import place
from envgraph.spec.reading import Reading


@dataclass(frozen=True, slots=True)
class LoadResult:
    """An environment, or why there is none. ``spec`` is None when there is an error.

    ``inputs`` lists every file that was looked at (absolute), also when it failed.
    """

    spec: EnvironmentSpec | None
    diagnostics: tuple[Diagnostic, ...]
    inputs: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """There is a spec; there may be warnings."""
        return self.spec is not None


def load_environment(path: Path | str, config: WorkspaceConfig | None = None) -> LoadResult:
    """Read one environment file: Azure ML's YAML, or a plain conda environment file.

    Every file that it names is read too. Never raises for what the files hold; all
    problems come at once, with file, line, column and hint.
    """
    # Whether a name is reserved is asked where names are registered.
    settings = config if config is not None else WorkspaceConfig("default", "", "")
    settings = replace(settings, reserved_prefixes=())
    reading = Reading()
    spec = None
    try:
        spec = _load(os.fspath(path), settings, reading)
    except EnvgraphError as error:
        reading.problems.take(error, SourceLocation(os.fspath(path)))
    if reading.problems.failed:
        spec = None
    inputs = tuple(reading.inputs)
    if spec is not None:
        spec = replace(spec, inputs=inputs)
    return LoadResult(spec, reading.problems.result(), inputs)


def _load(file: str, config: WorkspaceConfig, reading: Reading) -> EnvironmentSpec | None:
    from envgraph.spec.assets import filled
    from envgraph.spec.text import decode
    from envgraph.spec.yaml_text import compose

    data = reading.read(file, SourceLocation(file), "")
    if data is None:
        return None
    text = decode(data, file, reading.problems)
    if text is None:
        return None
    text = filled(text, file, reading)
    root = compose(text, file, reading.problems)
    if root is None:
        return None
    return environment_from_tree(root, text, file, config, reading)


def environment_from_tree(
    root: Node, text: str, file: str, config: WorkspaceConfig, reading: Reading
) -> EnvironmentSpec | None:
    """A file's tree → its environment, whichever of the two shapes it has."""
    from envgraph.spec.assets import without_auto
    from envgraph.spec.environment_file import parse_environment
    from envgraph.spec.kinds import kind_of_tree
    from envgraph.spec.templates import find_templates

    if not isinstance(root, MapNode):
        reading.problems.add(
            "environment-shape",
            f"an environment file is a mapping, and this is {described(root)}",
            place(file, root),
            hint="begin with `name:` and `image:`, or with `dependencies:`",
        )
        return None
    kind = kind_of_tree(root)
    if kind.name in ("conda", "environment", "unknown"):
        find_templates(root, file, reading.problems)
    if kind.name == "conda":
        return _plain_conda(root, text, file, config, reading)
    if kind.name not in ("environment", "unknown"):
        reading.problems.add(
            "not-environment",
            f"this is {kind.title}, not an environment",
            place(file, root),
            hint=kind.hint,
        )
        return None
    if kind.name == "unknown" and _foreign(root):
        reading.problems.add(
            "unknown-kind", "none of the files that envgraph knows", place(file, root),
            hint="an environment has `image:` or `build:`, a conda file has `dependencies:`",
        )  # fmt: skip
        return None
    tree = without_auto(root)
    assert isinstance(tree, MapNode)
    return parse_environment(tree, reading, file, reserved=config.reserved_prefixes)


def _foreign(root: MapNode) -> bool:
    """Most keys belong to no environment: one line says more than one for each of them."""
    from envgraph.spec.environment_file import KNOWN

    known = sum(key.value in KNOWN for key, _ in root)
    return known * 2 < len(root.pairs)


def _plain_conda(
    root: MapNode, text: str, file: str, config: WorkspaceConfig, reading: Reading
) -> EnvironmentSpec:
    from envgraph.spec.conda_file import parse_conda
    from envgraph.spec.environment_file import check_name

    conda: CondaSpec = parse_conda(root, text, reading, file, paths.folder_of(file))
    name = conda.name or _stem(file)
    check_name(name, root.get("name") or root, file, reading.problems, config.reserved_prefixes)
    base = config.image.default_base
    reference = parse_reference(base)
    image_path = None
    if isinstance(reference, LocalReference):
        image_path = paths.absolute(paths.joined(config.root, reference.path))
        reading.note_input(image_path)
    return EnvironmentSpec(
        name=name,
        image=str(reference),
        conda=conda,
        platforms=conda.platforms,
        source=place(file, root),
        image_path=image_path,
    )


DRAFT: Final = ".draft"
"""How the name of a file ends that `envgraph edit` has not finished; no environment file."""


def _stem(file: str) -> str:
    """``environments/train.yml`` → ``train``; ``train/environment.yml`` → ``environment``."""
    path = Path(file)
    if path.name.startswith(".") and path.name.endswith(DRAFT):  # the stem of what it becomes
        path = Path(path.name[1 : -len(DRAFT)])
    return path.stem or "environment"


def discover(config: WorkspaceConfig) -> list[Path]:
    """The environment files of a workspace: its globs below its root, each file once, sorted."""
    found: set[Path] = set()
    root = Path(config.root)
    for pattern in config.environments:
        if paths.is_absolute(pattern):
            base, rest = Path("/"), pattern.lstrip("/")
        else:
            base, rest = root, pattern
        for path in base.glob(rest):
            if not path.name.endswith(DRAFT) and (path.is_file() or not path.is_dir()):
                found.add(Path(os.path.normpath(path)))
    return sorted(found)
