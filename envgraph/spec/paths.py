"""Paths as text: joined and cleaned without looking at the disk.

``pathlib`` cannot do this (``Path.resolve`` follows links, and ``Path`` keeps
``..``), so the functions of ``os.path`` are used here, and only here.
"""
# ruff: noqa: PTH100, PTH110, PTH111, PTH112, PTH117, PTH118, PTH120, PTH208

from __future__ import annotations

import os


def joined(folder: str, path: str) -> str:
    """``path`` as seen from ``folder``, ``.`` and ``..`` worked out."""
    return os.path.normpath(os.path.join(folder, path))


def absolute(path: str | os.PathLike[str]) -> str:
    """``path`` from the root, links left as they are."""
    return os.path.abspath(path)


def folder_of(path: str) -> str:
    """The folder part as written; empty for a bare name."""
    return os.path.dirname(path)


def is_absolute(path: str) -> bool:
    """Whether ``path`` begins at the root."""
    return os.path.isabs(path)


def is_folder(path: str) -> bool:
    """Whether there is a folder (links followed)."""
    return os.path.isdir(path)


def exists(path: str) -> bool:
    """Whether there is anything (links followed)."""
    return os.path.exists(path)


def present(path: str) -> bool:
    """Whether there is anything, a dangling link too."""
    return os.path.lexists(path)


def home(path: str) -> str:
    """``~`` replaced by the user's folder."""
    return os.path.expanduser(path)


def names_in(folder: str | os.PathLike[str]) -> list[str]:
    """The names in a folder, sorted; OSError as the system says."""
    return sorted(os.listdir(folder))
