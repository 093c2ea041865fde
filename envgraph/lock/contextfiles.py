"""The files of a build context in the store: each a blob, their listing under the tree's digest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Protocol

from envgraph.errors import Diagnostic, IntegrityError
from envgraph.model.spec import BuildSpec
from envgraph.spec.context_address import shown_address
from envgraph.spec.ignore import IGNORE_LIMIT, fetched_rules
from envgraph.spec.listing import chosen_entries, read_tree_text, tree_text
from envgraph.spec.problems import printable
from envgraph.spec.tree import TreeEntry
from envgraph_store import Digest, Store, Transaction
from envgraph_store.errors import StoreError

LISTING_LIMIT: Final = 1 << 30
_LFS: Final = b"version https://git-lfs.github.com/spec/v1"
_LFS_LIMIT: Final = 1024
_SMALL: Final = 1 << 17
_FEW: Final = 3


class Files(Protocol):
    """What a commit or an archive holds."""

    @property
    def entries(self) -> dict[str, TreeEntry]:
        """By path; files without their digests."""

    def read(self, path: str) -> Iterator[bytes]:
        """A file's bytes, to be read to their end."""


def keep_files(
    store: Store, build: BuildSpec, files: Files
) -> tuple[dict[str, TreeEntry], list[Diagnostic]]:
    """Every file that belongs to the context, in one durable batch, with its listing.

    By path, with digests; and remarks. InputError for what cannot be part of a context.
    """

    def read(name: str) -> bytes | None:
        entry = files.entries.get(name)
        if entry is None or entry.kind != "file":
            return None
        return b"".join(files.read(name))[: IGNORE_LIMIT + 1]

    title = title_of(build)
    rules = fetched_rules(read, build.dockerfile_path, title)
    chosen = chosen_entries(files.entries, rules, {build.dockerfile_path}, title.rstrip("/:"))
    found: dict[str, TreeEntry] = {}
    pointers: list[str] = []
    with store.transaction() as batch:
        for entry in chosen:
            kept = entry
            if entry.kind == "file":
                kept, is_pointer = _store_file(entry, files, batch)
                if is_pointer:
                    pointers.append(entry.path)
            found[entry.path] = kept
        batch.add_bytes(tree_text(list(found.values())))
        batch.commit()
    return found, [_lfs(pointers, build)] if pointers else []


def kept_entries(store: Store, tree: Digest) -> tuple[TreeEntry, ...] | None:
    """The entries of a tree in the store; None where something of it is missing."""
    blobs = store.blobs
    if not blobs.has(tree):
        return None
    try:
        entries = read_tree_text(blobs.read(tree, LISTING_LIMIT))
    except (StoreError, IntegrityError):
        return None
    if blobs.missing({entry.digest for entry in entries if entry.digest}):
        return None
    return tuple(
        replace(entry, size=blobs.size(entry.digest)) if entry.digest else entry
        for entry in entries
    )


def _store_file(entry: TreeEntry, files: Files, batch: Transaction) -> tuple[TreeEntry, bool]:
    """The entry with its digest, in the batch; and whether it is a pointer of git's LFS."""
    pieces = files.read(entry.path)
    pointer = False
    if entry.size <= _SMALL:
        data = b"".join(pieces)
        digest = batch.add_bytes(data)
        size = len(data)
        pointer = size <= _LFS_LIMIT and data.startswith(_LFS)
    else:
        with batch.writer("blobs") as writer:
            for piece in pieces:
                writer.write(piece)
            size = writer.size
            digest = writer.finish()
    if size != entry.size:
        raise IntegrityError(f"{entry.path!a} has {size} bytes, not {entry.size}")
    return replace(entry, digest=digest), pointer


def _lfs(paths: list[str], build: BuildSpec) -> Diagnostic:
    shown = ", ".join(printable(path) for path in paths[:_FEW])
    more = f" and {len(paths) - _FEW} more" if len(paths) > _FEW else ""
    many = len(paths) > 1
    return Diagnostic(
        "context-lfs",
        f"{len(paths)} file{'s' * many} of {title_of(build).rstrip('/:')} lie{'s' * (not many)} in"
        f" git's LFS: the build sees {'pointers' if many else 'a pointer'} ({shown}{more})",
        source=build.source,
        hint="clone the repository with git lfs beside this file, and name that folder",
        severity="warning",
    )


def title_of(build: BuildSpec) -> str:
    """What goes before a file's path in messages: ``https://host/repo.git#main:docker/``."""
    text = shown_address(build.path)
    fragment = text.partition("#")[2]
    if "#" not in text:
        return f"{text}:"
    return f"{text}/" if fragment.partition(":")[2] else f"{text.rstrip(':')}:"
