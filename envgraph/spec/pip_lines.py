"""Lines of a pip section and of requirements files → PipLine, ``-r`` and ``-c`` in place."""

from __future__ import annotations

import os
import re
from typing import Final, Literal
from urllib.parse import unquote

from envgraph.errors import EnvgraphError, InputError, SourceLocation
from envgraph.model.addresses import address_problem, has_credentials
from envgraph.model.spec import PipLine
from envgraph.spec import paths
from envgraph.spec.problems import nearest, quoted
from envgraph.spec.reading import Reading
from envgraph.spec.templates import is_unfilled
from envgraph.spec.text import decode

_MAX_LINES: Final = 100_000
_MAX_DEPTH: Final = 50
_MAX_NESTING: Final = 20
_MAX_FILES: Final = 1000
_MAX_LENGTH: Final = 100_000
"""Characters of a line with its hash options."""
_MAX_NAMED: Final = 4000
_SHORT: Final = {
    "-r": "--requirement", "-c": "--constraint", "-e": "--editable", "-i": "--index-url",
    "-f": "--find-links", "--pypi-url": "--index-url", "--requirements": "--requirement",
}  # fmt: skip
_WITH_VALUE: Final = frozenset(
    {
        "--index-url", "--extra-index-url", "--find-links", "--no-binary", "--only-binary",
        "--trusted-host", "--use-feature",
    }
)  # fmt: skip
_BARE: Final = frozenset({"--no-index", "--pre", "--prefer-binary", "--require-hashes"})
_FILES: Final = frozenset({"--requirement", "--constraint", "--editable"})
_KNOWN: Final = _WITH_VALUE | _BARE | _FILES
_LONG_OPTION: Final = re.compile(r"(--[A-Za-z][A-Za-z0-9-]*)(?:[\s=]\s*=?\s*(.*))?", re.DOTALL)
_PER_LINE: Final = re.compile(
    r" --(?P<name>hash|config-settings?|global-option|install-option)[ =]"
    r"(?P<value>\"[^\"]*\"|'[^']*'|\S+)"
)
_HASH: Final = re.compile(r"(sha256|sha384|sha512):([0-9a-fA-F]+)")
_HASH_DIGITS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_COMMENT: Final = re.compile(r"(^|\s)#.*$")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_SINGLE_EQUALS: Final = re.compile(r"(?<![=<>!~])=(?![=<>])")
_VCS: Final = re.compile(r"(git|hg|svn|bzr)(\+[a-z]+)?(://|@)", re.IGNORECASE)
_ARCHIVE: Final = re.compile(r"\.(whl|zip|tar\.gz|tgz|tar\.bz2|tar\.xz|tar)$", re.IGNORECASE)


class PipReader:
    """Reads lines in order into ``lines``; every problem goes to ``reading``.

    ``folder`` is what local projects in a conda file's own lines start at; inside
    a requirements file, paths of ``-r`` and ``-c`` start at that file's folder, and
    projects (as for pip) at ``folder``.
    """

    def __init__(self, reading: Reading, folder: str) -> None:
        self.reading = reading
        self.problems = reading.problems
        self.folder = folder
        self.lines: list[PipLine] = []
        self._open_files: list[str] = []
        self._included = 0

    def add(
        self, text: str, source: SourceLocation, folder: str, *, constraint: bool = False
    ) -> None:
        """Read one logical line."""
        if len(text) > _MAX_LENGTH:
            self._error("pip-requirement", f"a line of {len(text)} characters", source,
                        "one requirement per line")  # fmt: skip
            return
        # Collapsed first: runs of spaces would make the patterns below quadratic.
        line = _COMMENT.sub("", " ".join(text.split())).strip()
        if not line or is_unfilled(line):
            return
        if len(self.lines) >= _MAX_LINES:
            raise InputError(f"more than {_MAX_LINES} pip lines", code="too-large", source=source)
        if line.startswith("-"):
            self._option(line, source, folder, constraint)
        else:
            self._requirement(line, source, constraint, editable=False)

    def _error(self, code: str, summary: str, source: SourceLocation, hint: str = "") -> None:
        self.problems.add(code, summary, source, hint=hint)

    def _option(self, line: str, source: SourceLocation, folder: str, constraint: bool) -> None:
        name, value = _split_option(line)
        if name in ("--requirement", "--constraint"):
            self._include(name, value, source, folder, constraint)
        elif name == "--editable":
            if value:
                self._requirement(value, source, constraint, editable=True)
            else:
                self._error("pip-option", "-e needs a folder or an address", source)
        elif name in _WITH_VALUE:
            self._index_option(name, value, source)
        elif name in _BARE:
            if value:
                self._error("pip-option", f"{name} takes no value, and has {quoted(value)}", source)
            self.lines.append(PipLine("option", name, source=source))
        else:
            self._error("pip-option", f"{quoted(name)} is no option of a requirements file",
                        source, nearest(name, _KNOWN))  # fmt: skip

    def _index_option(self, name: str, value: str, source: SourceLocation) -> None:
        value = value.strip("'\"")
        if not value or len(value.split()) > 1:
            self._error("pip-option", f"{name} needs one value", source,
                        "one option per line")  # fmt: skip
            return
        if has_credentials(value):
            self.problems.warn(
                "index-credentials", f"{name} {quoted(value)} carries credentials", source,
                hint="write ${VARIABLE}, or keep them in netrc; they enter no lock and no hash",
            )  # fmt: skip
        if why := address_problem(value):
            self._error("pip-option", f"{name} {quoted(value)}: {why}", source)
            return
        self.lines.append(PipLine("option", f"{name} {value}", source=source))

    def _include(
        self, name: str, value: str, source: SourceLocation, folder: str, constraint: bool
    ) -> None:
        value = value.strip("'\"")
        if not value:
            self._error("pip-option", f"{name} needs a file", source)
            return
        if re.match(r"(?i)[a-z][a-z0-9+.-]+://", value) and not value.startswith("file://"):
            self._error(
                "remote-requirements",
                f"{name} {quoted(value, 200)}: the file is not here, and may change at any time",
                source,
                "download it beside this file, and name it there",
            )  # fmt: skip
            return
        path = paths.joined(folder, value.removeprefix("file://"))
        real = os.path.realpath(path)
        if real in self._open_files:
            # pip reads a file once; a cycle adds nothing but says that something is odd.
            self._error("requirements-cycle", f"{value} includes itself", source,
                        "take one of the -r or -c lines out")  # fmt: skip
            return
        self._included += 1
        if len(self._open_files) >= _MAX_DEPTH or self._included > _MAX_FILES:
            raise InputError(
                f"more than {_MAX_DEPTH} requirements files in each other, or {_MAX_FILES} in all",
                code="too-deep",
                source=source,
            )
        data = self.reading.read(path, source, "")
        if data is None:
            return
        shown = _shown_path(path, source)
        text = decode(data, shown, self.problems)
        if text is None:
            return
        self._open_files.append(real)
        try:
            self.read_text(text, shown, paths.folder_of(path), constraint or name == "--constraint")
        finally:
            self._open_files.pop()

    def read_text(self, text: str, file: str, folder: str, constraint: bool) -> None:
        """Read the text of a requirements file whose ``-r`` lines start at ``folder``."""
        from envgraph.spec.templates import template_problem, templates_in

        for number, column, line in logical_lines(text):
            source = SourceLocation(file, number, column)
            for template in templates_in(_COMMENT.sub("", line), settled=True):
                template_problem(template, source, self.problems)
            self.add(line, source, folder, constraint=constraint)

    def _requirement(
        self, text: str, source: SourceLocation, constraint: bool, *, editable: bool
    ) -> None:
        text, hashes = self._per_line_options(text, source)
        if len(text) > _MAX_NAMED:
            self._error("pip-requirement", f"{quoted(text)} is too long", source,
                        "one requirement per line")  # fmt: skip
            return
        if not text:
            return
        if _VCS.match(text) or re.match(r"(?i)https?://", text):
            self._address(text, source, editable, hashes)
        elif editable or _is_path(text):
            self._project(text, source, editable, hashes)
        else:
            self._named(text, source, constraint, hashes)

    def _per_line_options(self, text: str, source: SourceLocation) -> tuple[str, tuple[str, ...]]:
        hashes = []
        for match in _PER_LINE.finditer(text):
            if match["name"] != "hash":
                self.problems.warn(
                    "pip-build-option", f"--{match['name']} is not honoured: wheels are taken as "
                    "they are", source)  # fmt: skip
                continue
            value = match["value"].strip("'\"")
            found = _HASH.fullmatch(value)
            if found is None or len(found[2]) != _HASH_DIGITS[found[1]]:
                self._error("pip-hash", f"{quoted(value)} is no hash", source,
                            "write --hash=sha256: and 64 hexadecimal digits")  # fmt: skip
            hashes.append(value.lower())
        return _PER_LINE.sub("", text).strip(), tuple(sorted(hashes))

    def _address(
        self, text: str, source: SourceLocation, editable: bool, hashes: tuple[str, ...]
    ) -> None:
        if has_credentials(text):
            self.problems.warn(
                "index-credentials", f"{quoted(text)} carries credentials", source,
                hint="write ${VARIABLE}, or keep them in netrc; they enter no lock and no hash",
            )  # fmt: skip
        found = re.search(r"\S+://\S*", text)
        if found and (why := address_problem(found[0])):
            self._error("pip-requirement", f"{quoted(found[0])} is no address: {why}", source)
            return
        collapsed = " ".join(text.split())
        self.lines.append(
            PipLine("url", collapsed, editable=editable, source=source, hashes=hashes)
        )

    def _project(
        self,
        text: str,
        source: SourceLocation,
        editable: bool,
        hashes: tuple[str, ...],
        address: str = "",
    ) -> None:
        from envgraph.spec.tree import file_digest, project_tree

        path_text = (address or text).partition(";")[0].partition("#")[0].strip()
        bare = re.sub(r"\[[^\[\]]*\]$", "", path_text).strip()
        bare = unquote(bare[5:].removeprefix("//")) if bare.startswith("file:") else bare
        path = paths.joined(self.folder, bare)
        self.reading.note_input(path)
        try:
            if paths.is_folder(path):
                project = project_tree(path)
                tree = project.digest
                for path_read in project.inputs():
                    self.reading.note_input(path_read)
            else:
                tree = file_digest(path)
        except EnvgraphError as error:
            self.problems.take(error, source)
            return
        kind: Literal["project"] = "project"
        self.lines.append(
            PipLine(
                kind, " ".join(text.split()), editable, tree, paths.absolute(path), source, hashes
            )
        )

    def _named(
        self, text: str, source: SourceLocation, constraint: bool, hashes: tuple[str, ...]
    ) -> None:
        from packaging.requirements import InvalidRequirement, Requirement
        from packaging.utils import canonicalize_name

        collapsed = " ".join(text.split())
        if _nesting(collapsed) > _MAX_NESTING:
            self._error("pip-requirement", f"{quoted(collapsed)} is nested too deep", source)
            return
        try:
            requirement = Requirement(collapsed)
        except InvalidRequirement as error:
            summary, hint = _why_invalid(collapsed, str(error))
            self._error("pip-requirement", f"{quoted(collapsed)}: {summary}", source, hint)
            return
        if requirement.url and requirement.url.startswith("file:"):
            self._project(collapsed, source, False, hashes, requirement.url)
            return
        if requirement.url and "://" not in requirement.url:
            self._error("pip-requirement", f"{quoted(collapsed)}: what follows @ is no address",
                        source, "write NAME @ https://…, or name the folder alone")  # fmt: skip
            return
        if requirement.url:
            self._address(collapsed, source, False, hashes)
            return
        name = requirement.name
        line = canonicalize_name(name) + collapsed[len(name) :]
        kind: Literal["constraint", "requirement"] = "constraint" if constraint else "requirement"
        self.lines.append(PipLine(kind, line, source=source, hashes=hashes))


def _nesting(text: str) -> int:
    """How deep parentheses are nested: the parser of markers calls itself for each."""
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest


def _split_option(line: str) -> tuple[str, str]:
    """``--opt=value``, ``--opt value``, ``-rvalue`` → the long name and the value."""
    if not line.startswith("--"):
        return _SHORT.get(line[:2], line[:2]), line[2:].lstrip(" =\t").strip()
    match = _LONG_OPTION.fullmatch(line)
    if match is None:
        return line.split()[0], ""
    return _SHORT.get(match[1], match[1]), (match[2] or "").strip()


def _is_path(text: str) -> bool:
    head = text.partition(";")[0].strip()
    bare = re.sub(r"\[[^\[\]]*\]$", "", head)
    if "@" in bare and " " in bare.partition("@")[0] + " ":
        name = bare.partition("@")[0].strip()
        if _NAME.fullmatch(re.sub(r"\[[^\[\]]*\]$", "", name)):
            return False
    return (
        bare.startswith(("./", "../", "/", "~", "file://"))
        or bare in (".", "..")
        or ("/" in bare and "=" not in bare.partition("/")[0])
        or bool(_ARCHIVE.search(bare))
    )


def _why_invalid(text: str, reason: str) -> tuple[str, str]:
    name = _NAME.match(text)
    if name and _SINGLE_EQUALS.search(text.partition(";")[0].partition("[")[0] or text):
        fixed = _SINGLE_EQUALS.sub("==", text, count=1)
        return "pip has no single =", f"write {fixed}"
    if "[" in text and "]" in text and " " in text.partition("[")[0]:
        return reason.splitlines()[0], "extras follow the name without a space"
    return reason.splitlines()[0], "write NAME, NAME==1.2 or NAME>=1.2,<2"


def _shown_path(path: str, source: SourceLocation) -> str:
    """A path as the user would write it: relative like the file that led to it."""
    if paths.is_absolute(source.file):
        return path
    try:
        return os.path.relpath(path)
    except ValueError:
        return path


def logical_lines(text: str) -> list[tuple[int, int, str]]:
    """Lines of a requirements file, those that end in a backslash joined: line, column, text."""
    found: list[tuple[int, int, str]] = []
    joined, start = "", 0
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if not joined:
            start = number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            joined += raw[:-1] + " "
            continue
        line = joined + raw
        joined = ""
        if line.strip():
            found.append((start, len(line) - len(line.lstrip()) + 1, line))
    if joined.strip():
        found.append((start, 1, joined))
    return found
