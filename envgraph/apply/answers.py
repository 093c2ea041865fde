"""What a builder answers, held to what it was asked; and its errors in the user's terms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Final

from envgraph.api.builder import BuilderError, BuildResult
from envgraph.api.redact import Redactor
from envgraph.apply.builders import ChosenBuilder
from envgraph.errors import BuildError, SourceLocation
from envgraph.lock.contextfiles import title_of
from envgraph.model.locked import BaseLayer, LockedBase
from envgraph.model.nodes import Node
from envgraph.model.oci import read_config
from envgraph.model.spec import BuildSpec, DockerStep

_LAST_LINES: Final = 20
"""Lines of a failed step's output that an error shows."""


def read_full(stream: BinaryIO, size: int) -> bytes:
    """Exactly ``size`` bytes unless the end comes: frames do not depend on how it was cut."""
    pieces: list[bytes] = []
    left = size
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def kept_below(
    result: BuildResult, base: LockedBase, started: LockedBase, chosen: ChosenBuilder
) -> tuple[int, tuple[BaseLayer, ...]]:
    """How many of the base's layers stay, and those of earlier steps above them."""
    if result.base is None:
        return 0, ()
    found = [layer.descriptor.digest for layer in result.base.layers]
    own = [layer.digest for layer in base.layers]
    if found != [layer.digest for layer in started.layers]:
        raise BuilderError(
            f"{chosen.builder.title} gave an image on another base than the one it was given",
            code="builder-answer",
        )
    kept = len(own) if found[: len(own)] == own else 0
    return kept, started.layers[kept:]


def checked_config(
    data: bytes, layers: Sequence[BaseLayer], chosen: ChosenBuilder
) -> dict[str, Any]:
    """The config that was given; BuilderError when it is not that of these layers."""
    config = read_config(data, f"the config that {chosen.builder.title} made")
    if list(config.diff_ids) != [layer.diff_id for layer in layers]:
        raise BuilderError(
            f"{chosen.builder.title} gave a config that does not fit its layers",
            code="builder-answer",
        )
    return dict(config.document)


def without_repeats(config: dict[str, Any], before: bytes, along: int) -> dict[str, Any]:
    """The config without the history of instructions that were only sent along."""
    past = json.loads(before).get("history") or []
    history = config.get("history") or []
    new = history[len(past) :]
    if history[: len(past)] == past and len(new) == along + 1:
        return config | {"history": [*past, new[-1]]}
    return config


def _source(found: SourceLocation | None, where: DockerStep | BuildSpec) -> SourceLocation | None:
    """The line of a step, or of the Dockerfile by its path on this machine."""
    if isinstance(where, DockerStep) or found is None:
        return where.source
    if found.file == where.dockerfile_path:
        folder = f"{where.folder}/" if where.folder else title_of(where)
        return replace(found, file=f"{folder}{where.dockerfile_path}")
    return found


def explained(
    error: BuilderError, node: Node, where: DockerStep | BuildSpec, redactor: Redactor
) -> BuildError:
    """A builder's error as the user needs it: instruction, line, exit code, last output."""
    [first, *_] = error.diagnostics
    lines = redactor.clean(error.output or "").rstrip().splitlines()[-_LAST_LINES:]
    detail = redactor.clean(first.detail)
    if lines and "\n".join(lines) not in detail:
        detail = "\n".join(filter(None, [detail, *lines]))
    if isinstance(where, DockerStep):
        instruction = where.instruction
        if instruction not in detail:
            detail = "\n".join(filter(None, [instruction, detail]))
    diagnostic = replace(
        first,
        summary=redactor.clean(first.summary),
        detail=detail,
        source=_source(first.source, where),
    )
    return BuildError(diagnostic)
