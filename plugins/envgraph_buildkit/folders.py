"""Folders of this machine as BuildKit asks for them: by patterns, with their own times.

Patterns are those of ``.dockerignore`` (moby's ``patternmatcher``): anchored at the root, the
last that matches wins, ``!`` takes back, and what is said of a folder holds for all below it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from envgraph.api import BuilderError, ContextEntry


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that is listed when BuildKit asks for it; ``only`` limits it to some names."""

    path: Path
    only: tuple[str, ...] = ()

    def entries(self) -> dict[str, tuple[ContextEntry, int]]:
        """Everything below it, by path, with its time in nanoseconds. Sockets are left out."""
        if not self.path.is_dir():
            raise BuilderError(f"there is no folder {self.path}", code="builder-options")
        found = dict(self._below(self.path, ""))
        return {k: v for k, v in found.items() if not self.only or k in self.only}

    def _below(self, folder: Path, prefix: str) -> Iterator[tuple[str, tuple[ContextEntry, int]]]:
        with os.scandir(folder) as listing:
            for each in sorted(listing, key=lambda one: one.name):
                path = prefix + each.name
                state = each.stat(follow_symlinks=False)
                mode, kind = stat.S_IMODE(state.st_mode), stat.S_IFMT(state.st_mode)
                time = state.st_mtime_ns
                if kind == stat.S_IFDIR:
                    yield path, (ContextEntry(path, mode, folder=True), time)
                    if not self.only:
                        yield from self._below(Path(each.path), path + "/")
                elif kind == stat.S_IFLNK:
                    yield (
                        path,
                        (ContextEntry(path, 0o777, link=str(Path(each.path).readlink())), time),
                    )
                elif kind == stat.S_IFREG:
                    yield path, (ContextEntry(path, mode, state.st_size), time)

    def open(self, path: str) -> BinaryIO:
        """A file of it."""
        return (self.path / path).open("rb")


def chosen(paths: Iterable[str], include: Sequence[str], exclude: Sequence[str]) -> set[str]:
    """Those that patterns leave, with the folders that they are in."""
    inside, outside = _rules(include), _rules(exclude)
    kept = set()
    for path in paths:
        if (inside and not _matches(path, inside)) or _matches(path, outside):
            continue
        while path and path not in kept:
            kept.add(path)
            path = path.rpartition("/")[0]
    return kept


_Rule = tuple[bool, re.Pattern[str]]


def _rules(patterns: Iterable[str]) -> list[_Rule]:
    made = []
    for text in patterns:
        back = text.startswith("!")
        name = os.path.normpath(text.lstrip("!").strip()).strip("/")
        if name and name != ".":
            try:
                made.append((back, re.compile(_regex(name), re.DOTALL)))
            except re.error:
                raise BuilderError(
                    f"{text[:100]!r} is no pattern of .dockerignore", code="builder-options"
                ) from None
    return made


def _matches(path: str, rules: Sequence[_Rule]) -> bool:
    """Whether the last rule that is about a path, or a folder that it is in, matches."""
    found = False
    for back, pattern in rules:
        if found is back:  # else it could say nothing new
            part = path
            while part:
                if pattern.fullmatch(part):
                    found = not back
                    break
                part = part.rpartition("/")[0]
    return found


def _regex(pattern: str) -> str:
    made, place = "", 0
    while place < len(pattern):
        rest, letter = pattern[place:], pattern[place]
        if rest.startswith("**/"):
            made, place = made + "(?:.*/)?", place + 3
        elif rest.startswith("**"):
            made, place = made + ".*", place + 2
        elif letter == "*":
            made, place = made + "[^/]*", place + 1
        elif letter == "?":
            made, place = made + "[^/]", place + 1
        elif letter == "[" and (end := pattern.find("]", place + 2)) > 0:
            made, place = made + pattern[place : end + 1], end + 1
        elif letter == "\\" and place + 1 < len(pattern):
            made, place = made + re.escape(pattern[place + 1]), place + 2
        else:
            made, place = made + re.escape(letter), place + 1
    return made
