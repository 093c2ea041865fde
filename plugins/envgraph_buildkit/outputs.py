"""What BuildKit sends back: files and folders, into places that become visible when all is well.

``moby.filesync.v1.FileSend`` carries a file in ``BytesMessage`` and a folder in fsutil's
packets; which it is, the exporter knows. A call names its exporter by number in a header.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from envgraph.api import BuilderError
from envgraph_buildkit.filesync import DATA, ERR, FIN, REQ, STAT
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.quiet import grpc
from envgraph_buildkit.session import Refusal

_EXPORTER: Final = "buildkit-attachable-exporter-id"
_GO_FOLDER, _GO_SYMLINK = 1 << 31, 1 << 27
_GO_OTHER: Final = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21  # devices, pipes, sockets
_GO_BITS: Final = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))


class Target(Protocol):
    """A place for one exporter's answer."""

    def receive(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """Take what comes, and answer."""
        ...

    def keep(self) -> None:
        """All is well: make it visible. BuilderError when nothing came."""
        ...

    def drop(self) -> None:
        """The build failed: leave nothing behind."""
        ...


def nothing_came(what: object) -> BuilderError:
    """The server said OK and did nothing, as old ones do."""
    return BuilderError(
        f"BuildKit said that the build is done, and sent nothing for {what}", code="builder-answer"
    )


class FileTarget:
    """A file, written beside its name until it is whole."""

    def __init__(self, path: Path) -> None:
        """Where it will be."""
        self._path = path
        self._part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        self.came = False

    def receive(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """Bytes, to the end."""
        read = message("BytesMessage").FromString
        with self._part.open("wb") as target:
            for part in requests:
                target.write(read(part).data)
        self.came = True
        yield from ()

    def keep(self) -> None:
        """Give it its name."""
        if not self.came:
            raise nothing_came(self._path)
        self._part.replace(self._path)

    def drop(self) -> None:
        """Remove what there is of it."""
        self._part.unlink(missing_ok=True)


class FolderTarget:
    """A folder, filled beside its name until it is whole; or, with ``merge``, where it is."""

    def __init__(self, path: Path, *, merge: bool) -> None:
        """``merge``: files are added to those that are there."""
        self._path = path
        self._merge = merge
        self._root = path if merge else path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        self._came = False

    def receive(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """Entries, then the contents that are asked for."""
        self._root.mkdir(parents=self._merge, exist_ok=self._merge)
        packet, read = message("Packet"), message("Packet").FromString
        folder = _Folder(self._root)
        number, told = 0, False
        try:
            for data in requests:
                part = read(data)
                if part.type == STAT and part.HasField("stat"):
                    if folder.add(number, part.stat):
                        yield encode(packet(type=REQ, ID=number))
                    number += 1
                elif part.type == STAT:
                    told = True
                elif part.type == DATA:
                    folder.write(part.ID, part.data)
                elif part.type == FIN:
                    break
                elif part.type == ERR:
                    text = bytes(part.data).decode(errors="replace")[:500]
                    raise BuilderError(f"BuildKit cannot send a folder: {text}")
                if told and not folder.missing:
                    folder.settle()
                    told = False
                    self._came = True
                    yield encode(packet(type=FIN))
        finally:
            folder.close()

    def keep(self) -> None:
        """Give it its name."""
        if not self._came:
            raise nothing_came(self._path)
        if not self._merge:
            with contextlib.suppress(FileNotFoundError):
                self._path.rmdir()  # an empty one is no other folder
            self._root.rename(self._path)

    def drop(self) -> None:
        """Remove it, unless it was there before."""
        if not self._merge:
            shutil.rmtree(self._root, ignore_errors=True)


class _Folder:
    """Entries written below a root, and never beside it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders = {""}
        self._files: dict[int, tuple[BinaryIO, Path, Any]] = {}
        self._modes: list[tuple[Path, Any]] = []

    @property
    def missing(self) -> bool:
        """Some file's content has not come yet."""
        return bool(self._files)

    def add(self, number: int, entry: Any) -> bool:
        """Make an entry; whether its content is wanted."""
        parent, _, name = entry.path.rpartition("/")
        if name in ("", ".", "..") or parent not in self._folders or "\0" in name:
            raise BuilderError(
                f"BuildKit sends a file out of place: {entry.path[:200]!r}", code="builder-answer"
            )
        path = self._root / entry.path
        if entry.mode & _GO_FOLDER:
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                path.unlink()
            path.mkdir(exist_ok=True)
            self._folders.add(entry.path)
            self._modes.append((path, entry))
            return False
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if entry.mode & _GO_SYMLINK:
            path.symlink_to(entry.linkname)
            return False
        if entry.mode & _GO_OTHER:
            return False
        if entry.linkname:
            other = entry.linkname.lstrip("/")
            if other.rpartition("/")[0] not in self._folders or ".." in other.split("/"):
                raise BuilderError("BuildKit sends a link out of place", code="builder-answer")
            os.link(self._root / other, path, follow_symlinks=False)
            return False
        self._files[number] = (path.open("xb"), path, entry)
        return True

    def write(self, number: int, data: bytes) -> None:
        """A piece of a file; an empty one ends it."""
        if number not in self._files:
            raise BuilderError("BuildKit sends what was not asked for", code="builder-answer")
        file, path, entry = self._files[number]
        if data:
            file.write(data)
            return
        file.close()
        del self._files[number]
        _settle(path, entry)

    def settle(self) -> None:
        """Modes and times of folders, the deepest first: files in them have been written."""
        for path, entry in reversed(self._modes):
            _settle(path, entry)

    def close(self) -> None:
        """Leave no file open."""
        for file, _, _ in self._files.values():
            file.close()


def _settle(path: Path, entry: Any) -> None:
    mode = entry.mode & 0o777
    for go, bit in _GO_BITS:
        mode |= bit if entry.mode & go else 0
    path.chmod(mode)
    os.utime(path, ns=(entry.modTime, entry.modTime))


class FileSend:
    """Targets by the number of their exporter."""

    def __init__(self, targets: Mapping[int, Target]) -> None:
        """Exporters that send nothing have none."""
        self._targets = targets

    def handlers(self) -> dict[str, Any]:
        """For the session; none where nothing is to come."""
        if not self._targets:
            return {}
        handler = grpc.stream_stream_rpc_method_handler(self._receive)
        return {"/moby.filesync.v1.FileSend/DiffCopy": handler}

    def _receive(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        said = [str(value) for key, value in context.invocation_metadata() if key == _EXPORTER]
        first = next(iter(self._targets))  # servers that know of one exporter number none
        number = int(said[0]) if said and said[0].isdecimal() else first
        target = self._targets.get(number)
        if target is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"no exporter {number} sends here")
        yield from target.receive(requests)
