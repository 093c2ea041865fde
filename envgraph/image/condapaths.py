"""Which files a conda package installs, where, and what its metadata says of each."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Final, Literal

from envgraph.image.archive_errors import ArchiveError, Reason
from envgraph.image.conda_archive import CondaArchive
from envgraph.image.layerwriter import parents_of
from envgraph.image.options import LayerOptions
from envgraph.image.tarread import MAX_ENTRIES, check_name

OLD_PLACEHOLDER: Final = "/opt/anaconda1anaconda2anaconda3"
"""What a ``has_prefix`` line without a placeholder means (conda's constant)."""

_TYPES: Final = {"hardlink": "file", "softlink": "symlink", "directory": "directory"}
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(slots=True)
class PlannedPath:
    """One listed path. ``sha256``, ``size`` and ``kind`` are None where nothing says them."""

    source: str
    target: str
    kind: Literal["file", "symlink", "directory"] | None
    sha256: str | None = None
    size: int | None = None
    placeholder: bytes = b""
    text: bool = True
    no_link: bool = False
    seen: bool = False


@dataclass(frozen=True, slots=True)
class FileList:
    """All listed paths by their name in the archive, without those that are dropped."""

    paths: dict[str, PlannedPath]
    dropped: frozenset[str]
    """Shipped bytecode."""

    directories: frozenset[str]


def file_list(archive: CondaArchive, options: LayerOptions, *, mapped: bool) -> FileList:
    """Read ``paths.json`` (or ``files`` and ``has_prefix``), map and check every path."""
    document = archive.document("paths.json")
    planned = _from_old(archive) if document is None else _from_paths(document)
    names = {path.source for path in planned}
    kept: dict[str, PlannedPath] = {}
    dropped: set[str] = set()
    targets: dict[str, str] = {}
    for path in planned:
        if path.source in kept or path.source in dropped:
            raise ArchiveError(Reason.DUPLICATE, "is listed twice", entry=path.source)
        if is_shipped_bytecode(path.source, names):
            dropped.add(path.source)
            continue
        path.target = _target(path.source, options) if mapped else path.source
        if path.kind != "directory" and targets.setdefault(path.target, path.source) != path.source:
            raise ArchiveError(
                Reason.DUPLICATE, "two files of the package go there", entry=path.target
            )
        kept[path.source] = path
    directories = parents_of(targets)
    directories.update(p.target for p in kept.values() if p.kind == "directory")
    directories |= parents_of(directories)
    for target in sorted(directories & targets.keys()):
        raise ArchiveError(
            Reason.UNSAFE_LINK, "is a file or link and has files below it", entry=target
        )
    return FileList(kept, frozenset(dropped), frozenset(directories))


def is_shipped_bytecode(path: str, names: set[str]) -> bool:
    """Compiled by somebody else: in ``__pycache__``, or beside its source."""
    if not path.endswith((".pyc", ".pyo")):
        return False
    return "/__pycache__/" in "/" + path or path[:-1] in names


def _target(source: str, options: LayerOptions) -> str:
    folder, _, rest = source.partition("/")
    if folder == "site-packages":
        return f"{options.site_packages}/{rest}"
    if folder == "python-scripts":
        return f"bin/{rest}"
    return source


def _from_paths(document: Any) -> list[PlannedPath]:
    entry = "info/paths.json"
    if not isinstance(document, dict) or not isinstance(document.get("paths"), list):
        raise ArchiveError(Reason.METADATA, "has another shape", entry=entry)
    if document.get("paths_version", 1) != 1:
        raise ArchiveError(Reason.UNSUPPORTED, "is of a version we do not know", entry=entry)
    if len(document["paths"]) > MAX_ENTRIES:
        raise ArchiveError(Reason.LIMIT, f"lists more than {MAX_ENTRIES} paths", entry=entry)
    return [_path(item) for item in document["paths"]]


def _path(item: Any) -> PlannedPath:
    name = item.get("_path") if isinstance(item, dict) else None
    if not isinstance(name, str):
        raise ArchiveError(Reason.METADATA, "has a path without a name", entry="info/paths.json")
    source = _checked(name)
    kind = _TYPES.get(item.get("path_type", "hardlink"))
    sha256, size = item.get("sha256"), item.get("size_in_bytes")
    mode, placeholder = item.get("file_mode"), item.get("prefix_placeholder")
    good = (
        kind is not None
        and (sha256 is None or (isinstance(sha256, str) and _HEX.fullmatch(sha256)))
        and (size is None or (type(size) is int and size >= 0))
        and mode in (None, "text", "binary")
        and (placeholder is None or isinstance(placeholder, str))
    )
    if not good:
        raise ArchiveError(Reason.METADATA, "is described wrongly in info/paths.json", entry=name)
    return PlannedPath(
        source,
        source,
        kind,  # type: ignore[arg-type]
        sha256,
        size,
        _placeholder(placeholder or "", name) if mode else b"",
        text=mode != "binary",
        no_link=item.get("no_link") is True,
    )


def _placeholder(text: str, name: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if raw and (len(raw) < 2 or len(raw) > 4096 or b"\0" in raw):
        raise ArchiveError(Reason.METADATA, "has no usable placeholder", entry=name)
    return raw


def _from_old(archive: CondaArchive) -> list[PlannedPath]:
    """``info/files`` and ``info/has_prefix``, as conda-build wrote them before 2016."""
    planned = {}
    for line in _lines(archive, "files"):
        source = _checked(line)
        if source in planned:
            raise ArchiveError(Reason.DUPLICATE, "is listed twice", entry=line)
        planned[source] = PlannedPath(source, source, None)
        if len(planned) > MAX_ENTRIES:
            raise ArchiveError(Reason.LIMIT, f"lists more than {MAX_ENTRIES} paths")
    for line in _lines(archive, "has_prefix"):
        try:
            parts = [part.strip("\"'") for part in shlex.split(line, posix=False)]
        except ValueError:
            parts = []
        if len(parts) == 1:
            parts = [OLD_PLACEHOLDER, "text", parts[0]]
        if len(parts) != 3 or parts[1] not in ("text", "binary") or parts[2] not in planned:
            raise ArchiveError(Reason.METADATA, "has a line that says nothing", entry=line)
        path = planned[parts[2]]
        path.placeholder = _placeholder(parts[0], path.source)
        path.text = parts[1] == "text"
    return list(planned.values())


def _lines(archive: CondaArchive, name: str) -> list[str]:
    text = archive.info.get(name, b"").decode("utf-8", "surrogateescape")
    return [line.strip() for line in text.split("\n") if line.strip()]


def _checked(name: str) -> str:
    checked = check_name(name.encode("utf-8", "surrogateescape"))
    if checked == "info" or checked.startswith("info/"):
        raise ArchiveError(Reason.UNSAFE_NAME, "lies in the package's own metadata", entry=name)
    return checked
