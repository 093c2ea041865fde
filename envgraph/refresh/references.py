"""Environments that jobs and deployments only name: whether they are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from envgraph.errors import Diagnostic, NotFoundError
from envgraph.history.find import find_version
from envgraph.model.config import WorkspaceConfig
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.spec.job_files import UsedReference


def missing_references(
    config: WorkspaceConfig, store: Store, references: Sequence[UsedReference]
) -> list[Diagnostic]:
    """An error for each reference that nothing here answers, at its place in the file.

    Registries are not asked: an environment of one that the workspace knows comes with
    `pull`, or when the job runs, and a remark says so.
    """
    problems: list[Diagnostic] = []
    for used in references:
        registry = used.reference.registry
        if registry and registry in config.registries:
            problems.append(
                Diagnostic(
                    "registry-environment",
                    f"{used.where}: {used.reference} is in a registry",
                    "it is not part of this plan",
                    used.source,
                    f"`envgraph pull {used.reference}` brings it here",
                    "info",
                )
            )
        elif registry:
            problems.append(
                Diagnostic(
                    "unknown-registry",
                    f"{used.where}: this workspace has no registry {registry!r}",
                    str(used.reference),
                    used.source,
                    "add it to `registries` in envgraph.yaml, or name an environment of your own",
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
