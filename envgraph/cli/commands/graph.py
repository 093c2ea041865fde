"""``graph``: the build graph as a document for other tools."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import EnvgraphError, PlatformError

SIGNATURE: Final = Signature(
    operands=(Operand("REF", "registered versions; default: all current ones", "many"),),
    flags=(
        Flag(
            "--format",
            "what to write",
            "FORMAT",
            choices=("dot", "mermaid", "json", "svg"),
            default="dot",
        ),
        Flag("--output", "a file instead of stdout", "FILE", ("-o",)),
    ),
    notes=("svg needs `dot` of Graphviz.",),
    examples=(("envgraph graph train --format mermaid", "to paste into a Markdown file"),),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which versions, in which form. ``format`` is empty when none was given."""

    references: tuple[str, ...]
    format: str
    output: Path | None


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    output = values.text("--output")
    return Arguments(
        values.words("REF"),
        values.text("--format") or "",
        None if output is None else Path(output),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Write the graph; PlatformError for svg without Graphviz."""
    from envgraph.cli.views.graph import as_dot, as_json, as_mermaid

    chosen = arguments.format or ("json" if session.common.json else "dot")
    dot = _find_dot() if chosen == "svg" else ""
    with session.open_workspace() as workspace:
        graph = workspace.graph(arguments.references)
    if chosen == "json":
        text = as_json(graph)
    elif chosen == "mermaid":
        text = as_mermaid(graph)
    else:
        text = as_dot(graph)
    if chosen == "svg":
        text = _svg(dot, text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")
        session.console.note(f"wrote {arguments.output}")
        if session.common.json:
            session.answer({"format": chosen, "output": str(arguments.output)})
    elif session.common.json and chosen != "json":
        session.answer({"format": chosen, "text": text})
    else:
        session.console.raw(text)
    return 0


def _find_dot() -> str:
    path = shutil.which("dot")
    if path is None:
        raise PlatformError(
            "svg needs the program `dot` of Graphviz, and it is not installed",
            code="no-graphviz",
            hint="apt install graphviz, or take --format mermaid",
        )
    return path


def _svg(dot: str, text: str) -> str:
    done = subprocess.run([dot, "-Tsvg"], input=text.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise EnvgraphError(
            "`dot` could not draw the graph",
            code="graphviz-failed",
            detail=done.stderr.decode(errors="replace").strip(),
        )
    return done.stdout.decode("utf-8", "replace")
