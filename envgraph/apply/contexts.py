"""The files that a builder may see: what the lock covers, read again and verified.

Those of a folder are read from there, those of an address from the store.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from envgraph.api.builder import ContextEntry
from envgraph.errors import BuildError, SourceLocation
from envgraph.lock.sources import VerifyingReader
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedContext
from envgraph.model.spec import BuildSpec, CopiedInput
from envgraph.spec.ignore import NamedFolders
from envgraph.spec.tree import (
    Tree,
    TreeEntry,
    context_tree,
    file_digest,
    read_tree,
    tree_digest,
)
from envgraph_store import Digest, Store


class FolderContext:
    """Entries of a folder as they were hashed; bytes that have changed since are an error."""

    def __init__(self, root: Path, entries: Sequence[TreeEntry]) -> None:
        """Take what belongs to the context; parents of everything are added."""
        self._root = root
        self._entries = {entry.path: entry for entry in entries}
        for path in list(self._entries):
            for parent in Path(path).parents:
                if str(parent) != ".":
                    self._entries.setdefault(str(parent), TreeEntry("folder", str(parent)))
        self._digest = tree_digest(entries)

    @property
    def digest(self) -> Digest:
        """The digest of the tree."""
        return self._digest

    def entries(self) -> Iterator[ContextEntry]:
        """Everything, folders before what is in them."""
        for path in sorted(self._entries):
            entry = self._entries[path]
            yield ContextEntry(
                path, entry.mode, entry.size, entry.target, entry.kind == "folder", entry.digest
            )

    def open(self, path: str) -> BinaryIO:
        """A file's bytes; IntegrityError at the end of bytes that were not hashed."""
        entry = self._entries[path]
        if entry.digest is None:
            raise FileNotFoundError(path)
        raw = (self._root / path).open("rb")
        return io.BufferedReader(VerifyingReader(raw, entry.digest, entry.size, path), 1 << 20)


class StoredContext(FolderContext):
    """The same of a context whose files the store keeps."""

    def __init__(self, store: Store, entries: Sequence[TreeEntry]) -> None:
        """Take all entries, with their sizes."""
        super().__init__(Path(), entries)
        self._store = store

    def open(self, path: str) -> BinaryIO:
        """A file's bytes, verified by the store before the first of them."""
        entry = self._entries[path]
        if entry.digest is None:
            raise FileNotFoundError(path)
        return self._store.blobs.open(entry.digest)


def step_context(
    folder: Path, inputs: Sequence[CopiedInput], source: SourceLocation | None
) -> FolderContext:
    """What one step copies. BuildError where that is not what was planned."""
    entries: list[TreeEntry] = []
    for item in inputs:
        path = folder / item.path
        if path.is_dir():
            tree = read_tree(path, [NamedFolders()])
            found = [replace(entry, path=f"{item.path}/{entry.path}") for entry in tree.entries]
            digest = tree.digest
            found = found or [TreeEntry("folder", item.path)]
        else:
            status = path.stat()
            entry = TreeEntry(
                "file", "", bool(status.st_mode & 0o100), file_digest(path), "", status.st_size
            )
            digest = tree_digest([entry])
            found = [replace(entry, path=item.path)]
        if digest != item.tree:
            raise _changed(str(path), source)
        entries += found
    return FolderContext(folder, entries)


def build_context(
    folder: Path, dockerfile: str, expected: Digest, source: SourceLocation | None
) -> FolderContext:
    """A whole build context after its ignore rules. BuildError where it has changed."""
    tree: Tree = context_tree(folder, dockerfile)
    if tree.digest != expected:
        raise _changed(str(folder), source)
    return FolderContext(folder, tree.entries)


def whole_context(
    config: WorkspaceConfig,
    store: Store,
    build: BuildSpec,
    locked: LockedContext,
    *,
    offline: bool,
) -> tuple[FolderContext, BuildSpec]:
    """The files of a build, here or in the store, and the build with what its Dockerfile says.

    What the store lacks is fetched as it was pinned: errors of
    :meth:`envgraph.lock.contexts.Contexts.bring`.
    """
    if build.tree is not None:
        folder = Path(build.folder)
        return build_context(folder, build.dockerfile_path, locked.tree, build.source), build
    from envgraph.lock.contexts import Contexts

    contexts = Contexts(config, store, offline=offline)
    context = StoredContext(store, contexts.bring(build, locked))
    with context.open(build.dockerfile_path) as stream:
        return context, contexts.named(build, stream.read())


def _changed(path: str, source: SourceLocation | None) -> BuildError:
    return BuildError(
        f"{path} has changed since the plan was made",
        code="input-changed",
        source=source,
        hint="run the command again",
    )
