"""A wheel becomes a layer, with the rules of PyPA's ``installer``.

Scripts get the prefix's Python, ``.data`` goes where its scheme says, RECORD is
rewritten, INSTALLER is added; no ``direct_url.json`` and no ``REQUESTED``, which say
where and why. Nothing is unpacked to disk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from envgraph.image.archive_errors import ArchiveError, Reason
from envgraph.image.condapaths import is_shipped_bytecode
from envgraph.image.content import LayerContent
from envgraph.image.entrypoints import checked_entry_point
from envgraph.image.layer import SMALL, CompilePyc, bytecode_path, compiles
from envgraph.image.layerwriter import LayerWriter, Write, parents_of
from envgraph.image.options import LayerOptions
from envgraph.image.wheel_archive import WheelArchive, WheelFile, encoded
from envgraph.model.locked import LockedPackage

INSTALLER: Final = b"envgraph\n"
_SCHEMES: Final = frozenset(("purelib", "platlib", "headers", "scripts", "data"))
_MAX_SCRIPT: Final = 16 << 20
_MAX_SOURCE: Final = 32 << 20
_SEPARATORS: Final = re.compile(r"[-_.]+")


def write_wheel_layer(
    archive: BinaryIO,
    package: LockedPackage,
    options: LayerOptions,
    write: Write,
    compile_pyc: CompilePyc | None = None,
) -> LayerContent:
    """Write the layer of the wheel in ``archive`` (seekable) by calling ``write``.

    Every file is compared with RECORD. Raises :class:`ArchiveError`; what was
    written until then must be thrown away. The archive's own sha256 is the caller's.
    """
    if bool(options.bytecode_key) != (compile_pyc is not None):
        raise ValueError("bytecode needs both a key and a compiler")
    if not options.site_packages:
        raise ArchiveError(
            Reason.UNSUPPORTED,
            "is a wheel, and the environment has no Python",
            entry=package.title,
        )
    return _Assembly(WheelArchive(archive), package, options, compile_pyc).run(write)


class _Assembly:
    """The work on one wheel."""

    def __init__(
        self,
        wheel: WheelArchive,
        package: LockedPackage,
        options: LayerOptions,
        compile_pyc: CompilePyc | None,
    ) -> None:
        self.wheel = wheel
        self.options = options
        self.compile_pyc = compile_pyc
        self.package = package
        self.interpreter = f"{options.prefix}/bin/python{options.python}"
        self.records: list[tuple[str, str, int]] = []
        """Rows of the new RECORD: path as written there, hash, size."""
        self._check_identity(package)
        self.scripts = self._entry_points()
        self.targets = self._targets()

    def run(self, write: Write) -> LayerContent:
        site, dist_info = self.options.site_packages, self.wheel.dist_info
        own = [f"{site}/{dist_info}/{name}" for name in ("INSTALLER", "RECORD")]
        directories = parents_of([*self.targets.values(), *self.scripts, *own])
        if self.compile_pyc is not None:
            directories.update(
                f"{target.rpartition('/')[0]}/__pycache__"
                for target in self.targets.values()
                if compiles(target, self.options)
            )
        writer = LayerWriter(self.options, write, directories)
        for target, data in self.scripts.items():
            writer.add_file(target, data, executable=True)
            self._record(target, hashlib.sha256(data).digest(), len(data))
        for path, target in self.targets.items():
            self._add(writer, self.wheel.files[path], target)
        writer.add_file(own[0], INSTALLER)
        self._record(own[0], hashlib.sha256(INSTALLER).digest(), len(INSTALLER))
        writer.add_file(own[1], self._new_record())
        return writer.finish()

    def _check_identity(self, package: LockedPackage) -> None:
        name = self.wheel.dist_info.removesuffix(".dist-info").rpartition("-")[0]
        if _normal(name) != _normal(package.name):
            raise ArchiveError(
                Reason.METADATA, f"the wheel is {name!r:.80}, the lock says {package.name!r}"
            )
        for line in (self.wheel.read("WHEEL") or b"").decode("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() == "wheel-version" and value.strip().startswith("1."):
                return
        raise ArchiveError(
            Reason.UNSUPPORTED, "is no wheel of version 1", entry=f"{self.wheel.dist_info}/WHEEL"
        )

    def _entry_points(self) -> dict[str, bytes]:
        """Scripts by their path below the prefix."""
        from configparser import Error as ConfigError

        from installer.scripts import Script
        from installer.utils import parse_entrypoints

        text = self.wheel.read("entry_points.txt")
        if text is None:
            return {}
        scripts: dict[str, bytes] = {}
        try:
            points = list(parse_entrypoints(text.decode("utf-8")))
        except (ValueError, AssertionError, ConfigError) as error:
            raise ArchiveError(
                Reason.ENTRY_POINT, "cannot be understood", entry="entry_points.txt"
            ) from error
        for name, module, function, section in points:
            point = checked_entry_point(name, module, function)
            script = Script(point.name, point.module, point.function, section)
            file_name, data = script.generate(self.interpreter, "posix")
            if f"bin/{file_name}" in scripts:
                raise ArchiveError(Reason.DUPLICATE, "two entry points have the name", entry=name)
            scripts[f"bin/{file_name}"] = data
        return scripts

    def _targets(self) -> dict[str, str]:
        """Where each file goes, below the prefix; RECORD and bytecode are left out."""
        names = set(self.wheel.files)
        unwanted = {
            f"{self.wheel.dist_info}/{name}"
            for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
        }
        targets: dict[str, str] = {}
        taken = set(self.scripts)
        for path in self.wheel.files:
            if path in unwanted or is_shipped_bytecode(path, names):
                continue
            target = self._target(path)
            if target.startswith("conda-meta/"):
                raise ArchiveError(Reason.UNSAFE_NAME, "would be conda's record", entry=path)
            if target in taken:
                raise ArchiveError(Reason.DUPLICATE, "two files go there", entry=target)
            taken.add(target)
            targets[path] = target
        for target in sorted(parents_of(taken) & taken):
            raise ArchiveError(Reason.DUPLICATE, "is a file and has files below it", entry=target)
        return targets

    def _target(self, path: str) -> str:
        folder, _, rest = path.partition("/")
        if not folder.endswith(".data"):
            return f"{self.options.site_packages}/{path}"
        scheme, _, rest = rest.partition("/")
        if scheme not in _SCHEMES or not rest:
            raise ArchiveError(Reason.METADATA, "is in no known scheme of .data", entry=path)
        if scheme in ("purelib", "platlib"):
            return f"{self.options.site_packages}/{rest}"
        if scheme == "scripts":
            return f"bin/{rest}"
        if scheme == "headers":
            return f"include/python{self.options.python}/{self.package.name}/{rest}"
        return rest

    def _add(self, writer: LayerWriter, file: WheelFile, target: str) -> None:
        pieces = self.wheel.pieces(file)
        size = file.member.size
        folder, _, rest = file.path.partition("/")
        is_script = folder.endswith(".data") and rest.startswith("scripts/")
        executable = file.executable or is_script
        source = self.compile_pyc is not None and compiles(target, self.options)
        whole = _MAX_SOURCE if source else _MAX_SCRIPT if is_script else SMALL
        if size <= whole:
            data = b"".join(pieces)
            if is_script:
                data = self._with_shebang(data)
            writer.add_file(target, data, executable=executable)
            self._record(target, hashlib.sha256(data).digest(), len(data))
            if source:
                assert self.compile_pyc is not None
                compiled = self.compile_pyc(f"{self.options.prefix}/{target}", data)
                if compiled is not None:
                    writer.add_file(bytecode_path(target, self.options), compiled)
            return
        self._stream(writer, pieces, target, size, executable)

    def _stream(
        self, writer: LayerWriter, pieces: Iterator[bytes], target: str, size: int, executable: bool
    ) -> None:
        writer.begin_file(target, size, executable=executable)
        hashed = hashlib.sha256()
        for piece in pieces:
            hashed.update(piece)
            writer.feed(piece)
        writer.end_file(size)
        self._record(target, hashed.digest(), size)

    def _with_shebang(self, data: bytes) -> bytes:
        """``#!python`` becomes the prefix's Python, as PEP 427 asks."""
        if not data.startswith(b"#!python"):
            return data
        return f"#!{self.interpreter}\n".encode() + data.partition(b"\n")[2]

    def _record(self, target: str, digest: bytes, size: int) -> None:
        self.records.append((self._recorded(target), f"sha256={encoded(digest)}", size))

    def _recorded(self, target: str) -> str:
        """The path as RECORD has it: relative to site-packages."""
        site = self.options.site_packages
        if target.startswith(site + "/"):
            return target[len(site) + 1 :]
        return "../" * (site.count("/") + 1) + target

    def _new_record(self) -> bytes:
        import csv
        import io

        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        own = (f"{self.wheel.dist_info}/RECORD", "", "")
        found = [(path, hashed, str(size)) for path, hashed, size in self.records]
        rows.writerows(sorted([*found, own]))
        return text.getvalue().encode("utf-8", "surrogateescape")


def _normal(name: str) -> str:
    return _SEPARATORS.sub("-", name).lower()
