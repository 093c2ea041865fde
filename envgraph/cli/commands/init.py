"""``init``: a workspace that a person can read, and one environment to begin with."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import InputError, SourceLocation, UsageError

SIGNATURE: Final = Signature(
    operands=(Operand("DIR", "the folder; made if it is not there", "optional"),),
    flags=(Flag("--name", "the workspace's name; default: the folder's", value="NAME"),),
    notes=("Writes envgraph.yaml, environments/example.yml and .envgraph/schema/*.json, "
           "which editors use to complete and check the two. Nothing that exists is changed.",),
    examples=(("envgraph init fraud-models", "a workspace in a new folder"),),
)  # fmt: skip

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
WORKSPACE_FILE: Final = "envgraph.yaml"
EXAMPLE_FILE: Final = "environments/example.yml"
SCHEMA_FOLDER: Final = ".envgraph/schema"
SCHEMAS: Final = ("workspace.json", "environment.json")


@dataclass(frozen=True, slots=True)
class Arguments:
    """``folder`` is None for the workspace folder of ``-C``."""

    folder: Path | None
    name: str | None


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError for a name that no workspace may have."""
    name = values.text("--name")
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: a workspace's name is made of a-z, 0-9, '.', '_' and '-'",
            hint=f"for example {workspace_name(name)}",
        )
    folder = values.word("DIR")
    return Arguments(None if folder is None else Path(folder), name)


def run(arguments: Arguments, session: Session) -> int:
    """Make the files; InputError when the folder is a workspace already."""
    folder = session.common.folder / (arguments.folder or "")
    name = arguments.name or workspace_name(folder.resolve().name)
    target = folder / WORKSPACE_FILE
    if os.path.lexists(target):
        raise InputError(
            "this is a workspace already",
            code="workspace-exists",
            source=SourceLocation(str(target)),
            hint="nothing was changed; to begin anew, remove it first",
        )
    created = make_workspace(folder, name, secrets.token_hex(4))
    if session.common.json:
        session.answer(
            {
                "workspace": name,
                "folder": str(folder.resolve()),
                "created": [str(p) for p in created],
            }
        )
        return 0
    show = session.console.out
    for path in created:
        show("created ", str(path))
    show()
    where = f" -C {arguments.folder}" if arguments.folder is not None else ""
    show(f"Next: look at {created[1] if len(created) > 1 else EXAMPLE_FILE}, then")
    show(f"  envgraph{where} plan")
    return 0


def make_workspace(folder: Path, name: str, identity: str) -> list[Path]:
    """Write what is not there yet, envgraph.yaml last; the files that were made."""
    schema = folder / SCHEMA_FOLDER
    documents = [(folder / EXAMPLE_FILE, EXAMPLE)]
    documents += [(schema / n, (files("envgraph.cli.schemas") / n).read_text()) for n in SCHEMAS]
    documents.append((folder / WORKSPACE_FILE, WORKSPACE.format(name=name, id=identity)))
    created = [path for path, text in documents if _write_new(path, text)]
    return [created[-1], *created[:-1]]


def _write_new(path: Path, text: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        return False
    return True


def workspace_name(text: str) -> str:
    """A workspace name from any text: ``Fraud Models (2)`` → ``fraud-models-2``."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "workspace"


WORKSPACE: Final = """\
# yaml-language-server: $schema=.envgraph/schema/workspace.json
workspace: {name}
id: "{id}"  # commit it: pins, versions and labels belong to it

# Everything below is optional; what stands here is the default.

# environments: [environments/*.yml, environments/*.yaml]
# platforms: [linux-64]            # locked together

# What to solve for, never what this machine happens to have. For CUDA builds say so:
# virtual_packages:
#   linux-64: {{__glibc: "2.28", __cuda: "12.4"}}

# default_channels: [conda-forge]  # for conda files that name none
# channels:                        # where a channel really is (mirrors); pins do not change
#   conda-forge: "https://mirror.example/conda-forge"
# pip_indexes: []                  # instead of the default index

# base_images: freeze              # freeze | follow | ask: what to do when a base tag moved
# image: {{compression: zstd, max_layers: 80, bytecode: auto, default_base: scratch}}
"""

EXAMPLE: Final = """\
# yaml-language-server: $schema=../.envgraph/schema/environment.json
#
# An Azure ML environment file; a plain conda environment.yml works as well.
name: example
description: A first environment, to be changed

# The base image: python:3.12, HOST/NAME:TAG, oci:PATH, docker-archive:PATH, or scratch for
# the packages alone. A tag is pinned when it is first used.
image: scratch

# Or the path of a conda file, from this file's folder: conda_file: conda.yml
conda_file:
  channels: [conda-forge]
  dependencies:
    - python=3.12
    - numpy

environment_variables:
  OMP_NUM_THREADS: "1"
"""
