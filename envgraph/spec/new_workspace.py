"""A new workspace's files: a commented envgraph.yaml, an example, and schemas for editors.

Nothing that exists is changed; envgraph.yaml is written last, so a folder that has one
is whole.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from envgraph.errors import InputError, SourceLocation
from envgraph.spec.schemas import NAMES, published

WORKSPACE_FILE: Final = "envgraph.yaml"
EXAMPLE_FILE: Final = "environments/example.yml"
SCHEMA_FOLDER: Final = ".envgraph/schema"


def new_workspace(folder: Path, name: str, *, example: bool = True) -> list[Path]:
    """Write what is not there yet; the files that were made, envgraph.yaml first.

    InputError ``workspace-exists`` when the folder is a workspace already.
    """
    target = folder / WORKSPACE_FILE
    if os.path.lexists(target):
        raise InputError(
            "this is a workspace already",
            code="workspace-exists",
            source=SourceLocation(str(target)),
            hint="nothing was changed; to begin anew, remove it first",
        )
    text = WORKSPACE.format(name=name, id=secrets.token_hex(4))
    documents = [(folder / EXAMPLE_FILE, EXAMPLE)] if example else []
    documents += [(folder / SCHEMA_FOLDER / n, published(n)) for n in NAMES]
    documents.append((target, text))
    created = [path for path, text in documents if _write_new(path, text)]
    return [created[-1], *created[:-1]]


def write_schemas(folder: Path) -> list[Path]:
    """Write this version's schemas over those of another; the files that changed."""
    written = []
    for name in NAMES:
        path = folder / SCHEMA_FOLDER / name
        text = published(name)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


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
