"""One version of an environment, ready to travel: its documents, keys and images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from envgraph.errors import InputError, IntegrityError
from envgraph.history.read import whole_record
from envgraph.image.compress import Compression, default_compression
from envgraph.image.nodes import ImageNodes, image_nodes, index_node, layer_options
from envgraph.lock.pins import LOCK_LIMIT
from envgraph.model.canonical import NodeKey
from envgraph.model.config import ImageOptions, WorkspaceConfig
from envgraph.model.documents import lock_from_document
from envgraph.model.locked import LockedEnvironment
from envgraph.model.oci import DOCUMENT_LIMIT
from envgraph.model.records import VersionRecord
from envgraph.registry.artifacts import Assembly, EnvironmentRecord
from envgraph_store import Digest, Store


@dataclass(frozen=True, slots=True)
class Parcel:
    """A version with everything that belongs to it, but for the layers' bytes."""

    contents: EnvironmentRecord
    nodes: Mapping[str, ImageNodes]
    key: NodeKey
    """Of the final node: the image, or the index over several platforms."""

    @property
    def record(self) -> VersionRecord:
        """The version."""
        return self.contents.record

    @property
    def title(self) -> str:
        """``train:3``."""
        return f"{self.record.environment}:{self.record.version}"


def final_key(keys: Mapping[str, NodeKey]) -> NodeKey:
    """The image's key, or that of the index where there are several platforms."""
    return next(iter(keys.values())) if len(keys) == 1 else index_node(keys).key


def nodes_of(lock: LockedEnvironment, runtime: Digest, assembly: Assembly) -> ImageNodes:
    """The nodes of an image that was assembled as ``assembly`` says, here or elsewhere."""
    options = ImageOptions(assembly.compression, assembly.max_layers)
    host = lock.platform if lock.platform in assembly.bytecode else "elsewhere"
    compression = Compression(assembly.compression, assembly.level, assembly.version)
    layer_opts = replace(layer_options(lock, options, host), compression=compression)
    return image_nodes(lock, runtime, options, host, layer_opts=layer_opts)


def parcel_of(contents: EnvironmentRecord, what: str) -> Parcel:
    """A version with its keys computed; IntegrityError where they are not the record's."""
    record = contents.record
    try:
        nodes = {
            platform: nodes_of(lock, record.runtime, contents.assembly)
            for platform, lock in contents.locks.items()
        }
    except (ValueError, InputError) as error:
        raise IntegrityError(f"{what}: {error}", code="registry-record") from error
    keys = {platform: item.image for platform, item in nodes.items()}
    if {platform: str(key) for platform, key in keys.items()} != dict(record.image_keys):
        raise IntegrityError(
            f"{what}: its images' keys are not those of its locks",
            code="registry-record",
            hint="it was made by another version of envgraph, or it lies",
        )
    return Parcel(contents, nodes, final_key(keys))


def pack(store: Store, config: WorkspaceConfig, record: VersionRecord) -> Parcel:
    """The parcel of a version in the store.

    InputError when its images were assembled with other options than the workspace's:
    nobody could compute their keys. NotFoundError or StoreError when documents are gone.
    """
    record = whole_record(store, record)
    lock_bytes = {
        platform: store.blobs.read(reference.record, limit=LOCK_LIMIT)
        for platform, reference in record.locks.items()
    }
    locks = {platform: _lock(data) for platform, data in lock_bytes.items()}
    bases: dict[Digest, bytes] = {}
    for lock in locks.values():
        for digest in (lock.base.manifest, lock.base.config):
            if digest is not None and store.blobs.has(digest):
                bases[digest] = store.blobs.read(digest, limit=DOCUMENT_LIMIT)
    contents = EnvironmentRecord(
        record,
        locks,
        lock_bytes,
        store.blobs.read(record.definition, limit=DOCUMENT_LIMIT),
        store.blobs.read(record.runtime, limit=DOCUMENT_LIMIT),
        _assembly(config, record, locks),
        bases,
    )
    parcel = parcel_of(contents, f"{record.environment}:{record.version}")
    return replace(parcel, contents=replace(contents, steps=_steps(store, parcel)))


def _steps(store: Store, parcel: Parcel) -> dict[str, bytes]:
    """What builders made of its steps; nothing for a platform where the store has lost that."""
    from envgraph.interchange.chain import chain_bytes, kept_chain

    found: dict[str, bytes] = {}
    for platform, nodes in parcel.nodes.items():
        if nodes.built:
            lock = parcel.contents.locks[platform]
            chain = kept_chain(store, lock, nodes.built)
            if chain is not None:
                found[platform] = chain_bytes(chain, lock, parcel.record.time)
    return found


def _lock(data: bytes) -> LockedEnvironment:
    document: dict[str, Any] = json.loads(data)
    return lock_from_document(document)


def _assembly(
    config: WorkspaceConfig, record: VersionRecord, locks: Mapping[str, LockedEnvironment]
) -> Assembly:
    """What made the images' keys: this workspace's options, with bytecode or without."""
    compression = default_compression(config.image.compression)
    assembly = Assembly(
        compression.name, config.image.max_layers, compression.level, compression.version, ()
    )
    compiled = []
    for platform, lock in locks.items():
        wanted = record.image_keys.get(platform)
        if str(nodes_of(lock, record.runtime, assembly).image) == wanted:
            continue
        compiled.append(platform)
        tried = replace(assembly, bytecode=(platform,))
        if str(nodes_of(lock, record.runtime, tried).image) != wanted:
            raise InputError(
                f"{record.environment}:{record.version} was assembled with other options than"
                " this workspace has now",
                code="other-assembly",
                hint="apply it again with the options of envgraph.yaml, or put those back",
            )
    return replace(assembly, bytecode=tuple(sorted(compiled)))
