"""``import``: another tool's lock as an environment of this workspace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session

SIGNATURE = Signature(
    operands=(Operand("FILE", "a lock of another tool"),),
    flags=(
        Flag("--name", "what the environment is called; default: after the file", "NAME"),
        Flag(
            "--platform", "take this platform; default: the workspace's", "PLATFORM", many="repeat"
        ),
        Flag("--environment", "one of a pixi lock; default: default", "NAME"),
        Flag("--python", "its version, for files that lock none", "VERSION"),
        Flag("--output", "the environment file; default: environments/NAME.yml", "PATH", ("-o",)),
    ),
    notes=(
        "Reads conda-lock v1, pixi.lock v3 to v7, @EXPLICIT lists, pylock.toml, requirements "
        "files and MLflow models (the folder, or its MLmodel). Writes an environment file that "
        "names what nothing else needs, and locks/NAME.conda-lock.yml with every package: the "
        "next plan solves nothing.",
        "Where a lock does not say a package's sha256 and size, the archive is fetched, checked "
        "against what it does say, and kept for apply. What only names pip packages gets its "
        "Python, and what it leaves open, from a solve now.",
    ),
    examples=(
        ("envgraph import conda-lock.yml --name train", "what conda-lock locked"),
        ("envgraph import explicit.txt && envgraph plan", "what `conda list --explicit` wrote"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to import, and as what."""

    file: str
    name: str | None
    platforms: tuple[str, ...]
    environment: str | None
    python: str | None
    output: Path | None


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    output = values.text("--output")
    [file] = values.words("FILE")
    return Arguments(
        file,
        values.text("--name"),
        tuple(dict.fromkeys(values.texts("--platform"))),
        values.text("--environment"),
        values.text("--python"),
        None if output is None else Path(output),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Import the file, and say what was written."""
    from envgraph.apply.importing import ImportQuestion

    with session.open_workspace() as workspace:
        done = workspace.importer.run(
            ImportQuestion(
                session.path(arguments.file),
                arguments.name,
                arguments.platforms,
                None if arguments.output is None else session.path(str(arguments.output)),
                arguments.environment,
                arguments.python,
            )
        )
    session.report(done.diagnostics)
    if session.common.json:
        session.answer(
            {
                "name": done.name,
                "format": done.kind,
                "file": str(done.file),
                "lockfile": str(done.lockfile),
                "packages": dict(done.packages),
                "fetched": done.fetched,
                "bytes": done.bytes,
            }
        )
        return 0
    from envgraph.cli.views.imports import show_import

    show_import(done, session)
    return 0
