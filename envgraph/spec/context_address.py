"""Build contexts that are not on this machine: how people write them → values. Pure.

::

    https://host/repo.git[#REF[:FOLDER]]     git, as docker reads it (http too)
    git@host:repo.git[#…]   ssh://[user@]host/repo[#…]   git://host/repo[#…]   file:///repo[#…]
    github.com/owner/repo[#…]                 short for https://github.com/owner/repo.git
    git+https://host/repo[#…]                 git, whatever the path ends with (Azure ML's way)
    https://host/context.tar.gz               an archive; file:///context.tar.gz too

``REF`` is a branch, a tag, a full name (``refs/pull/7/head``) or a commit with all its
digits; left out, it is the default branch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from envgraph.model.addresses import without_credentials

COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A commit with all its digits."""

_GIT_SCHEMES: Final = ("https", "http", "ssh", "git", "file")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SCP: Final = re.compile(r"([A-Za-z0-9_][\w.-]*)@([A-Za-z0-9_][\w.-]*):(?!//)([^#\s]+)(?:#(.*))?")
_GITHUB: Final = re.compile(r"github\.com/[\w.-]+/[\w.-]+(#.*)?")
_ARCHIVE: Final = re.compile(r"(?i)\.(tar(\.(gz|xz|bz2|zst))?|tgz|txz|tbz2?|tzst)\Z")
_BAD_REF: Final = re.compile(r"[\x00-\x20\x7f~^?*\[\\]|\.\.|@\{|//|\.lock(/|\Z)|/\Z|\A[-/.]|\.\Z")
_HELPER: Final = re.compile(r"[A-Za-z0-9]+::")


class BadContextError(ValueError):
    """An address that cannot be a build context; ``hint`` says what would be."""

    def __init__(self, summary: str, hint: str = "") -> None:
        super().__init__(summary)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class GitContext:
    """A folder of a git repository. ``repository`` is what git is given, credentials and all."""

    repository: str
    ref: str = ""
    folder: str = ""

    @property
    def is_file(self) -> bool:
        """The repository is on this machine."""
        return self.repository.startswith("file://")

    @property
    def shown(self) -> str:
        """The repository for people and records: no secret in it."""
        return shown_address(self.repository)


@dataclass(frozen=True, slots=True)
class ArchiveContext:
    """An archive at an address, credentials and all."""

    address: str

    @property
    def is_file(self) -> bool:
        """The archive is on this machine."""
        return self.address.startswith("file://")

    @property
    def shown(self) -> str:
        """The address for people and records: no secret in it."""
        return shown_address(self.address)


def shown_address(text: str) -> str:
    """``text`` without passwords, tokens and query; who logs in by ssh stays.

    >>> shown_address("https://u:secret@host/r.git#main:docker")
    'https://host/r.git#main:docker'
    >>> shown_address("ssh://deploy@host/r.git")
    'ssh://deploy@host/r.git'
    """
    match = re.match(r"((?:git\+)?ssh://)([^@/:#?]+)(?::[^@/]*)?@(.*)\Z", text, re.DOTALL)
    if match:
        return match[1] + match[2] + "@" + without_credentials("ssh://" + match[3])[6:]
    clean = without_credentials(text)
    head, mark, rest = clean.partition("?")
    return head + ("#" + rest.partition("#")[2] if mark and "#" in rest else "")


def parse_context(text: str) -> GitContext | ArchiveContext | None:
    """What ``build.path`` means; None for a path of this machine. Raises BadContextError."""
    text = text.strip()
    plain = re.sub(r"\A[gG][iI][tT]\+", "", text)
    if _HELPER.match(plain):
        raise BadContextError("git is never given a helper such as `ext::`")
    if plain == text and _GITHUB.fullmatch(text):
        repository, mark, rest = text.partition("#")
        return _git(f"https://{repository.removesuffix('.git')}.git", rest if mark else "")
    if match := _SCP.fullmatch(plain):
        if match[3].startswith("-"):
            raise BadContextError("a path that begins with a dash is an option to git")
        return _git(f"{match[1]}@{match[2]}:{match[3]}", match[4] or "")
    found = _SCHEME.match(plain)
    if found is None:
        if plain != text:
            raise BadContextError("git+ needs an address behind it", "write git+https://HOST/PATH")
        return None
    scheme = found[1].lower()
    if scheme not in _GIT_SCHEMES:
        raise BadContextError(
            f"{scheme}:// is no address that a build context can be read from",
            "https, http, ssh, git and file are; or copy the folder beside this file",
        )
    return _by_scheme(scheme, plain, git=plain != text)


def _by_scheme(scheme: str, text: str, *, git: bool) -> GitContext | ArchiveContext:
    address, mark, fragment = text.partition("#")
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise BadContextError(f"the address cannot be read: {error}") from None
    path = unquote(parts.path)
    if scheme != "file" and not host:
        raise BadContextError("the address names no host")
    if scheme == "file" and (parts.netloc not in ("", "localhost") or not path.startswith("/")):
        raise BadContextError("a file address has no host and an absolute path",
                              "write file:///PATH")  # fmt: skip
    if any(part.startswith("-") for part in (unquote(parts.netloc), host, path.lstrip("/"))):
        raise BadContextError("a host or a path that begins with a dash is an option to git")
    if re.search(r"[\x00-\x20\x7f]", path + unquote(parts.netloc)):
        raise BadContextError("the address holds a space or a control character")
    by_path = path.rstrip("/").endswith(".git") or scheme in ("ssh", "git")
    by_file = scheme == "file" and not _ARCHIVE.search(path)
    if git or by_path or by_file:
        if parts.query:
            raise BadContextError("an address of git has no query", "write …repo.git#REF:FOLDER")
        return _git(scheme + address[len(scheme) :], unquote(fragment))
    if mark:
        raise BadContextError(
            "only a git repository has a part behind #, and this address is an archive's",
            "for a repository write git+https://HOST/PATH#REF:FOLDER, or end the path with .git",
        )
    return ArchiveContext(scheme + address[len(scheme) :])


def _git(repository: str, fragment: str) -> GitContext:
    ref, _, folder = fragment.partition(":")
    if ref and (_BAD_REF.search(ref) or len(ref) > 250):
        raise BadContextError(f"{ref[:80]!r} is no name of a branch, tag or commit")
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    if ".." in parts or re.search(r"[\x00-\x1f\x7f\\]", folder):
        raise BadContextError(f"the folder {folder[:80]!r} leads out of the repository")
    return GitContext(repository, ref, "/".join(parts))


def submodule_context(url: str, commit: str, above: GitContext) -> GitContext:
    """The repository that a submodule of ``above`` names, at ``commit``.

    Relative addresses start at the repository, as git reads them. A repository of another
    machine cannot name one of this machine. Raises BadContextError.
    """
    if url.startswith(("./", "../")):
        url = _relative(url, above.repository.rstrip("/"))
    elif url.startswith("/") and above.is_file:
        url = f"file://{url}"
    found = parse_context(url if _SCP.fullmatch(url) else f"git+{url}")
    if not isinstance(found, GitContext) or found.ref or found.folder:
        raise BadContextError("it is no address of a git repository")
    if found.is_file and not above.is_file:
        raise BadContextError("a repository of another machine names one of this machine")
    return GitContext(found.repository, commit)


def _relative(url: str, base: str) -> str:
    while True:
        if url.startswith("../"):
            cut = max(base.rfind("/"), base.rfind(":"))
            if cut < 0 or base[:cut].endswith((":", "/")) or base.endswith(":"):
                raise BadContextError("it leads out of the repository's host")
            base, url = base[:cut] if base[cut] == "/" else base[: cut + 1], url[3:]
        elif url.startswith("./"):
            url = url[2:]
        else:
            return base + ("" if base.endswith(":") else "/") + url
