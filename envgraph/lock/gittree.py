"""The files of a commit, submodules included, as a build context has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from envgraph.errors import FetchError, InputError, ResolveError
from envgraph.lock.git import Git, GitEntry
from envgraph.spec.context_address import BadContextError, GitContext, submodule_context
from envgraph.spec.listing import check_path
from envgraph.spec.tree import MAX_ENTRIES, TreeEntry

_MOST_SUBMODULES: Final = 200
_DEEPEST: Final = 10
_LONGEST_LINK: Final = 4096

NewGit = Callable[[GitContext], Git]
"""Gives the repository of a submodule, with a folder of its own."""


@dataclass(slots=True)
class GitTree:
    """Every file and link below a folder of a commit, by path; nothing was checked out.

    Submodules are there at the commits that the repository names, as docker has them.
    """

    title: str
    entries: dict[str, TreeEntry] = field(default_factory=dict)
    _places: dict[str, tuple[Git, str]] = field(default_factory=dict)
    _submodules: int = 0

    def read(self, path: str) -> Iterator[bytes]:
        """The bytes of a file, piece by piece; to be read to its end."""
        git, name = self._places[path]
        return git.read(name)

    def add(
        self, git: Git, context: GitContext, commit: str, new: NewGit, prefix: str = "",
        depth: int = 0,
    ) -> None:  # fmt: skip
        """Take in the folder of ``context`` at ``commit``, which was fetched; below ``prefix``."""
        addresses: dict[str, str] | None = None
        for entry in git.entries(git.folder_tree(commit, context.folder), below=True):
            path = check_path(f"{prefix}{entry.path}", self.title)
            if entry.kind == "submodule":
                if addresses is None:
                    addresses = git.settings_of(commit)
                inside = f"{context.folder}/{entry.path}" if context.folder else entry.path
                self._submodule(context, entry, path, addresses.get(inside), new, depth)
                continue
            if len(self.entries) >= MAX_ENTRIES:
                raise InputError(f"{self.title} holds more than {MAX_ENTRIES} entries",
                                 code="too-large")  # fmt: skip
            self._places[path] = (git, entry.name)
            if entry.kind == "link":
                self.entries[path] = TreeEntry("link", path, target=self._target(path, entry))
            else:
                self.entries[path] = TreeEntry("file", path, entry.executable, size=entry.size)

    def _target(self, path: str, entry: GitEntry) -> str:
        if entry.size > _LONGEST_LINK:
            raise InputError(f"{self.title}: the link {path[:100]!a} is too long",
                             code="context-path")  # fmt: skip
        return b"".join(self.read(path)).decode("utf-8", "surrogateescape")

    def _submodule(
        self, above: GitContext, entry: GitEntry, path: str, address: str | None, new: NewGit,
        depth: int,
    ) -> None:  # fmt: skip
        where = f"{self.title}: the submodule {path!r}"
        self._submodules += 1
        if depth >= _DEEPEST or self._submodules > _MOST_SUBMODULES:
            raise InputError(f"{where} is one too many, or too deep", code="context-submodule")
        if address is None:
            raise InputError(f"{where} has no address in .gitmodules", code="context-submodule")
        try:
            context = submodule_context(address, entry.name, above)
        except BadContextError as error:
            raise InputError(
                f"{where} cannot be fetched: {error}",
                code="context-submodule",
                hint=error.hint or "leave it out of the folder that is built",
            ) from None
        git = new(context)
        try:
            git.fetch(entry.name, "")
        except (FetchError, ResolveError) as error:
            first = error.diagnostics[0]
            raise type(error)(f"{where}: {first.summary}", code=first.code, detail=first.detail,
                              hint=first.hint) from None  # fmt: skip
        self.add(git, context, entry.name, new, f"{path}/", depth + 1)
