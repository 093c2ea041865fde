"""``locks/<name>.conda-lock.yml``: conda-lock's v1 format, written and read.

Any reader of conda-lock v1 can use the file. What v1 has no place for lies in
``metadata.custom_metadata``, one string per key so that a changed package
changes its own lines only::

    envgraph.format                   "1"
    envgraph.content                  sha256 of everything else: tells hand edits
    envgraph.lock/PLATFORM            JSON: definition, pin key, base, steps, created, solver
    envgraph.package/PLATFORM/MANAGER/NAME    JSON: what v1 lacks of this package

The file holds no secret: addresses carry references (``${NAME}``) or nothing.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from envgraph.conda import credentials
from envgraph.errors import Diagnostic, InputError, SourceLocation
from envgraph.lock.lockread import read_document
from envgraph.model.canonical import digest_of
from envgraph.model.documents import base_document, built_document, package_document
from envgraph.model.locked import LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest
from envgraph_store.files import Disk

FORMAT: Final = "1"
LARGEST_LOCKFILE: Final = 64 * 1024 * 1024
_WIDTH: Final = 1_000_000_000
_HEADER: Final = """\
# Written by envgraph in conda-lock's format (https://conda.github.io/conda-lock).
# Do not edit: change the environment file, or use `envgraph lock --update PACKAGE`.
"""
_FEW: Final = 8
"""Files that are synced one by one: waiting for a whole file system would cost more."""

_IN_V1: Final = ("manager", "name", "version", "build", "sha256", "url")


@dataclass(frozen=True, slots=True)
class LockfileContent:
    """What a lockfile holds. ``edited``: not as envgraph wrote it."""

    locks: Mapping[str, LockedEnvironment]
    edited: bool = False
    diagnostics: tuple[Diagnostic, ...] = ()


def lockfile_text(locks: Sequence[LockedEnvironment], sources: Sequence[str] = ()) -> str:
    """The file's text for these platforms: equal locks give equal text."""
    ordered = sorted(locks, key=lambda lock: lock.platform)
    if len({lock.platform for lock in ordered}) != len(ordered):
        raise InputError("two locks of one platform cannot share a file", code="lock-platform")
    custom = {"envgraph.format": FORMAT}
    for lock in ordered:
        custom[f"envgraph.lock/{lock.platform}"] = _json(
            {
                "definition": str(lock.definition),
                "pin_key": str(lock.pin_key),
                "base": base_document(lock.base),
                "steps": list(lock.steps),
                "created": lock.created,
                "solver": dict(lock.solver),
                **built_document(lock),
            }
        )
        for package in lock.packages:
            key = f"envgraph.package/{lock.platform}/{package.manager}/{package.name}"
            custom[key] = _json(_extra(package))
    document = _document(ordered, sources, custom)
    custom["envgraph.content"] = str(content_digest(document))
    document["metadata"]["custom_metadata"] = dict(sorted(custom.items()))
    return _HEADER + _dump(document)


def _document(
    locks: Sequence[LockedEnvironment], sources: Sequence[str], custom: Mapping[str, str]
) -> dict[str, Any]:
    """The v1 document.

    One without packages is written out here: the models cost more to import than all else
    that such an environment needs, and give the same.
    """
    if any(lock.packages for lock in locks):
        from envgraph.lock.condalock import build_document

        return build_document(locks, _channels(locks), sources, custom)
    created = max((lock.created for lock in locks), default="")
    metadata: dict[str, Any] = {
        "content_hash": {lock.platform: lock.pin_key.hex for lock in locks},
        "channels": [],
        "platforms": [lock.platform for lock in locks],
        "sources": list(sources),
    }
    if created:
        metadata["time_metadata"] = {"created_at": created}
    metadata["custom_metadata"] = dict(custom)
    return {"version": 1, "metadata": metadata, "package": []}


def _extra(package: LockedPackage) -> dict[str, Any]:
    document = package_document(package)
    for name in _IN_V1:
        document.pop(name, None)
    if package.manager == "conda":
        document.pop("md5", None)
    return document


def content_digest(document: Mapping[str, Any]) -> object:
    """The digest over everything but itself, the time note and the source paths."""
    metadata = dict(document["metadata"])
    metadata.pop("time_metadata", None)
    metadata.pop("sources", None)
    custom = dict(metadata.get("custom_metadata") or {})
    custom.pop("envgraph.content", None)
    metadata["custom_metadata"] = custom
    return digest_of("lockfile/1", {**document, "metadata": metadata})


def _channels(locks: Sequence[LockedEnvironment]) -> list[str]:
    """Where the packages came from, in order of first use, as conda reads it."""
    found: dict[str, None] = {}
    for lock in locks:
        for package in lock.packages:
            if package.manager == "conda" and package.url:
                tail = f"/{package.subdir}/{package.file_name}"
                found.setdefault(package.url.removesuffix(tail), None)
    return list(found)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(", ", ": "))


def _dump(document: Mapping[str, Any]) -> str:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(
        dict(document), Dumper=dumper, sort_keys=False, allow_unicode=True, width=_WIDTH
    )
    return text


@dataclass(frozen=True, slots=True)
class NewLockfile:
    """A lockfile to write. ``sources`` are paths of the files that were locked, for people.

    Relative ones keep the file the same on every machine.
    """

    path: Path
    locks: Sequence[LockedEnvironment]
    sources: Sequence[str] = ()


def write_lockfile(
    path: Path, locks: Sequence[LockedEnvironment], *, sources: Sequence[str] = ()
) -> None:
    """Write or replace one lockfile, as :func:`write_lockfiles` does."""
    write_lockfiles([NewLockfile(path, locks, sources)])


def write_lockfiles(files: Iterable[NewLockfile]) -> list[Digest]:
    """Write or replace lockfiles: of each the old one or the new one is there, never half.

    The digests of their bytes. Many files are made durable together. Raises InputError
    that names the first one that cannot be written; none of them is replaced then, unless
    it failed at that.
    """
    staged: list[_Staged] = []
    done = 0
    path = Path()
    watched: dict[Path, int] = {}
    try:
        for file in files:
            path = file.path
            text = lockfile_text(file.locks, file.sources)
            staged.append(_stage(path, text.encode("utf-8"), watched))
        _sync(staged, watched)
        for item in staged:
            path = item.target
            Path(item.temporary).chmod(_mode(item.target))
            Path(item.temporary).replace(item.target)
            done += 1
        for handle in watched.values():
            os.fsync(handle)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written", code="lock-write", detail=error.strerror or str(error)
        ) from None
    finally:
        for item in staged[done:]:
            Path(item.temporary).unlink(missing_ok=True)
        for handle in watched.values():
            os.close(handle)
    return [item.digest for item in staged]


@dataclass(frozen=True, slots=True)
class _Staged:
    """A lockfile's bytes beside the place where they will be; ``target`` is no link."""

    target: Path
    temporary: str
    digest: Digest


def _stage(path: Path, data: bytes, watched: dict[Path, int]) -> _Staged:
    """Write the bytes beside their place; ``watched`` keeps its folder open from before that.

    The kernel reports failures of a later sync since then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.resolve() if path.is_symlink() else path
    if target.parent not in watched:
        watched[target.parent] = os.open(target.parent, os.O_RDONLY)
    handle, temporary = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp"
    )
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return _Staged(target, temporary, Digest.of(data))


def _sync(staged: Sequence[_Staged], watched: Mapping[Path, int]) -> None:
    """Make what was staged durable: file by file, or many of one folder in one go."""
    if len(staged) > _FEW and len(watched) == 1:
        disk = Disk()
        if all(disk.sync_everything(handle) for handle in watched.values()):
            return
    for item in staged:
        handle = os.open(item.temporary, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _mode(target: Path) -> int:
    try:
        return target.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0o022)
        os.umask(mask)
        return 0o666 & ~mask


def read_lockfile(path: Path) -> LockfileContent:
    """Read a lockfile strictly. Raises InputError with every problem, lines included.

    A lock of conda-lock's own making, or one that was edited by hand so that its
    own digest no longer fits, has ``edited`` set; a platform without envgraph's
    metadata is left out of ``locks``, and a diagnostic says so.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_LOCKFILE:
            raise InputError(f"{path} is too large for a lockfile ({size} bytes)", code="lock-size")
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(
            f"{path} cannot be read", code="lock-unreadable", detail=error.strerror or str(error)
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8",
            code="lock-unreadable",
            detail=str(error),
            source=SourceLocation(str(path)),
        ) from None
    document, locks, diagnostics = read_document(text, str(path))
    recorded = (document["metadata"].get("custom_metadata") or {}).get("envgraph.content")
    edited = recorded != str(content_digest(document))
    if edited:
        from envgraph.lock.condalock import check_document
        from envgraph.lock.lockread import place_of

        wrong = [
            Diagnostic(
                "lock-format",
                ".".join(str(part) for part in where) + ": " + credentials.mask(message),
                source=place_of(text, str(path), where),
            )
            for where, message in check_document(document)
        ]
        if wrong:
            raise InputError(wrong)
    return LockfileContent(locks, edited, tuple(diagnostics))
