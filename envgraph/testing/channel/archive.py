"""A conda package as a value, and its bytes as ``.conda`` or ``.tar.bz2``.

Equal values give equal bytes: members are sorted, owners and times are fixed, the
compressor is zstandard at level 3. Formats: CEP 35 (``.conda``: a stored zip of
``metadata.json``, ``pkg-*.tar.zst``, ``info-*.tar.zst``) and conda's first format
(one bzip2 tar, ``info/`` first).
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

ArchiveFormat = Literal["conda", "tar.bz2"]
FileMode = Literal["", "text", "binary"]

PLACEHOLDER = ("/opt/placeholder_" + "hold_" * 51)[:255]
"""The folder that stands for the prefix in packages: 255 characters, as conda-build's."""

EPOCH_MS = 1_700_000_000_000
"""The ``timestamp`` of every package here, milliseconds: 2023-11-14T22:13:20Z."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a package, or with ``target`` one symbolic link.

    ``placeholder`` and ``file_mode`` say what ``info/paths.json`` says about the
    prefix in it; both are empty where it holds none.
    """

    path: str
    data: bytes = b""
    target: str | None = None
    executable: bool = False
    placeholder: str = ""
    file_mode: FileMode = ""
    no_link: bool = False


@dataclass(frozen=True, slots=True)
class Package:
    """Everything that one conda package says and holds; ``entries`` in any order."""

    name: str
    version: str
    build: str
    build_number: int = 0
    subdir: str = "linux-64"
    noarch: Literal["", "python", "generic"] = ""
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    license: str = ""
    timestamp_ms: int = EPOCH_MS
    python_site_packages_path: str = ""
    entry_points: tuple[str, ...] = ()
    """Of noarch python packages: ``name = module:function``, into ``info/link.json``."""

    entries: tuple[Entry, ...] = ()
    about: Mapping[str, object] = field(default_factory=dict)
    index_extra: Mapping[str, object] = field(default_factory=dict)
    """More fields of ``info/index.json``, or other values for those that are there."""

    info_files: Mapping[str, bytes] = field(default_factory=dict)
    """More files of ``info/``, by their path below it."""

    @property
    def stem(self) -> str:
        """``name-version-build``, the archive's name without its ending."""
        return f"{self.name}-{self.version}-{self.build}"

    def file_name(self, archive_format: ArchiveFormat = "conda") -> str:
        """The archive's name as a channel shows it."""
        return f"{self.stem}.{archive_format}"

    def to_bytes(self, archive_format: ArchiveFormat = "conda") -> bytes:
        """The whole archive; equal packages give equal bytes."""
        mtime = self.timestamp_ms // 1000
        info = _tar(_info_members(self), mtime)
        payload_entries = sorted(self.entries, key=lambda entry: entry.path)
        if archive_format == "tar.bz2":
            return bz2.compress(_tar([*_info_members(self), *payload_entries], mtime))
        return _conda_zip(self.stem, _zstd(_tar(payload_entries, mtime)), _zstd(info))

    def write(self, channel: Path, archive_format: ArchiveFormat = "conda") -> Path:
        """Write the archive into ``channel/SUBDIR/`` and give its path."""
        path = channel / self.subdir / self.file_name(archive_format)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.to_bytes(archive_format))
        return path


def content_hash(entries: Sequence[Entry], *more: str) -> str:
    """Seven hex digits that depend on all contents: for build strings."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda item: item.path):
        inner = hashlib.sha256(entry.data).hexdigest()
        row = [entry.path, entry.target, inner, entry.executable, entry.file_mode]
        digest.update(json.dumps(row).encode())
    digest.update(json.dumps(more).encode())
    return digest.hexdigest()[:7]


def index_json(package: Package) -> dict[str, object]:
    """``info/index.json`` of a package."""
    index: dict[str, object] = {
        "name": package.name,
        "version": package.version,
        "build": package.build,
        "build_number": package.build_number,
        "depends": list(package.depends),
        "subdir": package.subdir,
        "timestamp": package.timestamp_ms,
    }
    if package.subdir == "noarch":
        index |= {"arch": None, "platform": None}
    else:
        platform, _, bits = package.subdir.partition("-")
        index |= {"arch": {"64": "x86_64"}.get(bits, bits), "platform": platform}
    if package.noarch:
        index["noarch"] = package.noarch
    if package.constrains:
        index["constrains"] = list(package.constrains)
    if package.license:
        index["license"] = package.license
    if package.python_site_packages_path:
        index["python_site_packages_path"] = package.python_site_packages_path
    return {**index, **package.index_extra}


def _paths_json(package: Package) -> dict[str, object]:
    contents = {entry.path: entry for entry in package.entries}
    paths = []
    for entry in sorted(package.entries, key=lambda item: item.path):
        data = _followed(entry, contents)
        row: dict[str, object] = {
            "_path": entry.path,
            "path_type": "hardlink" if entry.target is None else "softlink",
            "sha256": hashlib.sha256(data).hexdigest(),
            "size_in_bytes": len(data),
        }
        if entry.file_mode:
            row |= {"prefix_placeholder": entry.placeholder, "file_mode": entry.file_mode}
        if entry.no_link:
            row["no_link"] = True
        paths.append(row)
    return {"paths": paths, "paths_version": 1}


def _followed(entry: Entry, contents: Mapping[str, Entry]) -> bytes:
    """The bytes behind a link inside the package; empty where it leads elsewhere."""
    for _ in range(40):
        if entry.target is None:
            return entry.data
        parts: list[str] = []
        for part in (PurePosixPath(entry.path).parent / entry.target).parts:
            if part == "..":
                if not parts:
                    return b""
                parts.pop()
            else:
                parts.append(part)
        found = contents.get("/".join(parts))
        if found is None:
            return b""
        entry = found
    return b""


def _info_members(package: Package) -> list[Entry]:
    files: dict[str, bytes] = {
        "about.json": _json(dict(package.about)),
        "files": "".join(f"{e.path}\n" for e in _sorted(package.entries)).encode(),
        "index.json": _json(index_json(package)),
        "paths.json": _json(_paths_json(package)),
    }
    prefixed = [e for e in _sorted(package.entries) if e.file_mode]
    if prefixed:
        lines = [f'"{e.placeholder}" "{e.file_mode}" "{e.path}"\n' for e in prefixed]
        files["has_prefix"] = "".join(lines).encode()
    if package.noarch:
        noarch: dict[str, object] = {"type": package.noarch}
        if package.noarch == "python":
            noarch["entry_points"] = list(package.entry_points)
        files["link.json"] = _json({"noarch": noarch, "package_metadata_version": 1})
    files |= package.info_files
    return [Entry(f"info/{name}", data) for name, data in sorted(files.items())]


def _sorted(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda item: item.path)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _tar(entries: Sequence[Entry], mtime: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mtime = mtime
            member.mode = 0o755 if entry.executable else 0o644
            if entry.target is not None:
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
                tar.addfile(member)
            else:
                member.size = len(entry.data)
                tar.addfile(member, io.BytesIO(entry.data))
    return out.getvalue()


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=3).compress(data)


def _conda_zip(stem: str, payload: bytes, info: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{stem}.tar.zst", payload),
            (f"info-{stem}.tar.zst", info),
        ):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return out.getvalue()
