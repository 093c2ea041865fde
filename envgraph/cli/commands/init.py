"""``init``: a workspace that a person can read, and one environment to begin with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import UsageError
from envgraph.spec.new_workspace import (
    EXAMPLE_FILE,
    new_workspace,
    workspace_name,
    write_schemas,
)

SIGNATURE: Final = Signature(
    operands=(Operand("DIR", "the folder; made if it is not there", "optional"),),
    flags=(
        Flag("--name", "the workspace's name; default: the folder's", value="NAME"),
        Flag("--schemas", "only the editors' schemas, those of this version"),
    ),
    notes=(
        "Writes envgraph.yaml, environments/example.yml and .envgraph/schema/*.json, which "
        "editors use to complete and check your files: the first line of each file names its "
        "schema. Nothing that exists is changed; with --schemas the schemas alone are written "
        "anew, for instance after an update of envgraph.",
    ),
    examples=(
        ("envgraph init fraud-models", "a workspace in a new folder"),
        ("envgraph init --schemas", "this version's schemas, in a workspace that is there"),
    ),
)

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Arguments:
    """``folder`` is None for the workspace folder of ``-C``."""

    folder: Path | None
    name: str | None
    schemas: bool = False


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError for a name that no workspace may have."""
    name = values.text("--name")
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: a workspace's name is made of a-z, 0-9, '.', '_' and '-'",
            hint=f"for example {workspace_name(name)}",
        )
    if name is not None and values.on("--schemas"):
        raise UsageError("--schemas writes no envgraph.yaml, which would have the --name")
    folder = values.word("DIR")
    return Arguments(None if folder is None else Path(folder), name, values.on("--schemas"))


def run(arguments: Arguments, session: Session) -> int:
    """Make the files; InputError when the folder is a workspace already."""
    folder = session.common.folder / (arguments.folder or "")
    if arguments.schemas:
        return _schemas(folder, session)
    name = arguments.name or workspace_name(folder.resolve().name)
    created = new_workspace(folder, name)
    if session.common.json:
        session.answer({"workspace": name, **_files(folder, created)})
        return 0
    show = session.console.out
    for path in created:
        show("created ", str(path))
    show()
    where = f" -C {arguments.folder}" if arguments.folder is not None else ""
    show(f"Next: look at {created[1] if len(created) > 1 else EXAMPLE_FILE}, then")
    show(f"  envgraph{where} plan")
    return 0


def _schemas(folder: Path, session: Session) -> int:
    written = write_schemas(folder)
    if session.common.json:
        session.answer(_files(folder, written))
        return 0
    for path in written:
        session.console.out("written ", str(path))
    if not written:
        session.console.out("The schemas are those of this version.")
    return 0


def _files(folder: Path, created: Sequence[Path]) -> dict[str, object]:
    return {"folder": str(folder.resolve()), "created": [str(path) for path in created]}
