"""A conda package archive becomes a layer: a pure function of bytes and options.

No file is created and no script is run. The result does not depend on umask,
user, machine, locale, time, other packages or the order of folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from envgraph.image.archive_errors import ArchiveError, Reason, shown
from envgraph.image.conda_archive import CondaArchive, open_conda_archive
from envgraph.image.condameta import check_index, distribution, package_record
from envgraph.image.condapaths import FileList, PlannedPath, file_list
from envgraph.image.content import LayerContent
from envgraph.image.entrypoints import EntryPoint, entry_points, script
from envgraph.image.keys import maps_python_paths
from envgraph.image.layerwriter import LayerWriter, Write
from envgraph.image.links import check_symlink
from envgraph.image.options import LayerOptions
from envgraph.image.placeholder import BinaryReplacer, replace_text
from envgraph.image.tarread import Member, TarReader
from envgraph.model.locked import LockedPackage

CompilePyc = Callable[[str, bytes], bytes | None]
"""``(path, source)`` to the bytes of a ``.pyc``; None where the source does not compile."""

SMALL: Final = 1 << 20
"""Files up to this size are held whole; larger ones are streamed."""

MAX_TEXT: Final = 256 << 20
"""A text file with a placeholder is held whole, so its size is bounded."""

MAX_SOURCE: Final = 32 << 20
"""A larger Python file gets no bytecode."""

_RESERVED: Final = ("conda-meta/history", "conda-meta/envgraph.json")


def write_conda_layer(
    archive: BinaryIO,
    package: LockedPackage,
    options: LayerOptions,
    write: Write,
    compile_pyc: CompilePyc | None = None,
) -> LayerContent:
    """Write the layer of ``package`` from its ``archive`` (seekable) by calling ``write``.

    Every file is compared with the archive's own sha256 and size. Raises
    :class:`ArchiveError`; what was written until then must be thrown away. The
    archive's own sha256 is the caller's to check.
    """
    if bool(options.bytecode_key) != (compile_pyc is not None):
        raise ValueError("bytecode needs both a key and a compiler")
    return _Assembly(archive, package, options, compile_pyc).run(write)


class _Assembly:
    """The work on one archive."""

    def __init__(
        self,
        file: BinaryIO,
        package: LockedPackage,
        options: LayerOptions,
        compile_pyc: CompilePyc | None,
    ) -> None:
        self.package = package
        self.options = options
        self.compile_pyc = compile_pyc
        self.archive: CondaArchive = open_conda_archive(file)
        self.index = check_index(self.archive.document("index.json"), package)
        mapped = self._is_mapped()
        self.points: tuple[EntryPoint, ...] = (
            entry_points(self.archive.document("link.json")) if mapped else ()
        )
        self.list: FileList = file_list(self.archive, options, mapped=mapped)
        self.record_path = f"conda-meta/{distribution(package)}.json"
        self.notes: list[str] = []
        self.paths_data: list[dict[str, object]] = []
        self.files: dict[str, tuple[str, int, bool, str]] = {}
        """Regular files written so far: source name → sha256, size, executable, target."""
        self._drop_overwritten()

    def _is_mapped(self) -> bool:
        """Whether Python's paths apply; the archive says it, the layer's key foresaw it."""
        noarch = self.index.get("noarch")
        mapped = noarch == "python"
        if mapped and not maps_python_paths(self.package):
            raise ArchiveError(
                Reason.METADATA,
                "is noarch python, and the lock says it is not",
                entry=self.package.title,
            )
        if mapped and not self.options.site_packages:
            raise ArchiveError(
                Reason.UNSUPPORTED,
                "needs Python's folder, and the environment has no Python",
                entry=self.package.title,
            )
        return mapped

    def _drop_overwritten(self) -> None:
        """An entry point's script replaces a packaged file of the same path."""
        scripts = {f"bin/{point.name}" for point in self.points}
        for path in self.list.paths.values():
            if path.target == self.record_path or path.target in _RESERVED:
                raise ArchiveError(Reason.UNSAFE_NAME, "is conda's record", entry=path.target)
            if path.target in scripts:
                self.notes.append(f"{shown(path.target)} is replaced by an entry point.")

    def run(self, write: Write) -> LayerContent:
        scripts = {f"bin/{point.name}" for point in self.points}
        directories = set(self.list.directories) | {"conda-meta"}
        if scripts:
            directories.add("bin")
        if self.compile_pyc is not None:
            directories.update(
                f"{path.target.rpartition('/')[0]}/__pycache__"
                for path in self.list.paths.values()
                if self._compiles(path)
            )
        writer = LayerWriter(self.options, write, directories)
        tar = self.archive.open_payload()
        paths, dropped = self.list.paths, self.list.dropped
        taken: set[str] = set()
        unlisted = 0
        skip_info = self.archive.extension == ".tar.bz2"
        for member in tar:
            if member.kind == "directory":
                continue
            if member.name in taken:
                raise ArchiveError(Reason.DUPLICATE, "is there twice", entry=member.name)
            taken.add(member.name)
            path = paths.get(member.name)
            if path is None:
                if skip_info and member.name.startswith("info/"):
                    continue
                if member.name not in dropped:
                    unlisted += 1
                continue
            path.seen = True
            if path.target in scripts:
                continue
            self._add(writer, tar, member, path)
        if unlisted:
            self.notes.append(f"{unlisted} files that the package does not list are left out.")
        for path in paths.values():
            if not path.seen and path.kind != "directory":
                raise ArchiveError(Reason.MISSING, "is listed and not there", entry=path.source)
        self._add_entry_points(writer)
        record = package_record(
            self.package,
            self.index,
            extension=self.archive.extension,
            size=self.archive.size,
            paths=sorted(self.paths_data, key=lambda item: str(item["_path"])),
        )
        writer.add_file(self.record_path, record)
        return writer.finish(self.notes)

    def _add(self, writer: LayerWriter, tar: TarReader, member: Member, path: PlannedPath) -> None:
        kind = "file" if member.kind == "hardlink" else member.kind
        if path.kind is not None and path.kind != kind:
            raise ArchiveError(
                Reason.MISMATCH, f"is a {member.kind}, listed as a {path.kind}", entry=member.name
            )
        if member.kind == "symlink":
            check_symlink(path.target, member.target, self.options.prefix)
            writer.add_symlink(path.target, member.target)
            self._note_path(path, "softlink", path.sha256, path.sha256, path.size)
        elif member.kind == "hardlink":
            self._add_hardlink(writer, member, path)
        else:
            self._add_regular(writer, tar, member, path)

    def _add_regular(
        self, writer: LayerWriter, tar: TarReader, member: Member, path: PlannedPath
    ) -> None:
        size = member.size
        if path.size is not None and path.size != size:
            raise ArchiveError(
                Reason.MISMATCH, f"has {size} bytes, listed with {path.size}", entry=member.name
            )
        source = self.compile_pyc is not None and self._compiles(path) and size <= MAX_SOURCE
        if size <= SMALL or source or (path.placeholder and path.text):
            if size > MAX_TEXT:
                raise ArchiveError(
                    Reason.LIMIT,
                    "is a text file with a placeholder of more than 256 MiB",
                    entry=member.name,
                )
            data = tar.view()
            sha256 = hashlib.sha256(data).hexdigest()
            self._check(sha256, path)
            in_prefix = sha256
            if path.placeholder:
                data = self._replace(bytes(data), path)
                in_prefix = hashlib.sha256(data).hexdigest()
            writer.add_file(path.target, data, executable=member.executable)
            if source:
                self._add_bytecode(writer, path, bytes(data))
        else:
            sha256, in_prefix = self._stream(writer, tar, member, path)
        self.files[path.source] = (sha256, size, member.executable, path.target)
        self._note_path(path, "hardlink", sha256, in_prefix, size)

    def _stream(
        self, writer: LayerWriter, tar: TarReader, member: Member, path: PlannedPath
    ) -> tuple[str, str]:
        """A large file, piece by piece; binary replacement keeps its length."""
        writer.begin_file(path.target, member.size, executable=member.executable)
        original = hashlib.sha256()
        if not path.placeholder:
            for piece in tar.pieces():
                original.update(piece)
                writer.feed(piece)
            replaced = original
        else:
            replacer = BinaryReplacer(path.placeholder, self.options.prefix.encode(), path.source)
            replaced = hashlib.sha256()
            for piece in tar.pieces():
                original.update(piece)
                ready = replacer.feed(piece)
                replaced.update(ready)
                writer.feed(ready)
            ready = replacer.finish()
            replaced.update(ready)
            writer.feed(ready)
        writer.end_file(member.size)
        sha256 = original.hexdigest()
        self._check(sha256, path)
        return sha256, replaced.hexdigest()

    def _replace(self, data: bytes, path: PlannedPath) -> bytes:
        prefix = self.options.prefix.encode()
        if path.text:
            return replace_text(data, path.placeholder, prefix)
        replacer = BinaryReplacer(path.placeholder, prefix, path.source)
        return replacer.feed(data) + replacer.finish()

    def _check(self, sha256: str, path: PlannedPath) -> None:
        if path.sha256 is not None and path.sha256 != sha256:
            raise ArchiveError(
                Reason.MISMATCH,
                f"has sha256 {sha256}, listed with {path.sha256}",
                entry=path.source,
            )

    def _add_hardlink(self, writer: LayerWriter, member: Member, path: PlannedPath) -> None:
        """A hard link is kept as one, if it names an earlier file that is treated alike."""
        target = member.target.removeprefix("./")
        first = self.files.get(target)
        other = self.list.paths.get(target)
        if first is None or other is None or other.kind == "symlink":
            raise ArchiveError(
                Reason.UNSAFE_LINK,
                f"is a hard link to {shown(member.target)}, which is no earlier file",
                entry=member.name,
            )
        sha256, size, executable, linked = first
        if (other.placeholder, other.text) != (path.placeholder, path.text):
            raise ArchiveError(
                Reason.UNSAFE_LINK,
                f"is a hard link to {shown(member.target)} with another placeholder",
                entry=member.name,
            )
        if path.size is not None and path.size != size:
            raise ArchiveError(
                Reason.MISMATCH, f"has {size} bytes, listed with {path.size}", entry=member.name
            )
        self._check(sha256, path)
        writer.add_hardlink(path.target, linked, executable=executable)
        in_prefix = next(
            item["sha256_in_prefix"] for item in self.paths_data if item["_path"] == linked
        )
        self._note_path(path, "hardlink", sha256, str(in_prefix), size)

    def _compiles(self, path: PlannedPath) -> bool:
        return path.kind in ("file", None) and compiles(path.target, self.options)

    def _add_bytecode(self, writer: LayerWriter, path: PlannedPath, source: bytes) -> None:
        assert self.compile_pyc is not None
        compiled = self.compile_pyc(f"{self.options.prefix}/{path.target}", source)
        if compiled is None:
            return
        target = bytecode_path(path.target, self.options)
        writer.add_file(target, compiled)
        self.paths_data.append({"_path": target, "path_type": "pyc_file"})

    def _add_entry_points(self, writer: LayerWriter) -> None:
        interpreter = f"{self.options.prefix}/bin/python{self.options.python}"
        for point in self.points:
            target = f"bin/{point.name}"
            writer.add_file(target, script(point, interpreter), executable=True)
            self.paths_data.append({"_path": target, "path_type": "unix_python_entry_point"})

    def _note_path(
        self,
        path: PlannedPath,
        kind: str,
        sha256: str | None,
        in_prefix: str | None,
        size: int | None,
    ) -> None:
        """Keep what ``conda-meta`` says of the file."""
        item: dict[str, Any] = {"_path": path.target, "path_type": kind}
        if sha256 is not None:
            item["sha256"] = sha256
            item["sha256_in_prefix"] = in_prefix
        if size is not None:
            item["size_in_bytes"] = size
        if path.placeholder:
            item["file_mode"] = "text" if path.text else "binary"
            item["prefix_placeholder"] = path.placeholder.decode("utf-8", "surrogateescape")
        if path.no_link:
            item["no_link"] = True
        self.paths_data.append(item)


def compiles(target: str, options: LayerOptions) -> bool:
    """Whether a file below the prefix is one that Python imports, and so gets bytecode."""
    return target.endswith(".py") and target.startswith(options.stdlib + "/")


def bytecode_path(source: str, options: LayerOptions) -> str:
    """``a/b.py`` → ``a/__pycache__/b.cpython-312.pyc``."""
    folder, _, name = source.rpartition("/")
    return f"{folder}/__pycache__/{name[:-3]}.{options.cache_tag}.pyc"
