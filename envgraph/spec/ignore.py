"""Which files of a folder do not belong to it: .dockerignore, .amlignore, .gitignore.

``.dockerignore`` is read by docker's own rules (patterns are anchored at the
root, the last match wins, a match of a parent counts: moby's ``patternmatcher``);
the two others by git's, through ``pathspec``. Only the files at the root of the
folder are read, as Azure ML and docker do.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from envgraph.errors import InputError, SourceLocation
from envgraph.spec import paths
from envgraph.spec.files import read_file
from envgraph.spec.globs import docker_regex
from envgraph.spec.text import decode

IGNORE_LIMIT: Final = 1 << 20
VCS_FOLDERS: Final = frozenset({".git", ".hg", ".svn", ".bzr"})


class IgnoreRules(Protocol):
    """A question with two answers; ``path`` is relative, with slashes."""

    def ignored(self, path: str, is_folder: bool) -> bool:
        """Whether ``path`` is left out."""
        ...

    def prunes(self, path: str) -> bool:
        """Whether nothing below the ignored folder ``path`` can come back."""
        ...


@dataclass(frozen=True, slots=True)
class NoRules:
    """Nothing is ignored."""

    def ignored(self, path: str, is_folder: bool) -> bool:
        """Never."""
        return False

    def prunes(self, path: str) -> bool:
        """Nothing is ignored, so there is nothing to say."""
        return True


@dataclass(frozen=True, slots=True)
class NamedFolders:
    """Folders of these names, and files with these endings, wherever they lie."""

    folders: frozenset[str] = VCS_FOLDERS
    suffixes: tuple[str, ...] = ()

    def ignored(self, path: str, is_folder: bool) -> bool:
        """By the last part of the path alone."""
        name = path.rpartition("/")[2]
        if name in self.folders:
            return True
        return bool(self.suffixes) and name.endswith(self.suffixes)

    def prunes(self, path: str) -> bool:
        """All that is below goes too."""
        return True


@dataclass(frozen=True, slots=True)
class GitRules:
    """The rules of one ``.gitignore`` or ``.amlignore``."""

    match: Callable[[str], bool]

    def ignored(self, path: str, is_folder: bool) -> bool:
        """Git's answer."""
        return self.match(path + "/" if is_folder else path)

    def prunes(self, path: str) -> bool:
        """Git never descends into an ignored folder."""
        return True


@dataclass(frozen=True, slots=True)
class DockerRules:
    """The rules of one ``.dockerignore``: (pattern, whether it takes back)."""

    patterns: tuple[tuple[re.Pattern[str], bool], ...]

    def ignored(self, path: str, is_folder: bool) -> bool:
        """The last pattern that matches the path or one of its parents decides."""
        paths = [path]
        while "/" in path:
            path = path.rpartition("/")[0]
            paths.append(path)
        answer = False
        for pattern, takes_back in self.patterns:
            if answer == takes_back and any(pattern.fullmatch(p) for p in paths):
                answer = not takes_back
        return answer

    def prunes(self, path: str) -> bool:
        """An exception may bring back what is below."""
        return not any(takes_back for _, takes_back in self.patterns)


def git_rules(lines: Sequence[str]) -> GitRules:
    """Read the lines of a ``.gitignore``; ValueError for a pattern that is none."""
    from pathspec import GitIgnoreSpec

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # re's, of a bracket in brackets
        return GitRules(GitIgnoreSpec.from_lines(map(_fewer_stars, lines)).match_file)


def _fewer_stars(line: str) -> str:
    """The same pattern with no more than two stars in a row: pathspec tries each one."""
    return re.sub(r"(\\.)|\*{3,}", lambda found: found[1] or "**", line)


def docker_rules(lines: Sequence[str]) -> DockerRules:
    """Read the lines of a ``.dockerignore``; ValueError for a pattern that is none."""
    patterns = []
    for raw in lines:
        if raw.startswith("#"):
            continue
        line = raw.strip()
        takes_back = line.startswith("!")
        line = line[1:].strip() if takes_back else line
        parts = [part for part in line.split("/") if part not in ("", ".")]
        if not parts:
            continue
        if ".." in parts:
            parts = _clean(parts)
            if parts[:1] == [".."] and not line.startswith("/"):
                continue  # it names what lies outside, as for docker
            parts = [part for part in parts if part != ".."]
            if not parts:
                continue
        patterns.append((re.compile(docker_regex("/".join(parts)), re.DOTALL), takes_back))
    return DockerRules(tuple(patterns))


def _clean(parts: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part == ".." and kept[-1:] not in ([], [".."]):
            del kept[-1]
        else:
            kept.append(part)
    return kept


def _read_rules(path: Path, make: Callable[[Sequence[str]], IgnoreRules]) -> IgnoreRules:
    return _rules_of(read_file(path, IGNORE_LIMIT), str(path), make)


def _rules_of(data: bytes, file: str, make: Callable[[Sequence[str]], IgnoreRules]) -> IgnoreRules:
    from envgraph.spec.problems import Problems

    problems = Problems()
    text = decode(data, file, problems)
    if text is None:
        raise InputError(problems.result())
    try:
        return make(text.splitlines())
    except (ValueError, re.error) as error:
        raise InputError(
            f"{file.rpartition('/')[2]} holds a pattern that is none: {error}",
            code="ignore-file",
            source=SourceLocation(file),
        ) from None


def context_rule_files(dockerfile: str) -> tuple[str, ...]:
    """The files that may hold rules of a build context, whether they are there or not."""
    return (".amlignore", ".gitignore", f"{dockerfile}.dockerignore", ".dockerignore")


def context_rules(folder: Path, dockerfile: str) -> list[IgnoreRules]:
    """The rules of a build context: Azure ML's upload, then docker's own.

    Azure ML reads ``.amlignore``, else ``.gitignore``; docker reads
    ``<Dockerfile>.dockerignore``, else ``.dockerignore``. Raises InputError.
    """
    rules: list[IgnoreRules] = [NamedFolders()]
    files = context_rule_files(dockerfile)
    for name in files[:2]:
        if paths.exists(f"{folder}/{name}"):
            rules.append(_read_rules(folder / name, git_rules))
            break
    for name in files[2:]:
        if paths.exists(f"{folder}/{name}"):
            rules.append(_read_rules(folder / name, docker_rules))
            break
    return rules


def fetched_rules(
    read: Callable[[str], bytes | None], dockerfile: str, where: str
) -> list[IgnoreRules]:
    """The rules of a context that came from an address: docker's own alone.

    Nothing is uploaded from a folder, so ``.amlignore`` and ``.gitignore`` have no part in
    it. ``read`` gives a file of the context, or None; ``where`` is what messages call it.
    """
    rules: list[IgnoreRules] = [NamedFolders()]
    for name in context_rule_files(dockerfile)[2:]:
        data = read(name)
        if data is not None:
            rules.append(_rules_of(data[: IGNORE_LIMIT + 1], f"{where}{name}", docker_rules))
            break
    return rules


def project_rules(folder: Path) -> list[IgnoreRules]:
    """The rules of a local Python project: what builds and editors leave lying about."""
    rules: list[IgnoreRules] = [
        NamedFolders(
            VCS_FOLDERS | {"__pycache__", ".venv", ".tox", ".mypy_cache", ".pytest_cache"},
            (".pyc", ".egg-info"),
        )
    ]
    if paths.exists(f"{folder}/.gitignore"):
        rules.append(_read_rules(folder / ".gitignore", git_rules))
    return rules
