"""Trees that are no folder of this machine: from a listing to entries, and as text and back.

The text is what :mod:`envgraph.spec.tree` hashes, so a tree's digest names the blob in which
a store keeps its listing, and that names the blobs of the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from envgraph.errors import InputError, IntegrityError
from envgraph.spec import paths
from envgraph.spec.ignore import IgnoreRules
from envgraph.spec.tree import HEADER, MAX_DEPTH, MAX_ENTRIES, TreeEntry, leads_out
from envgraph_store.digest import Digest

_LINE: Final = re.compile(rb"(f|x|l|d) (\d{1,6}):")
_DIGEST: Final = re.compile(rb" (sha256:[0-9a-f]{64})\n")
_TARGET: Final = re.compile(rb" (\d{1,6}):")


def tree_text(entries: Sequence[TreeEntry]) -> bytes:
    """The listing; its sha256 is the tree's digest."""
    records = sorted((os.fsencode(entry.path), entry.record()) for entry in entries)
    return HEADER + b"".join(record for _, record in records)


def read_tree_text(data: bytes) -> tuple[TreeEntry, ...]:
    """The entries of a listing, without their sizes; IntegrityError when it is none."""
    if not data.startswith(HEADER):
        raise IntegrityError("the listing of a build context is none")
    found: list[TreeEntry] = []
    at = len(HEADER)
    while at < len(data):
        head = _LINE.match(data, at)
        if head is None:
            raise IntegrityError("the listing of a build context is not whole")
        path = data[head.end() : head.end() + int(head[2])]
        at = head.end() + len(path)
        name = os.fsdecode(path)
        if head[1] in b"fx":
            digest = _DIGEST.match(data, at)
            if digest is None:
                raise IntegrityError("the listing of a build context is not whole")
            found.append(TreeEntry("file", name, head[1] == b"x", Digest(digest[1].decode())))
            at = digest.end()
            continue
        if head[1] == b"l":
            length = _TARGET.match(data, at)
            if length is None:
                raise IntegrityError("the listing of a build context is not whole")
            target = data[length.end() : length.end() + int(length[1])]
            found.append(TreeEntry("link", name, target=os.fsdecode(target)))
            at = length.end() + len(target)
        else:
            found.append(TreeEntry("folder", name))
        if data[at : at + 1] != b"\n":
            raise IntegrityError("the listing of a build context is not whole")
        at += 1
    return tuple(found)


def check_path(path: str, where: str) -> str:
    """The path of an entry, ``./`` taken off; InputError where it could leave the tree."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path or not parts:
        raise InputError(f"{where}: the name {path[:100]!a} leads out of it", code="context-path")
    name = os.fsencode("/".join(parts))
    if len(name) > 4095 or any(len(os.fsencode(part)) > 255 for part in parts):
        raise InputError(f"{where}: the name {path[:100]!a}… is too long", code="context-path")
    if len(parts) > MAX_DEPTH:
        raise InputError(f"{where}: {path[:100]!a}… is nested too deep", code="too-deep")
    return "/".join(parts)


def chosen_entries(
    entries: Mapping[str, TreeEntry],
    rules: Sequence[IgnoreRules],
    keep: Collection[str],
    where: str,
) -> list[TreeEntry]:
    """What belongs to the tree after ignore rules: as a folder on disk would be read.

    ``entries`` by path; folders need not be there. InputError for links that lead out, and
    for paths that lie below a file or a link.
    """
    below: dict[str, set[str]] = {"": set()}
    for path, entry in entries.items():
        if entry.kind == "folder":
            below.setdefault(path, set())
        while path:
            parent = paths.folder_of(path)
            above = entries.get(parent)
            if above is not None and above.kind != "folder":
                raise InputError(
                    f"{where}: {path[:100]!a} lies below {parent[:100]!a}, which is no folder",
                    code="context-path",
                )
            names = below.setdefault(parent, set())
            if path in names:
                break
            names.add(path)
            path = parent
    if len(entries) > MAX_ENTRIES:
        raise InputError(f"{where} holds more than {MAX_ENTRIES} entries", code="too-large")
    return _walked(entries, below, rules, keep, where)


def _walked(
    entries: Mapping[str, TreeEntry],
    below: Mapping[str, set[str]],
    rules: Sequence[IgnoreRules],
    keep: Collection[str],
    where: str,
) -> list[TreeEntry]:
    def left_out(path: str, is_folder: bool) -> bool:
        return path not in keep and any(rule.ignored(path, is_folder) for rule in rules)

    def pruned(path: str) -> bool:
        if any(kept.startswith(path + "/") for kept in keep):
            return False
        return any(rule.ignored(path, True) and rule.prunes(path) for rule in rules)

    found: list[TreeEntry] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        empty = True
        for path in sorted(below[folder]):
            is_folder = path in below
            if left_out(path, is_folder):
                if is_folder and not pruned(path):
                    waiting.append(path)
                continue
            empty = False
            if is_folder:
                waiting.append(path)
                continue
            entry = entries[path]
            if entry.kind == "link" and leads_out(path, entry.target):
                raise InputError(
                    f"{where}: the link {path[:200]!a} leads out of it, to {entry.target[:200]!a}",
                    code="link-escape",
                    hint="leave it out by .dockerignore, or let it point into the context",
                )
            found.append(entry)
        if empty and folder and not left_out(folder, True):
            found.append(TreeEntry("folder", folder))
    return found
