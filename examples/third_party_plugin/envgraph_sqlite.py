"""``type: sqlite``: a registry in one SQLite file, for a laptop or a USB stick.

A complete plugin. SQLite does what is hard: a transaction is there whole or not at all,
and several processes may write. Blobs are kept once, in pieces, whoever has them.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from envgraph.api import (
    BlobSource,
    Descriptor,
    Digest,
    ManifestBytes,
    PluginContext,
    Registry,
    RegistryError,
    RegistryPlugin,
    check_repository,
    checked_manifest,
    hookimpl,
    read_reference,
)
from envgraph.errors import IntegrityError, NotFoundError

PIECE: Final = 1 << 20
SCHEMA: Final = """
create table if not exists pieces (
    digest text, number integer, data blob, primary key (digest, number)) without rowid;
create table if not exists blobs (
    repository text, digest text, primary key (repository, digest)) without rowid;
create table if not exists manifests (
    repository text, digest text, media_type text, data blob, subject text, artifact_type text,
    primary key (repository, digest));
create table if not exists tags (
    repository text, tag text, digest text, primary key (repository, tag)) without rowid;
"""


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """The keys beside ``type: sqlite``."""

    file: str
    """The database; relative to the workspace's folder. The first use makes it."""


@contextmanager
def open_sqlite(options: SqliteOptions, context: PluginContext) -> Iterator[Registry]:
    """The registry in a file."""
    yield SqliteRegistry(Path(context.root) / options.file)


@hookimpl
def envgraph_registries() -> Iterator[RegistryPlugin]:
    """Offer ``type: sqlite``. It opens no connection, so it works with ``--offline``."""
    yield RegistryPlugin(
        "sqlite", "one SQLite file", SqliteOptions, open_sqlite, connects=lambda options: False
    )


class SqliteRegistry:
    """Repositories in one file. Each call has a connection of its own, so threads are no matter."""

    def __init__(self, path: Path) -> None:
        self.title = str(path)
        self._path = path

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """A connection with one transaction; SQLite's errors as RegistryErrors."""
        try:
            with closing(sqlite3.connect(self._path, 60, check_same_thread=False)) as database:
                database.executescript(SCHEMA)
                with database:
                    yield database
        except sqlite3.Error as error:
            busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
            code = "registry-down" if busy else "registry-answer"
            raise RegistryError(f"{self.title}: {error}", code=code, retryable=busy) from error

    def repository(self, name: str) -> SqliteRepository:
        return SqliteRepository(self, check_repository(name))

    def list(self, prefix: str = "") -> Iterator[str]:
        with self.connect() as database:
            rows = database.execute("select distinct repository from blobs").fetchall()
        return iter(sorted(name for (name,) in rows if name.startswith(prefix)))


class SqliteRepository:
    """One repository. Nothing here tries twice, sleeps or makes threads: the host does."""

    def __init__(self, registry: SqliteRegistry, name: str) -> None:
        self.name = name
        self._registry = registry

    def resolve(self, reference: str) -> Descriptor | None:
        try:
            return self.get_manifest(reference).descriptor
        except NotFoundError:
            return None

    def get_manifest(self, reference: str) -> ManifestBytes:
        digest = read_reference(reference)
        with self._registry.connect() as database:
            if digest is None:
                row = database.execute(
                    "select digest from tags where repository = ? and tag = ?",
                    (self.name, reference),
                ).fetchone()
                digest = None if row is None else Digest(row[0])
            row = database.execute(
                "select media_type, data from manifests where repository = ? and digest = ?",
                (self.name, str(digest)),
            ).fetchone()
        if row is None or digest is None:
            raise NotFoundError(f"{self.name} has no manifest {reference}")
        if Digest.of(row[1]) != digest:
            raise IntegrityError(f"{self.name}: the manifest {digest} is damaged")
        return ManifestBytes(row[0], row[1], digest)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        digest, parts = checked_manifest(reference, data, media_type, f"{self.name}:{reference}")
        lost = sorted(self.missing(parts.blobs))
        lost += [part for part in parts.manifests if self.resolve(str(part)) is None]
        if lost:
            raise RegistryError(f"{self.name}: {reference} names {lost[0]}, which is not there")
        with self._registry.connect() as database:
            subject = None if parts.subject is None else str(parts.subject)
            database.execute(
                "insert or replace into manifests values (?, ?, ?, ?, ?, ?)",
                (self.name, str(digest), parts.media_type, data, subject, parts.artifact_type),
            )
            if read_reference(reference) is None:
                database.execute(
                    "insert or replace into tags values (?, ?, ?)",
                    (self.name, reference, str(digest)),
                )
        return digest

    def missing(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        with self._registry.connect() as database:
            rows = database.execute("select digest from blobs where repository = ?", (self.name,))
            there = {row[0] for row in rows}
        return frozenset(digest for digest in digests if str(digest) not in there)

    @contextmanager
    def open_blob(self, digest: Digest, size: int, offset: int = 0) -> Iterator[BinaryIO]:
        if self.missing([digest]):
            raise NotFoundError(f"{self.name} has no blob {digest}")
        with io.BufferedReader(_Pieces(self._registry, digest, offset)) as body:
            yield body

    def push_blob(self, descriptor: Descriptor, source: BlobSource) -> None:
        # First all of it, elsewhere: a slow source must not hold the database.
        with tempfile.TemporaryFile() as spool:
            seen, left = hashlib.sha256(), descriptor.size
            with source() as body:
                while left >= 0 and (piece := body.read(PIECE)):
                    left -= len(piece)
                    seen.update(piece)
                    spool.write(piece)
            if left != 0 or seen.hexdigest() != descriptor.digest.hex:
                raise IntegrityError(f"the bytes pushed are not {descriptor.digest}")
            spool.seek(0)
            pieces = enumerate(iter(lambda: spool.read(PIECE), b""))
            with self._registry.connect() as database:
                database.executemany(
                    "insert or replace into pieces values (?, ?, ?)",
                    ((str(descriptor.digest), number, data) for number, data in pieces),
                )
                self._have(database, descriptor.digest)

    def mount(self, digest: Digest, from_repository: str) -> bool:
        other = self._registry.repository(from_repository)
        if other.missing([digest]):
            return False
        with self._registry.connect() as database:
            self._have(database, digest)
        return True

    def tags(self) -> Iterator[str]:
        with self._registry.connect() as database:
            rows = database.execute("select tag from tags where repository = ?", (self.name,))
            return iter([row[0] for row in rows])

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        with self._registry.connect() as database:
            rows = database.execute(
                "select media_type, digest, length(data) from manifests"
                " where repository = ? and subject = ? and ? in ('', artifact_type)",
                (self.name, str(digest), artifact_type),
            ).fetchall()
        return tuple(Descriptor(media_type, Digest(text), size) for media_type, text, size in rows)

    def delete(self, reference: str) -> None:
        by_digest = read_reference(reference) is not None
        with self._registry.connect() as database:
            column = "digest" if by_digest else "tag"
            gone = database.execute(
                f"delete from tags where repository = ? and {column} = ?", (self.name, reference)
            ).rowcount
            if by_digest:
                gone = database.execute(
                    "delete from manifests where repository = ? and digest = ?",
                    (self.name, reference),
                ).rowcount
        if not gone:
            raise NotFoundError(f"{self.name} has no manifest {reference}")

    def _have(self, database: sqlite3.Connection, digest: Digest) -> None:
        row = (self.name, str(digest))
        database.execute("insert or replace into blobs values (?, ?)", row)


class _Pieces(io.RawIOBase):
    """The bytes of a blob from an offset on, a piece at a time."""

    def __init__(self, registry: SqliteRegistry, digest: Digest, offset: int) -> None:
        self._registry = registry
        self._digest = digest
        self._done = offset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        number, start = divmod(self._done, PIECE)
        with self._registry.connect() as database:
            row = database.execute(
                "select substr(data, ?, ?) from pieces where digest = ? and number = ?",
                (start + 1, len(buffer), str(self._digest), number),
            ).fetchone()
        if row is None:
            return 0
        buffer[: len(row[0])] = row[0]
        self._done += len(row[0])
        return len(row[0])
