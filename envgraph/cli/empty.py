"""A workspace without environment files: where was looked, and which file was meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.cli.views.text import listed
from envgraph.errors import Diagnostic, SourceLocation

if TYPE_CHECKING:
    from envgraph.model.config import WorkspaceConfig

LIKELY: Final = (
    "environment.yml",
    "environment.yaml",
    "conda.yml",
    "conda.yaml",
)
"""Names that a single environment file has, beside which no envgraph.yaml is needed."""


def no_environments(config: WorkspaceConfig, verb: str, folder: Path) -> Diagnostic | None:
    """What to say when the workspace has no environment file; None when it has one.

    A warning where there is an envgraph.yaml, which may be new; an error without one:
    then this folder is no workspace. ``folder`` is the ``-C`` of the command line.
    """
    from envgraph.spec import discover

    if discover(config):
        return None
    where = "" if folder == Path() else f" -C {folder}"
    found = [name for name in LIKELY if os.path.isfile(os.path.join(config.root, name))]  # noqa: PTH113, PTH118
    if found:
        hint = f"did you mean `envgraph {verb}{where} {found[0]}`?"
    elif config.file is None:
        hint = f"name files (envgraph {verb} environment.yml), or begin with envgraph init"
    else:
        hint = "`environments:` in envgraph.yaml says where they are"
    return Diagnostic(
        "no-environments",
        "no environment file was found",
        f"looked for {listed(config.environments)} in {config.root}",
        None if config.file is None else SourceLocation(config.file),
        hint,
        "error" if config.file is None else "warning",
    )
