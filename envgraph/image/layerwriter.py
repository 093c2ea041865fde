"""Write a layer as a stream: headers of directories, files, end; in frames, with two hashes."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable, Collection, Iterable
from typing import Final

from envgraph.image import tarwrite
from envgraph.image.archive_errors import ArchiveError, Reason, shown
from envgraph.image.compress import FRAME
from envgraph.image.content import LayerContent
from envgraph.image.options import LayerOptions
from envgraph_store.digest import Digest

ENV_VARS: Final = "etc/conda/env_vars.d/"
ACTIVATE: Final = "etc/conda/activate.d/"
DEACTIVATE: Final = "etc/conda/deactivate.d/"
_SCRIPT_ENDS: Final = ("-pre-link.sh", "-post-link.sh")
_MAX_NOTED: Final = 5
_MAX_SPARE: Final = 8
_SPARE: Final[list[bytearray]] = []
"""Buffers of finished layers, used again: memory is slow when it is touched first."""

Write = Callable[[bytes], object]


def parents_of(paths: Iterable[str]) -> set[str]:
    """Every directory above ``paths``."""
    found: set[str] = set()
    for path in paths:
        cut = path.rfind("/")
        while cut > 0:
            parent = path[:cut]
            if parent in found:
                break
            found.add(parent)
            cut = parent.rfind("/")
    return found


class LayerWriter:
    """One layer. Give files in the order they shall have, then :meth:`finish`.

    Paths are below the prefix. ``directories`` (with their parents) make the first
    frames; a file whose directory is not among them is a programming error.

    A frame is gathered in one buffer, then hashed and compressed at once: both leave
    other threads alone meanwhile, and see nothing of how the bytes arrived.
    """

    def __init__(
        self,
        options: LayerOptions,
        write: Write,
        directories: Iterable[str],
        *,
        root: str | None = None,
    ) -> None:
        """Write the directories' frame. ``root`` is the prefix's name unless given."""
        inner = options.inner if root is None else root
        self._options = options
        self._write = write
        self._hash = hashlib.sha256()
        self._buffer = _SPARE.pop() if _SPARE else bytearray(FRAME)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._raw = 0
        self._size = 0
        self._root = (inner + "/").encode() if inner else b""
        self._paths: list[str] = []
        self._env_documents: dict[str, bytes] = {}
        own = set(directories)
        self.directories = tuple(sorted(own | parents_of(own)))
        for name in head_names(inner, self.directories):
            self._put(tarwrite.directory_header(name))
        self._end_frame()
        self.head_raw, self.head_size = self._raw, self._size

    def add_file(self, path: str, data: bytes | memoryview, *, executable: bool = False) -> None:
        """A whole file."""
        size = len(data)
        self._put(tarwrite.file_header(self._name(path), size, executable=executable))
        self._put(data)
        self._put(tarwrite.padding(size))
        if path.startswith(ENV_VARS) and path.endswith(".json"):
            self._env_documents[path] = bytes(data)

    def begin_file(self, path: str, size: int, *, executable: bool) -> None:
        """A file whose ``size`` bytes come by :meth:`feed`, then :meth:`end_file`."""
        self._put(tarwrite.file_header(self._name(path), size, executable=executable))

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes of the current file."""
        self._put(data)

    def end_file(self, size: int) -> None:
        """The current file is complete."""
        self._put(tarwrite.padding(size))

    def add_whiteout(self, path: str) -> None:
        """An empty file whose name tells image readers to hide or delete others."""
        self._paths.append(path)
        self._put(tarwrite.file_header(self._root + _raw(path), 0, executable=False))

    def add_symlink(self, path: str, target: str) -> None:
        """A symbolic link; the caller has checked where it leads."""
        self._put(tarwrite.symlink_header(self._name(path), _raw(target)))

    def add_hardlink(self, path: str, target: str, *, executable: bool) -> None:
        """Another name for ``target``, a file that this layer already holds."""
        name = self._name(path)
        self._put(tarwrite.hardlink_header(name, self._root + _raw(target), executable=executable))

    def finish(self, notes: Iterable[str] = ()) -> LayerContent:
        """Write the end of the archive; what the layer holds."""
        self._end_frame()
        self._raw += len(tarwrite.END)
        self._hash.update(tarwrite.END)
        self._out(self._options.compression.frame(tarwrite.END))
        self._view.release()  # what comes after this is a ValueError
        if len(_SPARE) < _MAX_SPARE:
            _SPARE.append(self._buffer)
        paths = tuple(sorted(self._paths))
        env_vars, bad = environment_of(self._env_documents)
        return LayerContent(
            diff_id=Digest.from_hex(self._hash.hexdigest()),
            raw_size=self._raw,
            size=self._size,
            head_raw=self.head_raw,
            head_size=self.head_size,
            media_type=self._options.compression.media_type,
            files=len(paths),
            directories=self.directories,
            env_vars=env_vars,
            activate_scripts=scripts_below(ACTIVATE, paths),
            deactivate_scripts=scripts_below(DEACTIVATE, paths),
            post_link_scripts=tuple(path for path in paths if is_link_script(path)),
            notes=(*notes, *bad, *folded_collisions(paths)),
            paths=paths,
        )

    def _name(self, path: str) -> bytes:
        if "/.wh." in path or path.startswith(".wh."):
            raise ArchiveError(
                Reason.UNSAFE_NAME, "would delete other files: images read it so", entry=path
            )
        self._paths.append(path)
        return self._root + _raw(path)

    def _put(self, data: bytes | bytearray | memoryview) -> None:
        filled = self._filled
        end = filled + len(data)
        if end > FRAME:
            self._put_across(data)
            return
        self._view[filled:end] = data
        self._filled = end

    def _put_across(self, data: bytes | bytearray | memoryview) -> None:
        """Fill the frame up; one that is full ends when more comes."""
        left = memoryview(data)
        while left:
            if self._filled == FRAME:
                self._end_frame()
            take = min(len(left), FRAME - self._filled)
            self._view[self._filled : self._filled + take] = left[:take]
            self._filled += take
            left = left[take:]

    def _end_frame(self) -> None:
        content = self._view[: self._filled]
        self._raw += self._filled
        self._filled = 0
        self._hash.update(content)
        self._out(self._options.compression.frame(content))

    def _out(self, data: bytes) -> None:
        if data:
            self._size += len(data)
            self._write(data)


def head_names(inner: str, directories: Collection[str]) -> list[bytes]:
    """Names of the first frame: the prefix's parents, the prefix, what lies below."""
    parts = inner.split("/") if inner else []
    names = [_raw("/".join(parts[: n + 1])) for n in range(len(parts))]
    root = _raw(inner + "/") if inner else b""
    return names + [root + _raw(directory) for directory in directories]


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def is_link_script(path: str) -> bool:
    """Whether an installer would run this file when it links or unlinks the package."""
    return path.startswith("bin/.") and path.endswith(_SCRIPT_ENDS)


def scripts_below(folder: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    """The shell scripts in a folder such as :data:`ACTIVATE`."""
    return tuple(path for path in paths if path.startswith(folder) and path.endswith(".sh"))


def environment_of(documents: dict[str, bytes]) -> tuple[dict[str, str], list[str]]:
    """The variables of all documents in the order of their names, and remarks on bad ones."""
    variables: dict[str, str] = {}
    bad: list[str] = []
    for path in sorted(documents):
        try:
            document = json.loads(documents[path])
            if not isinstance(document, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError):
            bad.append(f"{shown(path)} is not a JSON object of variables and is ignored.")
            continue
        variables.update({str(k): str(v) for k, v in document.items() if v is not None})
    return dict(sorted(variables.items())), bad


def folded_collisions(paths: Iterable[str]) -> list[str]:
    """Notes on names that are one file where case or Unicode form does not count."""
    first: dict[str, str] = {}
    notes: list[str] = []
    for path in paths:
        folded = path.lower() if path.isascii() else unicodedata.normalize("NFC", path.casefold())
        other = first.setdefault(folded, path)
        if other is not path:
            notes.append(f"{shown(other)} and {shown(path)} differ only in case or Unicode form.")
    if len(notes) > _MAX_NOTED:
        more = len(notes) - _MAX_NOTED
        notes[_MAX_NOTED:] = [f"{more} more names differ only in case or Unicode form."]
    return notes
