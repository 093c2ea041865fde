"""A file → what it locks, whichever of the known formats it has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from envgraph.errors import InputError, SourceLocation
from envgraph.interchange.imports.foreign import LARGEST_IMPORT, ForeignLock
from envgraph.spec.problems import Problems
from envgraph.spec.text import decode

FORMATS: Final = (
    "conda-lock v1, pixi.lock v3 to v7, @EXPLICIT lists, pylock.toml, requirements files and "
    "MLflow models"
)
_EXPLICIT: Final = re.compile(r"^\s*@EXPLICIT\s*$", re.MULTILINE)
_TOP_KEYS: Final = re.compile(r"^([A-Za-z_-]+):", re.MULTILINE)
_ENDINGS: Final = re.compile(
    r"(?i)[._-]?(conda-lock|pixi|pylock|requirements|explicit)?\.(ya?ml|lock|txt|toml|in)$"
)
_PIXI_3: Final = re.compile(r"^version:\s*['\"]?3\b", re.MULTILINE)
"""pixi's lock before it had environments: in the shape of conda-lock's."""
_OTHERS: Final = {
    "uv.lock": "write it with `uv export --format pylock.toml -o pylock.toml`",
    "poetry.lock": "write it with `poetry export -o requirements.txt`",
    "pdm.lock": "write it with `pdm export -f pylock -o pylock.toml`",
    "Pipfile.lock": "write it with `pipenv requirements --hash > requirements.txt`",
}
"""Locks of tools that can write one of the known formats."""
_UV: Final = re.compile(r"^\[\[package\]\]$[\s\S]*^source = \{", re.MULTILINE)
_PYLOCK: Final = re.compile(r"^lock-version\s*=", re.MULTILINE)
_REQUIREMENTS: Final = re.compile(r"(?i).*requirements?.*\.(txt|in)")
_MLFLOW: Final = ("MLmodel", "python_env.yaml")
_PLATFORM: Final = re.compile(r"[._-]?(linux|osx|win)[-_][a-z0-9]+$")
_SAY_NOTHING: Final = frozenset({"", "conda", "explicit", "lock", "environment", "packages"})


def read_foreign(
    path: Path,
    name: str | None = None,
    environment: str | None = None,
    python: str | None = None,
) -> ForeignLock:
    """Read a lock of another tool; InputError with every problem, lines included.

    ``name`` is what the environment shall be called; by default what the file says, or
    its own name without endings. ``environment`` is one of those in a pixi lock;
    ``python`` the version for files that lock none.
    """
    if path.is_dir() or path.name in _MLFLOW:
        from envgraph.interchange.imports.pip_files import read_mlflow

        return read_mlflow(path, name, python)
    text = _text(path)
    called = name or _name_from(path)
    if _EXPLICIT.search(text):
        from envgraph.interchange.imports.explicit import read_explicit

        return read_explicit(path, text, called)
    keys = set(_TOP_KEYS.findall(text))
    if {"version", "metadata"} <= keys and _PIXI_3.search(text):
        from envgraph.interchange.imports.pixi import read_pixi

        return read_pixi(path, text, called, environment, range(3, 4))
    if {"version", "metadata"} <= keys:
        from envgraph.interchange.imports.condalock import read_conda_lock

        return read_conda_lock(path, text, called)
    if {"version", "environments", "packages"} <= keys:
        from envgraph.interchange.imports.pixi import read_pixi

        return read_pixi(path, text, called, environment)
    if path.suffix == ".toml" and _PYLOCK.search(text):
        from envgraph.interchange.imports.pylock import read_pylock

        return read_pylock(path, text, called, python)
    if _REQUIREMENTS.fullmatch(path.name):
        from envgraph.interchange.imports.pip_files import read_requirements

        return read_requirements(path, text, called, python)
    raise InputError(
        "this is none of the files that can be imported",
        code="import-kind",
        source=SourceLocation(str(path)),
        hint=_OTHERS.get("uv.lock" if _UV.search(text) else path.name)
        or f"this version reads {FORMATS}; an environment file needs no import",
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_IMPORT + 1)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read", code="unreadable", detail=error.strerror or str(error)
        ) from None
    if len(data) > LARGEST_IMPORT:
        raise InputError(f"{path} is larger than any lock ({LARGEST_IMPORT} bytes)", code="size")
    problems = Problems()
    text = decode(data, str(path), problems)
    if text is None:
        raise InputError(problems.result())
    return text.replace("\r\n", "\n")


def _name_from(path: Path) -> str:
    """``locks/train.conda-lock.yml`` → ``train``; ``train/conda-lock.yml`` → ``train``.

    A folder without a name (the current one) is taken by its real name.
    """
    stem = _PLATFORM.sub("", _ENDINGS.sub("", path.name))
    if stem.lower() in _SAY_NOTHING:
        return path.absolute().parent.name or "imported"
    return stem
