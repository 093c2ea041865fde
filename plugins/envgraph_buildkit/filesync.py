"""Files for BuildKit: the sending side of fsutil's protocol.

The sender tells every entry (STAT), depth first and names in the order of their bytes; an empty
STAT ends that. The receiver asks (REQ) for the contents that it lacks, by the entry's place in
the sequence; an empty DATA ends each. FIN ends it all, both ways.

The receiver keeps files between builds, and compares mode, size and time: so the time that is
told depends on the content. It is not earlier than the epoch, and no layer has it: what is
later than the epoch is set to it.

What ignore rules say has been applied to a :class:`Tree` by the host: a ``.dockerignore`` is an
ordinary file there, and the Dockerfile frontend, which asks for it first, is told that there is
none. A :class:`~envgraph_buildkit.folders.Folder` is as it is: BuildKit gets its
``.dockerignore``, and says what it does not want.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final
from urllib.parse import unquote_plus

from envgraph.api import BuildContext, BuilderError, ContextEntry, Digest
from envgraph_buildkit.folders import Folder, chosen
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.quiet import grpc
from envgraph_buildkit.session import Refusal

STAT, REQ, DATA, FIN, ERR = range(5)
_CHUNK: Final = 1 << 20
_GO_FOLDER: Final = 1 << 31
_GO_SYMLINK: Final = 1 << 27
_IGNORE_FILES: Final = (".dockerignore", "Dockerfile.dockerignore")

Opener = Callable[[str], BinaryIO]


@dataclass(frozen=True, slots=True)
class Tree:
    """What is sent for one name: entries in fsutil's order, and how to open a file."""

    entries: tuple[ContextEntry, ...]
    open: Opener


def tree_of(context: BuildContext) -> Tree:
    """A build context, with every folder told, even those that only its files imply.

    BuilderError ``builder-lacks`` for names that BuildKit's protocol cannot carry.
    """
    found = {}
    for entry in context.entries():
        _check_name(entry)
        found[entry.path] = _hashed(entry, context)
    for path in list(found):
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found[parent] = ContextEntry(parent, 0o755, folder=True)
            parent = parent.rpartition("/")[0]
    return Tree(tuple(_ordered(found.values())), context.open)


def tree_of_file(name: str, data: bytes) -> Tree:
    """One file."""
    entry = ContextEntry(name, 0o644, len(data), content=Digest.of(data))
    return Tree((entry,), lambda path: io.BytesIO(data))


def _check_name(entry: ContextEntry) -> None:
    for text in (entry.path, entry.link):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BuilderError(
                f"BuildKit takes only names that are UTF-8, and {entry.path!a} is in the context",
                code="builder-lacks",
                hint="rename it, leave it out by .dockerignore, or use buildah",
            ) from None


def _hashed(entry: ContextEntry, context: BuildContext) -> ContextEntry:
    """The entry with the digest of its content."""
    if entry.folder or entry.link or entry.content is not None:
        return entry
    with context.open(entry.path) as stream:
        digest = hashlib.file_digest(stream, "sha256")  # type: ignore[arg-type]
    return dataclasses.replace(entry, content=Digest(f"sha256:{digest.hexdigest()}"))


def _mark(entry: ContextEntry) -> int:
    """Nanoseconds that say which content it is: up to twelve days of them."""
    if entry.content is None:
        return 0
    return int(str(entry.content).removeprefix("sha256:")[:16], 16) % (1 << 50)


def wanted(entries: Sequence[ContextEntry], follow: Iterable[str]) -> Iterator[ContextEntry]:
    """Those that BuildKit will look at: it names the sources of ``COPY``.

    All of them where a name is a pattern, or where a symlink might lead elsewhere.
    """
    names = [name.strip("/") for name in follow]
    plain = all(name and not set(name) & set("*?[]\\") for name in names)
    if not names or not plain or any(entry.link for entry in entries):
        yield from entries
        return
    for entry in entries:
        for name in names:
            inside = entry.path == name or entry.path.startswith(name + "/")
            if inside or (entry.folder and name.startswith(entry.path + "/")):
                yield entry
                break


class FileSync:
    """``moby.filesync.v1.FileSync``: trees by name."""

    def __init__(self, trees: Mapping[str, Tree | Folder], epoch: int = 0) -> None:
        """``epoch``: the time of every file of a :class:`Tree`."""
        self._trees = trees
        self._epoch = epoch

    def handlers(self) -> dict[str, Any]:
        """For the session."""
        return {
            "/moby.filesync.v1.FileSync/DiffCopy": grpc.stream_stream_rpc_method_handler(
                self._diff_copy, message("Packet").FromString, encode
            )
        }

    def time_of(self, entry: ContextEntry) -> int:
        """The time that is told of an entry of a :class:`Tree`, in nanoseconds."""
        return self._epoch * 1_000_000_000 + _mark(entry)

    def _diff_copy(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        asked = _asked(context.invocation_metadata())
        name = (asked.get("dir-name") or [""])[0]
        tree = self._trees.get(name)
        if tree is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"no local files named {name[:100]!r}")
        follow = asked.get("followpaths", [])
        times: dict[str, int] = {}
        entries: list[ContextEntry] = []
        if isinstance(tree, Folder):
            entries, times = _of_folder(tree, asked, follow)
        else:
            follow = [*follow, *asked.get("include-patterns", ())]
            if not (follow and set(follow) <= set(_IGNORE_FILES)):
                entries = list(wanted(tree.entries, follow))
        packet = message("Packet")
        for entry in entries:
            time = times.get(entry.path, self.time_of(entry))
            yield packet(type=STAT, stat=_stat(entry, time))
        yield packet(type=STAT)
        for request in requests:
            if request.type == REQ:
                if len(entries) <= request.ID:
                    raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"no file {request.ID}")
                with tree.open(entries[request.ID].path) as stream:
                    while part := stream.read(_CHUNK):
                        yield packet(type=DATA, ID=request.ID, data=part)
                yield packet(type=DATA, ID=request.ID)
            elif request.type == FIN:
                yield packet(type=FIN)
                return
            elif request.type == ERR:
                return


def _asked(metadata: Iterable[tuple[str, Any]]) -> dict[str, list[str]]:
    """What the headers of a call say; texts beyond ASCII are escaped."""
    found: dict[str, list[str]] = {}
    for key, value in metadata:
        found.setdefault(key, []).append(value.decode() if isinstance(value, bytes) else value)
    return {
        key: [unquote_plus(each) for each in values] if f"{key}-encoded" in found else values
        for key, values in found.items()
    }


def _of_folder(
    folder: Folder, asked: Mapping[str, list[str]], follow: Sequence[str]
) -> tuple[list[ContextEntry], dict[str, int]]:
    found = folder.entries()
    kept = chosen(found, asked.get("include-patterns", ()), asked.get("exclude-patterns", ()))
    order = _ordered(found[path][0] for path in kept)
    return list(wanted(order, follow)), {path: found[path][1] for path in kept}


def _ordered(entries: Iterable[ContextEntry]) -> list[ContextEntry]:
    """Depth first, names in the order of their bytes."""
    return sorted(entries, key=lambda each: each.path.encode(errors="surrogateescape").split(b"/"))


def _stat(entry: ContextEntry, time: int) -> Any:
    kind = _GO_FOLDER if entry.folder else _GO_SYMLINK if entry.link else 0
    return message("Stat")(
        path=entry.path,
        mode=kind | (0o777 if entry.link else entry.mode & 0o777),
        size=0 if kind else entry.size,
        modTime=time,
        linkname=entry.link,
    )
