"""``validate``: every problem of every file, with its place; reads, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.validate import Judged, show_judged, summary_of
from envgraph.errors import Diagnostic, InputError, SourceLocation, UsageError

if TYPE_CHECKING:
    from envgraph.model.config import WorkspaceConfig

SIGNATURE: Final = Signature(
    operands=(
        Operand("FILE", "files, folders or globs; default: what the workspace names", "many"),
    ),
    notes=(
        "Reads environment files, conda files, jobs, deployments and lockfiles, says what kind "
        "each one is, and what is wrong with it. A folder means every .yml and .yaml file below "
        "it. Exit code 1 when a file has an error; warnings do not count.",
    ),
    examples=(
        ("envgraph validate", "everything in this workspace"),
        ("envgraph validate --json 'jobs/**/*.yml'", "for an editor or a CI job"),
    ),
)

_YAML: Final = (".yml", ".yaml")
_SKIPPED: Final = frozenset({".git", ".venv", "node_modules", "__pycache__", ".envgraph"})


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to check."""

    files: tuple[str, ...]


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(values.words("FILE"))


def run(arguments: Arguments, session: Session) -> int:
    """Judge every file; 1 when one of them has an error."""
    from envgraph.cli.empty import no_environments
    from envgraph.spec import discover, load_workspace

    config, remarks = load_workspace(session.common.folder)
    judged = []
    if not arguments.files:
        workspace_file = session.common.folder / "envgraph.yaml"
        empty = no_environments(config, "validate", session.common.folder)
        if empty is not None and config.file is None:
            raise InputError(empty)
        if remarks or workspace_file.exists():
            said = (*remarks, empty) if empty is not None else tuple(remarks)
            judged.append(Judged(str(workspace_file), "workspace", "a workspace", said))
        paths: Sequence[Path] = [Path(p) for p in discover(config)]
    else:
        paths = list(dict.fromkeys(_expand(arguments.files, session)))
    for path in paths:
        judged.append(_judge(path, config))
    errors = [d for item in judged for d in item.diagnostics if d.severity == "error"]
    if session.common.json:
        session.answer(
            {
                "files": [item.to_json() for item in judged],
                "summary": summary_of(judged),
                "diagnostics": [],
            }
        )
        session.problems += errors
    else:
        show_judged(judged, session)
    return 1 if errors else 0


def _judge(path: Path, config: WorkspaceConfig | None) -> Judged:
    from envgraph.spec import judge_file

    try:
        verdict = judge_file(path, config)
    except OSError as error:
        place = SourceLocation(str(path))
        problem = Diagnostic("unreadable", f"cannot be read: {error.strerror}", "", place)
        return Judged(str(path), "unreadable", "a file that cannot be read", (problem,))
    return Judged(str(path), verdict.kind, verdict.title, tuple(verdict.diagnostics))


def _expand(words: Sequence[str], session: Session) -> Iterator[Path]:
    """Files as named, files below folders, matches of globs; sorted where we list them."""
    for word in words:
        path = session.path(word)
        if path.is_dir():
            yield from sorted(_below(path))
        elif os.path.lexists(path):
            yield path
        elif any(sign in word for sign in "*?["):
            found = sorted(_matches(session.common.folder, word))
            if not found:
                raise InputError(f"no file matches {word!r}", code="no-files")
            yield from found
        else:
            yield path  # judged as what cannot be read, so that the others are judged too


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    anchor = Path(pattern).anchor
    start = Path(anchor) if anchor else folder
    try:
        yield from (path for path in start.glob(pattern[len(anchor) :]) if path.is_file())
    except ValueError as error:
        raise UsageError(f"{pattern!r} is not a glob: {error}") from None


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        for name in names:
            if name.lower().endswith(_YAML) or name == "MLmodel":
                yield Path(parent, name)
