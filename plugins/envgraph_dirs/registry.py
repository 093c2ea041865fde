"""Repositories as OCI image layouts, each in its folder; the picture is in ``README.md``.

Tags and manifests are small files of their own, and those are the truth. ``index.json`` is
written after them, for other tools; nothing here reads it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from envgraph.api import (
    MANIFEST_LIMIT,
    BlobSource,
    Descriptor,
    Digest,
    ManifestBytes,
    RegistryError,
    check_repository,
    checked_manifest,
    read_manifest,
    read_reference,
)
from envgraph.errors import IntegrityError, NotFoundError
from envgraph_dirs.folders import STAGE, Folders, told
from envgraph_store.naming import escape

BLOBS: Final = ("blobs", "sha256")
TAGS: Final = ("_tags",)
MANIFESTS: Final = ("_manifests",)
REFERRERS: Final = "_referrers"
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME: Final = "org.opencontainers.image.ref.name"
_RESERVED: Final = ("blobs", "index.json", "oci-layout")
_CHUNK: Final = 1 << 20
_SMALL: Final = 1 << 16
_INDEX_TRIES: Final = 16


class DirsRegistry:
    """A folder of repositories. Holds no descriptor and no file lock."""

    def __init__(self, root: Path) -> None:
        """Bind; nothing is read or made."""
        self.title = str(root)
        self.folders = Folders(root)

    def repository(self, name: str) -> DirsRepository:
        """The repository of that name."""
        return DirsRepository(self.folders, check_repository(name))

    def list(self, prefix: str = "") -> Iterator[str]:
        """The folders that are layouts."""
        found = []
        with told(self.folders.root), suppress(FileNotFoundError), self.folders.enter() as root:
            for path, inner, files, _ in os.fwalk(".", dir_fd=root):
                name = "/".join(part.removeprefix("_") for part in path.split("/")[1:])
                if "oci-layout" in files and name.startswith(prefix):
                    found.append(name)
                inner[:] = [
                    part
                    for part in inner
                    if (part[0] != "_" and part != "blobs") or part[1:] in _RESERVED
                ]
        return iter(sorted(found))


class DirsRepository:
    """One repository: an OCI image layout with ``_tags`` and ``_manifests`` beside it."""

    def __init__(self, folders: Folders, name: str) -> None:
        """Bind; nothing is read or made."""
        self.name = name
        self._folders = folders
        self._parts = _parts(name)
        self._where = folders.root.joinpath(*self._parts)

    def resolve(self, reference: str) -> Descriptor | None:
        """The manifest behind a tag or digest, as it was described when it was pushed."""
        digest = read_reference(reference) or self._tagged(escape(reference))
        return None if digest is None else self._described(digest)

    def get_manifest(self, reference: str) -> ManifestBytes:
        """The manifest's bytes, hashed and read once more."""
        found = self.resolve(reference)
        if found is None:
            raise NotFoundError(f"{self._where} has no manifest {reference}")
        data = self._read(BLOBS, found.digest.hex, MANIFEST_LIMIT + 1)
        if data is None or Digest.of(data) != found.digest:
            raise IntegrityError(f"{self._where}: the manifest {found.digest} is damaged")
        read_manifest(data, found.media_type, f"{self._where}: {found.digest}")
        return ManifestBytes(found.media_type, data, found.digest)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Keep a manifest, when all that it names is there."""
        digest, parts = checked_manifest(reference, data, media_type, f"{self._where}:{reference}")
        lost = sorted(self.missing(parts.blobs))
        lost += [part for part in parts.manifests if self._described(part) is None]
        if lost:
            raise RegistryError(f"{self._where}: {reference} names {lost[0]}, which is not there")
        # In this order: what is durable later needs what is durable before.
        described = {"mediaType": parts.media_type, "digest": str(digest), "size": len(data)}
        self._write(BLOBS, digest.hex, [data])
        if parts.subject is not None:
            self._write((REFERRERS, parts.subject.hex), digest.hex, [])
        side = described | {"artifactType": parts.artifact_type}
        self._write(MANIFESTS, digest.hex, [_json(side)])
        if read_reference(reference) is None:
            name = {"annotations": {REF_NAME: reference}}
            self._write(TAGS, escape(reference), [_json(described | name)])
            self._index()
        return digest

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """The blobs that are no files here; what is in them is not read."""
        asked = frozenset(digests)
        with told(self._where):
            try:
                with self._enter(*BLOBS) as blobs:
                    return frozenset(digest for digest in asked if not _is_file(digest.hex, blobs))
            except FileNotFoundError:
                return asked

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob's file."""
        with told(self._where):
            try:
                with self._enter(*BLOBS) as blobs:
                    fd = self._folders.open(blobs, digest.hex)
            except FileNotFoundError:
                raise NotFoundError(f"{self._where} has no blob {digest}") from None
            os.lseek(fd, offset, os.SEEK_SET)
        with io.BufferedReader(_Body(fd, self._where), _CHUNK) as body:
            yield body

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Keep a blob; one that is there already, damaged perhaps, is replaced."""

        def verified() -> Iterator[bytes]:
            left, seen = descriptor.size, hashlib.sha256()
            with source() as body:
                while piece := body.read(_CHUNK):
                    left -= len(piece)
                    if left < 0:
                        break
                    seen.update(piece)
                    yield piece
            if left != 0 or seen.hexdigest() != descriptor.digest.hex:
                raise IntegrityError(f"the bytes pushed are not {descriptor.digest}")

        self._write(BLOBS, descriptor.digest.hex, verified(), durable=False)

    def mount(self, digest: Digest, from_repository: str) -> bool:
        """Link the file of another repository, or copy it where links cannot be."""
        other = DirsRepository(self._folders, check_repository(from_repository))
        if digest in other.missing([digest]):
            return False
        with told(self._where):
            self._prepare()
            with other._enter(*BLOBS) as theirs, self._enter(*BLOBS) as ours:
                try:
                    os.link(
                        digest.hex, digest.hex,
                        src_dir_fd=theirs, dst_dir_fd=ours, follow_symlinks=False,
                    )  # fmt: skip
                    return True
                except FileExistsError:
                    return True
                except OSError:  # another owner, too many links, a file system without them
                    size = os.stat(digest.hex, dir_fd=theirs).st_size
        with other.open_blob(digest, size) as body:
            try:
                self.push_blob(Descriptor("", digest, size), lambda: body)
            except IntegrityError:
                return False  # damaged there: the host pushes a good one
        return True

    def tags(self) -> Iterator[str]:
        """All tags."""
        return iter([str(tag["annotations"][REF_NAME]) for tag in self._tag_files().values()])

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """From an index of subjects, written with each manifest."""
        found = []
        for name in self._names(REFERRERS, digest.hex):
            side = self._read_json(MANIFESTS, name)
            if side is not None and artifact_type in ("", side["artifactType"]):
                found.append(_descriptor(side))
        return tuple(found)

    def delete(self, reference: str) -> None:
        """Remove a tag, or a manifest with its tags. Blobs stay: who needs them is not known."""
        digest = read_reference(reference)
        if digest is None:
            self._remove(TAGS, escape(reference), reference)
        else:
            if self._described(digest) is None:
                raise NotFoundError(f"{self._where} has no manifest {reference}")
            for file, tag in self._tag_files().items():
                if tag["digest"] == reference:
                    self._remove(TAGS, file, reference)
            self._remove(MANIFESTS, digest.hex, reference)
        self._index()

    def _tagged(self, file: str) -> Digest | None:
        tag = self._read_json(TAGS, file)
        return None if tag is None else Digest(tag["digest"])

    def _described(self, digest: Digest) -> Descriptor | None:
        """A manifest by its side file; None too when its bytes are gone, so that it is pushed."""
        side = self._read_json(MANIFESTS, digest.hex)
        return None if side is None or self.missing([digest]) else _descriptor(side)

    def _tag_files(self) -> dict[str, dict[str, Any]]:
        """Every tag's file, by its name in the folder."""
        found = {file: self._read_json(TAGS, file) for file in sorted(self._names(*TAGS))}
        return {file: tag for file, tag in found.items() if tag is not None}

    def _index(self) -> None:
        """Write ``index.json`` anew, until it is what the tags are.

        Of two writers the slower may put an older list over a newer one. Each looks at the
        tags again after its rename, so the last one to rename leaves the right list; if it
        is killed between the two, the next change of a tag writes the list again.
        """
        for _ in range(_INDEX_TRIES):
            tags = self._tag_files()
            index = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": list(tags.values()),
            }
            self._put((), "index.json", [_json(index)])
            if self._tag_files() == tags:
                return

    def _enter(self, *place: str, make: bool = False) -> Any:
        return self._folders.enter(*self._parts, *place, make=make)

    def _names(self, *place: str) -> list[str]:
        with told(self._where), suppress(FileNotFoundError), self._enter(*place) as folder:
            return [name for name in os.listdir(folder) if name[0] != "_"]  # noqa: PTH208
        return []

    def _read(self, place: tuple[str, ...], name: str, limit: int) -> bytes | None:
        with told(self._where), suppress(FileNotFoundError), self._enter(*place) as folder:
            return self._folders.read(folder, name, limit)
        return None

    def _read_json(self, place: tuple[str, ...], name: str) -> dict[str, Any] | None:
        """A small file of ours; RegistryError when it is damaged."""
        data = self._read(place, name, _SMALL)
        if data is None:
            return None
        try:
            found: dict[str, Any] = json.loads(data)
            _descriptor(found)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RegistryError(
                f"{self._where.joinpath(*place, name)} is damaged",
                hint="remove the file, and push again what it named",
            ) from None
        return found

    def _prepare(self) -> None:
        """Make the layout; refuse one that another tool made, whose tags are not ours."""
        if self.name in self._folders.ready:
            return
        with told(self._where):
            with self._enter(make=True) as folder:
                layout, foreign = self._layout(folder)
            if foreign:
                raise RegistryError(
                    f"{self._where} is an OCI layout of another tool or version",
                    code="registry-options",
                    hint="move it away; `skopeo copy` can read it from there",
                )
            for place in (BLOBS, TAGS, MANIFESTS):
                with self._enter(*place, make=True):
                    pass
            with self._enter(STAGE, make=True) as stage:
                self._folders.sweep(stage)
        if not layout:
            self._index()
            self._put((), "oci-layout", [LAYOUT])
        self._folders.ready.add(self.name)

    def _layout(self, folder: int) -> tuple[bytes, bool]:
        """``oci-layout``, empty when it is not there, and whether it is another tool's."""
        try:
            layout = self._folders.read(folder, "oci-layout", _SMALL)
        except FileNotFoundError:
            return b"", False
        return layout, layout != LAYOUT or TAGS[0] not in os.listdir(folder)

    def _write(
        self, place: tuple[str, ...], name: str, pieces: Iterable[bytes], durable: bool = True
    ) -> None:
        self._prepare()
        self._put(place, name, pieces, durable)

    def _put(
        self, place: tuple[str, ...], name: str, pieces: Iterable[bytes], durable: bool = True
    ) -> None:
        with ExitStack() as stack:
            with told(self._where):
                stage = stack.enter_context(self._enter(STAGE, make=True))
                folder = stack.enter_context(self._enter(*place, make=True))
            self._folders.write(stage, folder, name, pieces)
            if durable:
                with told(self._where):
                    os.fsync(folder)

    def _remove(self, place: tuple[str, ...], name: str, reference: str) -> None:
        with told(self._where):
            try:
                with self._enter(*place) as folder:
                    os.unlink(name, dir_fd=folder)
                    os.fsync(folder)
            except FileNotFoundError:
                raise NotFoundError(f"{self._where} has no manifest {reference}") from None


class _Body(io.RawIOBase):
    """A file whose errors are RegistryErrors: the reader's own OSErrors are another matter."""

    def __init__(self, fd: int, where: Path) -> None:
        self._fd = fd
        self._where = where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with told(self._where):
            return os.readv(self._fd, [buffer])

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def _parts(name: str) -> tuple[str, ...]:
    """The folders of a repository: a part that a layout uses itself gets a ``_`` before it."""
    return tuple(f"_{part}" if part in _RESERVED else part for part in name.split("/"))


def _is_file(name: str, folder: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _descriptor(document: dict[str, Any]) -> Descriptor:
    return Descriptor(str(document["mediaType"]), Digest(document["digest"]), int(document["size"]))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
