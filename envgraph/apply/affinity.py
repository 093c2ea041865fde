"""Which builds share files and steps, so that the same server should make them."""

from __future__ import annotations

import json
import os
from typing import Final

from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedEnvironment
from envgraph.model.spec import DockerStep, EnvironmentSpec

_WORK: Final = ("RUN", "COPY", "ADD")
"""Instructions that take time or files; the others say nothing of what a server should keep."""


def affinity_of(config: WorkspaceConfig, spec: EnvironmentSpec, lock: LockedEnvironment) -> str:
    """The same text for environments that share their first steps, or are one build context.

    Steps: platform, base and the instructions up to the first that works. A context: the
    workspace and the folder, or the repository. No content is in it: whoever changes a file
    goes back to the server that has the rest. The same on every machine with the workspace.
    """
    build = spec.build
    if build is not None:
        address, _, part = build.path.partition("#")
        remote = f"{address}:{part.partition(':')[2]}"  # whatever its commit
        place = _within(config, build.folder) if build.folder else remote
        return json.dumps([lock.platform, "context", config.id, place, build.dockerfile_path])
    first: list[str] = []
    folder = ""
    for step in spec.docker_steps:
        first.append(step.instruction)
        if _word(step) in _WORK:
            folder = _within(config, step.folder) if step.inputs else ""
            break
    return json.dumps([lock.platform, "steps", lock.base.reference, first, folder])


def _word(step: DockerStep) -> str:
    return step.instruction.split(None, 1)[0].upper()


def _within(config: WorkspaceConfig, folder: str) -> str:
    return os.path.relpath(folder, config.root) if folder else ""
