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
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
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
from envgraph_dirs.folders import Folders, Place, told
from envgraph_store.naming import escape, unescape

LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
REF_NAME: Final = "org.opencontainers.image.ref.name"
RESERVED: Final = ("blobs", "index.json", "oci-layout")
_CHUNK: Final = 1 << 20
_SMALL: Final = 1 << 16
_INDEX_TRIES: Final = 16


class DirsRegistry:
    """A folder of repositories. Holds no descriptor and no file lock."""

    def __init__(self, root: Path) -> None:
        """Bind; nothing is read or made."""
        self.title: str = str(root)
        self._folders = Folders(root)
        self._ready: set[str] = set()

    def repository(self, name: str) -> DirsRepository:
        """The repository of that name."""
        return DirsRepository(self._folders, check_repository(name), self._ready)

    def list(self, prefix: str = "") -> Iterator[str]:
        """The folders that are layouts."""
        found: list[str] = []
        with told(self._folders.root), suppress(FileNotFoundError), self._folders.enter(()) as root:
            for path, inner, files, _ in os.fwalk(".", dir_fd=root):
                name = "/".join(part.removeprefix("_") for part in path.split("/")[1:])
                if "oci-layout" in files and name.startswith(prefix):
                    found.append(name)
                inner[:] = [
                    part
                    for part in inner
                    if (part[0] != "_" and part != "blobs") or part[1:] in RESERVED
                ]
        return iter(sorted(found))


class DirsRepository:
    """One repository: an OCI image layout with ``_tags`` and ``_manifests`` beside it."""

    def __init__(self, folders: Folders, name: str, ready: set[str]) -> None:
        """Bind; nothing is read or made. ``ready`` are the layouts that were looked at."""
        self.name = name
        self._folders = folders
        self._ready = ready
        self._top = tuple(f"_{part}" if part in RESERVED else part for part in name.split("/"))
        self._where = folders.root.joinpath(*self._top)
        self._blobs = (*self._top, "blobs", "sha256")
        self._tags = (*self._top, "_tags")
        self._manifests = (*self._top, "_manifests")

    def resolve(self, reference: str) -> Descriptor | None:
        """The manifest behind a tag or digest, as it was described when it was pushed."""
        digest = read_reference(reference)
        if digest is None:
            tag = self._document(self._tags, escape(reference))
            digest = None if tag is None else Digest(tag["digest"])
        side = None if digest is None else self._document(self._manifests, digest.hex)
        # Without its bytes a manifest is not there: so it is pushed again.
        return None if side is None or self.missing([_named(side).digest]) else _named(side)

    def get_manifest(self, reference: str) -> ManifestBytes:
        """The manifest's bytes, hashed and read once more."""
        found = self.resolve(reference)
        if found is None:
            raise NotFoundError(f"{self._where} has no manifest {reference}")
        data = self._folders.read(self._blobs, found.digest.hex, MANIFEST_LIMIT + 1)
        if data is None or Digest.of(data) != found.digest:
            raise IntegrityError(f"{self._where}: the manifest {found.digest} is damaged")
        read_manifest(data, found.media_type, f"{self._where}: {found.digest}")
        return ManifestBytes(found.media_type, data, found.digest)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Keep a manifest, when all that it names is there."""
        digest, parts = checked_manifest(reference, data, media_type, f"{self._where}:{reference}")
        lost = sorted(self.missing(parts.blobs))
        lost += [part for part in parts.manifests if self.resolve(str(part)) is None]
        if lost:
            raise RegistryError(f"{self._where}: {reference} names {lost[0]}, which is not there")
        self._prepare()
        # In this order: what names something is there, durably, after what it names.
        self._keep(self._blobs, digest.hex, data)
        if parts.subject is not None:
            self._keep(self._subject(parts.subject), digest.hex, b"")
        named = {"mediaType": parts.media_type, "digest": str(digest), "size": len(data)}
        side = named | {"artifactType": parts.artifact_type}
        self._keep(self._manifests, digest.hex, _json(side))
        if read_reference(reference) is None:
            tag = named | {"annotations": {REF_NAME: reference}}
            self._keep(self._tags, escape(reference), _json(tag))
            self._index()
        return digest

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """The blobs that are no files here; what is in them is not read."""
        asked = frozenset(digests)
        with told(self._where), suppress(FileNotFoundError), self._folders.enter(self._blobs) as at:
            return frozenset(digest for digest in asked if not _is_file(digest.hex, at))
        return asked

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob's file."""
        with self._open(digest) as body:
            os.lseek(body.fileno(), offset, os.SEEK_SET)
            yield body

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Keep a blob; one that is there already, damaged perhaps, is replaced."""
        self._prepare()
        with closing(_verified(descriptor, source)) as pieces:
            self._folders.write(self._blobs, descriptor.digest.hex, pieces, self._stage)

    def mount(self, digest: Digest, from_repository: str) -> bool:
        """Link the file of another repository, or copy it where links cannot be."""
        other = DirsRepository(self._folders, check_repository(from_repository), self._ready)
        if other.missing([digest]):
            return False
        self._prepare()
        if self._linked(other, digest):
            return True
        try:
            with other._open(digest) as body:
                size = os.fstat(body.fileno()).st_size
                self.push_blob(Descriptor("", digest, size), lambda: body)
        except (IntegrityError, NotFoundError):
            return False  # damaged there: the host pushes a good one
        return True

    def tags(self) -> Iterator[str]:
        """All tags, by the names of their files; a long one's name is in its file."""
        for file in sorted(self._folders.names(self._tags)):
            tag = unescape(file)
            if tag is None:
                document = self._document(self._tags, file)
                tag = None if document is None else str(document["annotations"][REF_NAME])
            if tag is not None:
                yield tag

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """By an index of subjects, which is written with each manifest."""
        names = self._folders.names(self._subject(digest))
        sides = [self._document(self._manifests, name) for name in sorted(names)]
        return tuple(
            _named(side)
            for side in sides
            if side is not None and artifact_type in ("", side["artifactType"])
        )

    def delete(self, reference: str) -> None:
        """Remove a tag, or a manifest with its tags. Blobs stay: others may need them."""
        digest = read_reference(reference)
        if digest is None:
            gone = self._folders.remove(self._tags, escape(reference))
        else:
            for file, tag in self._all_tags().items():
                if tag["digest"] == reference:
                    self._folders.remove(self._tags, file)
            gone = self._folders.remove(self._manifests, digest.hex)
        if not gone:
            raise NotFoundError(f"{self._where} has no manifest {reference}")
        self._index()

    @property
    def _stage(self) -> Place:
        return (*self._top, "_new")

    def _subject(self, digest: Digest) -> Place:
        return (*self._top, "_referrers", digest.hex)

    def _prepare(self) -> None:
        """Make the layout; refuse one that another tool made, whose tags are not ours."""
        if self.name in self._ready:
            return
        layout = self._folders.read(self._top, "oci-layout", _SMALL)
        if layout is not None and (
            layout != LAYOUT or "_tags" not in self._folders.names(self._top)
        ):
            raise RegistryError(
                f"{self._where} is an OCI layout of another tool or version",
                code="registry-options",
                hint="move it away; `skopeo copy` can read it from there",
            )
        with told(self._where):
            for place in (self._tags, self._manifests, self._blobs, self._stage):
                with self._folders.enter(place, make=True):
                    pass
        self._folders.sweep(self._stage)
        if layout is None:
            self._index()
            self._keep(self._top, "oci-layout", LAYOUT)
        self._ready.add(self.name)

    def _keep(self, place: Place, name: str, data: bytes) -> None:
        """Make a small file durably what it should be, whatever it is."""
        if self._folders.read(place, name, len(data) + 1) != data:
            self._folders.write(place, name, [data], self._stage)
        self._folders.sync(place)

    def _index(self) -> None:
        """Write ``index.json`` anew, until it is what the tags are.

        Of two writers the slower may put an older list over a newer one. Each looks at the
        tags again after its rename, so the last one to rename leaves the right list; if it
        is killed between the two, the next change of a tag writes the list again.
        """
        for _ in range(_INDEX_TRIES):
            tags = self._all_tags()
            index = {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": list(tags.values()),
            }
            self._folders.write(self._top, "index.json", [_json(index)], self._stage)
            if self._all_tags() == tags:
                return

    def _all_tags(self) -> dict[str, dict[str, Any]]:
        """Every tag's document, by the name of its file; damaged ones are left out."""
        found: dict[str, dict[str, Any]] = {}
        for file in sorted(self._folders.names(self._tags)):
            with suppress(RegistryError):
                document = self._document(self._tags, file)
                if document is not None:
                    found[file] = document
        return found

    def _document(self, place: Place, name: str) -> dict[str, Any] | None:
        """A small file of ours; None when it is not there, RegistryError when it is damaged."""
        data = self._folders.read(place, name, _SMALL)
        if data is None:
            return None
        try:
            found: dict[str, Any] = json.loads(data)
            _named(found)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RegistryError(
                f"{self._folders.root.joinpath(*place, name)} is damaged",
                hint="remove the file, and push again what it named",
            ) from None
        return found

    def _open(self, digest: Digest) -> BinaryIO:
        with told(self._where):
            try:
                fd = self._folders.open(self._blobs, digest.hex)
            except FileNotFoundError:
                raise NotFoundError(f"{self._where} has no blob {digest}") from None
        return io.BufferedReader(_Body(fd, self._where), _CHUNK)

    def _linked(self, other: DirsRepository, digest: Digest) -> bool:
        with (
            told(self._where),
            self._folders.enter(other._blobs) as theirs,
            self._folders.enter(self._blobs) as ours,
        ):
            try:
                os.link(
                    digest.hex, digest.hex,
                    src_dir_fd=theirs, dst_dir_fd=ours, follow_symlinks=False,
                )  # fmt: skip
            except FileExistsError:
                pass
            except OSError:  # another owner, too many links, a file system without them
                return False
        return True


class _Body(io.RawIOBase):
    """A file whose errors are RegistryErrors: the reader's own OSErrors are another matter."""

    def __init__(self, fd: int, where: Path) -> None:
        self._fd = fd
        self._where = where

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: Any) -> int:
        with told(self._where):
            return os.readv(self._fd, [buffer])

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def _verified(descriptor: Descriptor, source: BlobSource) -> Generator[bytes, None, None]:
    """The pieces of a blob; IntegrityError at the end, or once it is too long."""
    left, seen = descriptor.size, hashlib.sha256()
    with source() as body:
        while left >= 0 and (piece := body.read(_CHUNK)):
            left -= len(piece)
            seen.update(piece)
            yield piece
    if left != 0 or seen.hexdigest() != descriptor.digest.hex:
        raise IntegrityError(f"the bytes pushed are not {descriptor.digest}")


def _is_file(name: str, folder: int) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _named(document: dict[str, Any]) -> Descriptor:
    return Descriptor(str(document["mediaType"]), Digest(document["digest"]), int(document["size"]))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
