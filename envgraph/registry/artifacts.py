"""Records and pins as OCI artifacts: values to bytes and back, everything verified. Pure.

An artifact is an image manifest with an ``artifactType``. What it says is in its
blobs, each of which is a document that the store keeps under the same digest:

- **environment**: a version record, the locks of its platforms, its definition and
  runtime, and the config and manifest of each base. Its config says how the image was
  assembled: all that is needed to compute the image's keys again, and with the layers
  the image itself. Where a builder made a part of it, what each step became, too
  (:mod:`envgraph.interchange.chain`).
- **pin**: one lock record.
- **owner**: nothing but its config, which says whose registry it is.

Readers take bytes that may be hostile, and give values or IntegrityError (code
``registry-record``): digests, schemas, identities and sizes are all checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from envgraph.api.registry import Repository
from envgraph.errors import EnvgraphError, IntegrityError
from envgraph.model.documents import LOCK_SCHEMA, lock_from_document
from envgraph.model.identity import DEFINITION_SCHEMA, RUNTIME_SCHEMA, image_name, lock_identity
from envgraph.model.locked import LockedEnvironment
from envgraph.model.names import name_problem, version_problem
from envgraph.model.oci import (
    OCI_IMAGE_MANIFEST,
    Descriptor,
    document_bytes,
    read_object,
)
from envgraph.model.records import VersionRecord
from envgraph_store.digest import Digest

ENVIRONMENT_TYPE: Final = "application/vnd.envgraph.environment.v1"
PIN_TYPE: Final = "application/vnd.envgraph.pin.v1"
OWNER_TYPE: Final = "application/vnd.envgraph.owner.v1"

ASSEMBLY: Final = "application/vnd.envgraph.assembly.v1+json"
OWNER: Final = "application/vnd.envgraph.owner.v1+json"
VERSION: Final = "application/vnd.envgraph.version.v1+json"
LOCK: Final = "application/vnd.envgraph.lock.v1+json"
DEFINITION: Final = "application/vnd.envgraph.definition.v1+json"
RUNTIME: Final = "application/vnd.envgraph.runtime.v1+json"
BASE: Final = "application/vnd.envgraph.base.v1+json"
STEPS: Final = "application/vnd.envgraph.steps.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
EMPTY_BYTES: Final = b"{}"

MOST_BYTES: Final = 64 << 20
"""Of one document; the lock of 3,000 packages takes about 2 MB."""

MOST_DOCUMENTS: Final = 200


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest, and the bytes of the blobs that it names."""

    manifest: bytes
    blobs: Mapping[Digest, bytes]

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return Digest.of(self.manifest)


@dataclass(frozen=True, slots=True)
class Contents:
    """What an artifact's manifest names: to be fetched, then read."""

    kind: str
    config: Descriptor
    parts: tuple[Descriptor, ...]

    @property
    def all(self) -> tuple[Descriptor, ...]:
        """Config and parts."""
        return (self.config, *self.parts)


@dataclass(frozen=True, slots=True)
class Assembly:
    """How an image was put together, apart from what lock and runtime say."""

    compression: Literal["zstd", "gzip"]
    max_layers: int
    level: int
    version: str
    """Of the compressor's library."""

    bytecode: tuple[str, ...]
    """Platforms for which Python's bytecode was compiled, sorted."""


@dataclass(frozen=True, slots=True)
class EnvironmentRecord:
    """One version of an environment with every document that it stands on."""

    record: VersionRecord
    locks: Mapping[str, LockedEnvironment]
    lock_bytes: Mapping[str, bytes]
    definition: bytes
    runtime: bytes
    assembly: Assembly
    bases: Mapping[Digest, bytes] = field(default_factory=dict)
    """Configs and manifests of bases."""

    steps: Mapping[str, bytes] = field(default_factory=dict)
    """By platform what a builder made of its steps, as it was written: nobody has read it."""

    @property
    def runtime_document(self) -> dict[str, Any]:
        """The runtime as a value."""
        document: dict[str, Any] = json.loads(self.runtime)[1]
        return document

    @property
    def documents(self) -> tuple[bytes, ...]:
        """All that a store keeps of it."""
        return (*self.lock_bytes.values(), self.definition, self.runtime, *self.bases.values())


def environment_artifact(item: EnvironmentRecord) -> Artifact:
    """The artifact of a version; equal versions give equal bytes."""
    assembly = item.assembly
    config = document_bytes(
        {
            "bytecode": list(assembly.bytecode),
            "compression": assembly.compression,
            "level": assembly.level,
            "max_layers": assembly.max_layers,
            "version": assembly.version,
        }
    )
    parts = [
        (VERSION, item.record.to_bytes()),
        (DEFINITION, item.definition),
        (RUNTIME, item.runtime),
        *((LOCK, item.lock_bytes[platform]) for platform in sorted(item.lock_bytes)),
        *((BASE, item.bases[digest]) for digest in sorted(item.bases)),
        *((STEPS, item.steps[platform]) for platform in sorted(item.steps)),
    ]
    return make_artifact(ENVIRONMENT_TYPE, (ASSEMBLY, config), parts)


def pin_artifact(lock_record: bytes) -> Artifact:
    """The artifact of one lock."""
    return make_artifact(PIN_TYPE, (EMPTY, EMPTY_BYTES), [(LOCK, lock_record)])


def owner_artifact(workspace_id: str, name: str) -> Artifact:
    """The artifact that says whose registry it is."""
    config = document_bytes({"id": workspace_id, "workspace": name})
    return make_artifact(OWNER_TYPE, (OWNER, config), [(EMPTY, EMPTY_BYTES)])


def make_artifact(kind: str, config: tuple[str, bytes], parts: list[tuple[str, bytes]]) -> Artifact:
    """An artifact of that type: media types and bytes of its config and its parts."""
    described = [Descriptor(media, Digest.of(data), len(data)) for media, data in parts]
    manifest = document_bytes(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE_MANIFEST,
            "artifactType": kind,
            "config": Descriptor(config[0], Digest.of(config[1]), len(config[1])).to_json(),
            "layers": [item.to_json() for item in described],
        }
    )
    return Artifact(manifest, {Digest.of(data): data for _, data in [config, *parts]})


def fetch_parts(repository: Repository, contents: Contents) -> dict[Digest, bytes]:
    """The documents of an artifact; what is read is bounded, the reader verifies it."""
    blobs: dict[Digest, bytes] = {}
    for part in contents.all:
        if part.digest not in blobs:
            with repository.open_blob(part.digest, part.size) as body:
                blobs[part.digest] = body.read(part.size + 1)
    return blobs


# -- reading -------------------------------------------------------------------------


def read_contents(manifest: bytes, kind: str, what: str) -> Contents:
    """What an artifact of that type names."""
    document = read_object(manifest, what)
    if document.get("artifactType") != kind:
        raise _wrong(what, f"it is no {kind}")
    layers = document.get("layers")
    if not isinstance(layers, list) or len(layers) > MOST_DOCUMENTS:
        raise _wrong(what, "its parts are not a list, or are too many")
    config, *parts = (descriptor_of(item, what) for item in [document.get("config"), *layers])
    return Contents(kind, config, tuple(parts))


def descriptor_of(item: object, what: str) -> Descriptor:
    """A part as a manifest describes it, of a size that is read into memory."""
    try:
        if not isinstance(item, dict):
            raise TypeError("no object")
        media, size = item["mediaType"], item["size"]
        if type(media) is not str or type(size) is not int or not 0 <= size <= MOST_BYTES:
            raise ValueError("its type or size is not one")
        return Descriptor(media, Digest(item["digest"]), size)
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(what, f"a part is not described as it has to be ({error})") from error


def read_environment(
    contents: Contents, blobs: Mapping[Digest, bytes], what: str
) -> EnvironmentRecord:
    """The version behind an artifact, with every identity in it computed again."""
    by_type: dict[str, list[bytes]] = {}
    for part in contents.parts:
        by_type.setdefault(part.media_type, []).append(_bytes(part, blobs, what))
    record = _one_record(by_type.get(VERSION, []), what)
    definition = _one(by_type.get(DEFINITION, []), DEFINITION_SCHEMA, what)
    runtime = _one(by_type.get(RUNTIME, []), RUNTIME_SCHEMA, what)
    if Digest.of(definition) != record.definition or Digest.of(runtime) != record.runtime:
        raise _wrong(what, "definition or runtime is not the version's")
    if record.image_name != image_name(record.definition):
        raise _wrong(what, "its image lies where no image of that definition does")
    locks: dict[str, LockedEnvironment] = {}
    lock_bytes: dict[str, bytes] = {}
    for data in by_type.get(LOCK, []):
        lock = _lock(data, what)
        named = record.locks.get(lock.platform)
        if named is None or lock.platform in locks or named.record != Digest.of(data):
            raise _wrong(what, f"the lock for {lock.platform[:40]!r} is not the version's")
        if named.identity != lock_identity(lock) or lock.definition != record.definition:
            raise _wrong(what, f"the lock for {lock.platform} is not what the version says")
        locks[lock.platform], lock_bytes[lock.platform] = lock, data
    if set(locks) != set(record.locks) or set(locks) != set(record.images) or not locks:
        raise _wrong(what, "it lacks the lock of a platform")
    if len(locks) == 1 and record.image not in record.images.values():
        raise _wrong(what, "its image is not that of its platform")
    ordered = {platform: locks[platform] for platform in record.locks}
    known = {d for lock in locks.values() for d in (lock.base.config, lock.base.manifest)}
    bases = {Digest.of(data): data for data in by_type.get(BASE, [])}
    if not bases.keys() <= known:
        raise _wrong(what, "it holds a document of a base that is not its own")
    steps = {_platform_of(data, what): data for data in by_type.get(STEPS, [])}
    if not steps.keys() <= locks.keys():
        raise _wrong(what, "it holds the steps of a platform that it has no lock for")
    assembly = _assembly(_bytes(contents.config, blobs, what), what)
    texts = {platform: lock_bytes[platform] for platform in ordered}
    return EnvironmentRecord(record, ordered, texts, definition, runtime, assembly, bases, steps)


def _platform_of(data: bytes, what: str) -> str:
    platform = read_object(data, what).get("platform")
    if type(platform) is not str:
        raise _wrong(what, "its steps do not say for which platform they are")
    return platform


def read_version(contents: Contents, blobs: Mapping[Digest, bytes], what: str) -> VersionRecord:
    """The version record alone, of an environment artifact; nothing is compared with it."""
    parts = [part for part in contents.parts if part.media_type == VERSION]
    return _one_record([_bytes(part, blobs, what) for part in parts], what)


def read_pin(
    contents: Contents, blobs: Mapping[Digest, bytes], pin_key: Digest, what: str
) -> LockedEnvironment:
    """The lock behind a pin artifact; it answers ``pin_key``."""
    found = [_bytes(part, blobs, what) for part in contents.parts if part.media_type == LOCK]
    if len(found) != 1:
        raise _wrong(what, "it holds not one lock")
    lock = _lock(found[0], what)
    if lock.pin_key != pin_key:
        raise _wrong(what, "its lock answers another pin key")
    return lock


def read_owner(contents: Contents, blobs: Mapping[Digest, bytes], what: str) -> tuple[str, str]:
    """Id and name of the workspace that owns a registry."""
    document = read_object(_bytes(contents.config, blobs, what), what)
    found, name = document.get("id"), document.get("workspace")
    if type(found) is not str or type(name) is not str or not found or len(found) > 200:
        raise _wrong(what, "it does not say whose registry this is")
    return found, name[:200]


def _bytes(part: Descriptor, blobs: Mapping[Digest, bytes], what: str) -> bytes:
    data = blobs.get(part.digest)
    if data is None or len(data) != part.size or Digest.of(data) != part.digest:
        raise _wrong(what, f"{part.digest} is not there, or has other bytes")
    return data


def _one(found: list[bytes], schema: str, what: str) -> bytes:
    try:
        if len(found) == 1:
            document = json.loads(found[0])
            match document:
                case [str(named), dict()] if named == schema:
                    return found[0]
                case _:
                    pass
    except (ValueError, RecursionError):
        pass
    raise _wrong(what, f"it holds no {schema} or several")


def _one_record(found: list[bytes], what: str) -> VersionRecord:
    if len(found) != 1:
        raise _wrong(what, "it holds not one version")
    try:
        record = VersionRecord.from_bytes(found[0])
        problem = name_problem(record.environment) or version_problem(record.version)
    except EnvgraphError:
        raise
    except Exception as error:  # a document of another shape: whatever it broke, it is wrong
        raise _wrong(what, f"its version is not one ({type(error).__name__})") from error
    if problem:
        raise _wrong(what, f"its version is not one: {problem}")
    texts = [record.workspace, record.time, record.kind, record.image_name, record.tool]
    maps = [record.tags, record.properties, record.image_keys]
    plain = all(type(text) is str for text in texts) and type(record.sequence) is int
    for item in maps:
        pairs = item.items() if isinstance(item, dict) else [(None, None)]
        plain = plain and all(type(k) is str and type(v) is str for k, v in pairs)
    if not plain or (record.description is not None and type(record.description) is not str):
        raise _wrong(what, "its version holds a value of another kind")
    return record


def _lock(data: bytes, what: str) -> LockedEnvironment:
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("schema") != LOCK_SCHEMA:
            raise ValueError("another schema")
        lock = lock_from_document(document)
        lock_identity(lock)
    except EnvgraphError:
        raise
    except Exception as error:
        raise _wrong(what, f"its lock is not one ({type(error).__name__})") from error
    return lock


def _assembly(data: bytes, what: str) -> Assembly:
    document = read_object(data, what)
    name, most = document.get("compression"), document.get("max_layers")
    level, version = document.get("level"), document.get("version")
    bytecode = document.get("bytecode")
    if (
        name not in ("zstd", "gzip")
        or type(most) is not int
        or type(level) is not int
        or type(version) is not str
        or not isinstance(bytecode, list)
        or not all(type(platform) is str for platform in bytecode)
        or not 1 <= most <= 1000
    ):
        raise _wrong(what, "it does not say how the image was assembled")
    return Assembly(name, most, level, version, tuple(bytecode))


def _wrong(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"{what}: {why}",
        code="registry-record",
        hint="the registry, or something before it, is damaged or lies: nothing was kept",
    )
