r"""The digest of a folder's meaning: names, contents, x bit, links; nothing of this machine.

Format ``envgraph.tree/1``: a header line, then one record per entry, sorted by
the bytes of its path::

    f|x <path length>:<path> <sha256>\n     a file, x when its owner may execute it
    l   <path length>:<path> <target>\n     a symbolic link (target length-prefixed)
    d   <path length>:<path>\n              a folder with nothing in it

Owners, times, umask and the order of the directory have no part in it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from envgraph.errors import Diagnostic, InputError
from envgraph.spec import paths
from envgraph.spec.filememo import FolderMemo, known_digest, now_ns, remember
from envgraph.spec.files import kind_of_mode, open_regular
from envgraph.spec.ignore import (
    IgnoreRules,
    context_rule_files,
    context_rules,
    project_rules,
)
from envgraph_store.digest import Digest

MAX_ENTRIES: Final = 1_000_000
MAX_DEPTH: Final = 200
MAX_PROBLEMS: Final = 20
"""Of one tree: enough to see what is the matter."""
_PIECE: Final = 1 << 20
HEADER: Final = b"envgraph.tree/1\n"
"""How the text of a tree begins."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry: ``path`` relative with slashes (bytes that are no UTF-8 as surrogates)."""

    kind: Literal["file", "link", "folder"]
    path: str
    executable: bool = False
    digest: Digest | None = None
    target: str = ""
    size: int = 0

    @property
    def mode(self) -> int:
        """0755 or 0644 for files, 0755 for folders, 0777 for links."""
        if self.kind == "link":
            return 0o777
        return 0o755 if self.executable or self.kind == "folder" else 0o644

    def record(self) -> bytes:
        """The entry's line in the format above."""
        name = os.fsencode(self.path)
        head = b"%d:%s" % (len(name), name)
        if self.kind == "folder":
            return b"d " + head + b"\n"
        if self.kind == "link":
            target = os.fsencode(self.target)
            return b"l " + head + b" %d:%s\n" % (len(target), target)
        return (b"x " if self.executable else b"f ") + head + f" {self.digest}\n".encode()


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder that was read: what belongs to it, and every folder that was looked into.

    ``rule_files`` are those that decide what belongs to it, there or not.
    """

    root: Path
    entries: tuple[TreeEntry, ...]
    folders: tuple[str, ...]
    rule_files: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """The digest of the entries."""
        return tree_digest(self.entries)

    def inputs(self) -> Iterator[str]:
        """Every path that the digest depends on: folders too, since names come and go."""
        root = os.fspath(self.root)
        yield root
        for path in (*self.folders, *self.rule_files):
            yield f"{root}/{path}"
        for entry in self.entries:
            if entry.kind != "folder":
                yield f"{root}/{entry.path}"


def tree_digest(entries: Sequence[TreeEntry]) -> Digest:
    """The digest of a listing, whatever its order."""
    records = sorted((os.fsencode(entry.path), entry.record()) for entry in entries)
    return Digest.of(HEADER + b"".join(record for _, record in records))


def file_digest(path: str | Path) -> Digest:
    """The digest of one file's bytes; InputError when it is no readable file."""
    return _hash_file(os.fspath(path), os.fspath(path))[0]


def context_tree(folder: str | Path, dockerfile: str = "Dockerfile") -> Tree:
    """What a build context holds after ignore rules; the Dockerfile always belongs to it."""
    root = Path(folder)
    if not paths.is_folder(os.fspath(root)):
        raise _no_folder(root)
    tree = read_tree(root, context_rules(root, dockerfile), keep=frozenset({dockerfile}))
    return replace(tree, rule_files=context_rule_files(dockerfile))


def project_tree(folder: str | Path) -> Tree:
    """The tree of a local Python project, empty folders left out; InputError when it is none."""
    root = Path(folder)
    if not any(paths.exists(os.fspath(root / name)) for name in ("pyproject.toml", "setup.py")):
        raise InputError(
            f"{root} is no Python project",
            code="not-a-project",
            hint="it needs a pyproject.toml or a setup.py",
        )
    tree = read_tree(root, project_rules(root))
    entries = tuple(entry for entry in tree.entries if entry.kind != "folder")
    return replace(tree, entries=entries, rule_files=(".gitignore",))


def _no_folder(root: Path) -> InputError:
    try:
        mode = root.stat().st_mode
    except (OSError, ValueError):
        return InputError(f"there is no folder {root}", code="missing-folder")
    return InputError(f"{root} is {kind_of_mode(mode)}, not a folder", code="not-a-folder")


def read_tree(
    root: Path, rules: Sequence[IgnoreRules] = (), keep: frozenset[str] = frozenset()
) -> Tree:
    """Read every entry below ``root`` that no rule leaves out, contents included.

    Raises InputError for what cannot be part of an environment, all of it at once: sockets,
    pipes, devices, mount points, unreadable entries, links that lead out of ``root``.
    """
    if not paths.is_folder(os.fspath(root)):
        raise _no_folder(root)
    walk = _Walk(root, rules, keep, root.stat().st_dev, FolderMemo(os.fspath(root)))
    while walk.open:
        walk.folder(*walk.open.pop())
    if walk.problems:
        raise InputError(walk.problems)
    walk.memo.save()
    return Tree(root, tuple(walk.entries), tuple(walk.folders))


@dataclass(slots=True)
class _Walk:
    root: Path
    rules: Sequence[IgnoreRules]
    keep: frozenset[str]
    device: int
    memo: FolderMemo
    open: list[tuple[str, int]] = field(default_factory=lambda: [("", 0)])
    entries: list[TreeEntry] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)

    def folder(self, prefix: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InputError(f"{prefix[:200]!a}… is nested too deep", code="too-deep")
        if prefix:
            self.folders.append(prefix)
        empty = True
        for name in _names(self.root, prefix):
            path = f"{prefix}/{name}" if prefix else name
            status = _lstat(self.root, path)
            is_folder = stat.S_ISDIR(status.st_mode)
            if self.left_out(path, is_folder):
                if is_folder and not self.pruned(path):
                    self.open.append((path, depth + 1))
                continue
            empty = False
            try:
                if is_folder:
                    self.check_mount(path, status)
                    self.open.append((path, depth + 1))
                else:
                    self.add(_entry(self.root, path, status, self.memo))
            except InputError as error:
                self.problems += error.diagnostics
                if len(self.problems) >= MAX_PROBLEMS or error.diagnostics[0].code == "too-large":
                    raise InputError(self.problems) from None
        if empty and prefix and not self.left_out(prefix, True):
            self.add(TreeEntry("folder", prefix))

    def add(self, entry: TreeEntry) -> None:
        if len(self.entries) >= MAX_ENTRIES:
            raise InputError(f"{self.root} holds more than {MAX_ENTRIES} entries", code="too-large")
        self.entries.append(entry)

    def left_out(self, path: str, is_folder: bool) -> bool:
        if path in self.keep:
            return False
        return any(rule.ignored(path, is_folder) for rule in self.rules)

    def pruned(self, path: str) -> bool:
        """Whether nothing below the ignored folder can belong to the tree."""
        if any(kept.startswith(path + "/") for kept in self.keep):
            return False
        return any(rule.ignored(path, True) and rule.prunes(path) for rule in self.rules)

    def check_mount(self, path: str, status: os.stat_result) -> None:
        if status.st_dev != self.device:
            raise InputError(
                f"{path!a} is a mount point: it does not belong to the folder", code="mount-point"
            )


def _names(root: Path, prefix: str) -> list[str]:
    try:
        return paths.names_in(root / prefix)
    except OSError as error:
        raise InputError(
            f"the folder {str(root / prefix)!a} cannot be read: {error.strerror}",
            code="unreadable-folder",
        ) from None


def _lstat(root: Path, path: str) -> os.stat_result:
    try:
        return os.lstat(root / path)
    except OSError as error:
        raise InputError(
            f"{path!a} cannot be read: {error.strerror}", code="unreadable-file"
        ) from None


def _entry(root: Path, path: str, status: os.stat_result, memo: FolderMemo) -> TreeEntry:
    if stat.S_ISLNK(status.st_mode):
        target = os.fspath((root / path).readlink())
        if leads_out(path, target):
            raise InputError(
                f"the link {path!a} leads out of the folder, to {target!a}",
                code="link-escape",
                hint="copy what it points at into the folder, or ignore the link",
            )
        return TreeEntry("link", path, target=target)
    if not stat.S_ISREG(status.st_mode):
        raise InputError(
            f"{path!a} is {kind_of_mode(status.st_mode)}: it cannot be part of an environment",
            code="special-file",
            hint="remove it, or add it to .dockerignore",
        )
    digest, size = known_digest(status), status.st_size
    if digest is None:
        digest, size = _hash_file(root / path, path)
    memo.use(status, digest)
    return TreeEntry("file", path, bool(status.st_mode & stat.S_IXUSR), digest, "", size)


def leads_out(path: str, target: str) -> bool:
    """Whether a link at ``path`` points out of the tree."""
    if target.startswith("/"):
        return True
    joined = paths.joined(paths.folder_of(path), target)
    return joined == ".." or joined.startswith("../")


def _hash_file(path: str | Path, shown: str) -> tuple[Digest, int]:
    """Digest and size; a file that changes while it is read is read again, then refused."""
    for _ in range(3):
        began = now_ns()
        try:
            fd = open_regular(path, follow=isinstance(path, str))
            with os.fdopen(fd, "rb", buffering=0) as file:
                before = os.fstat(fd)
                sha, size = hashlib.sha256(), 0
                while piece := file.read(_PIECE):
                    sha.update(piece)
                    size += len(piece)
                after = os.fstat(fd)
        except OSError as error:
            raise InputError(
                f"{shown!a} cannot be read: {error.strerror}", code="unreadable-file"
            ) from None
        if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size) and (
            size == after.st_size
        ):
            digest = Digest.from_hex(sha.hexdigest())
            remember(after, digest, began)
            return digest, size
    raise InputError(f"{shown!a} changes while it is read", code="file-changes")
