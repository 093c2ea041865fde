"""What a file is, and whether it is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envgraph.errors import Diagnostic
from envgraph.model.config import WorkspaceConfig
from envgraph.spec.load import load_environment


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one file."""

    path: str
    kind: str
    title: str
    diagnostics: tuple[Diagnostic, ...] = ()


def judge_file(path: Path | str, config: WorkspaceConfig | None = None) -> Judgement:
    """Recognise a file and say everything that is wrong with it."""
    result = load_environment(path, config)
    return Judgement(str(path), "environment", "an environment", result.diagnostics)
