"""Environments that jobs and deployments only name: whether they are there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from envgraph.errors import Diagnostic, NotFoundError
from envgraph.history.find import find_version
from envgraph.model.config import WorkspaceConfig
from envgraph.registry.remotes import WORKSPACE
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.spec.job_files import UsedReference


def missing_references(
    config: WorkspaceConfig, store: Store, references: Sequence[UsedReference]
) -> list[Diagnostic]:
    """An error for each reference that nothing here answers, at its place in the file.

    Registries are not asked (:mod:`envgraph.refresh.borrowed` does); one that the workspace
    does not know is an error.
    """
    problems: list[Diagnostic] = []
    for used in references:
        registry = used.reference.registry
        if registry in config.registries or (registry == WORKSPACE and config.registry):
            continue
        if used.reference.is_of_another(config.name):
            problems.append(
                Diagnostic(
                    "other-workspace",
                    f"{used.where}: {used.reference} is of the workspace"
                    f" {used.reference.workspace!r}; this one is {config.name!r}",
                    "what other workspaces have is not looked up",
                    used.source,
                    "share it there, and name it by azureml://registries/…; or name an"
                    " environment of this workspace",
                )
            )
        elif registry:
            problems.append(
                Diagnostic(
                    "unknown-registry",
                    f"{used.where}: this workspace has no registry {registry!r}",
                    str(used.reference),
                    used.source,
                    _registry_hint(config, registry),
                )
            )
        else:
            try:
                find_version(store, config.id, str(used.reference), config.name)
            except NotFoundError as error:
                problems += (
                    Diagnostic(
                        "unknown-environment",
                        f"{used.where}: {d.summary}",
                        d.detail,
                        used.source,
                        d.hint or "apply the file that defines it first",
                    )
                    for d in error.diagnostics
                )
    return problems


def _registry_hint(config: WorkspaceConfig, registry: str) -> str:
    near = difflib.get_close_matches(registry, list(config.registries), 1)
    if near:
        return f"did you mean {near[0]}?"
    return "add it to `registries` in envgraph.yaml, or name an environment of your own"
