"""Making results visible: version records, names, and the layout's index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from envgraph.history.append import TOOL, Appender
from envgraph.history.read import image_ref
from envgraph.image.manifest import OCI_IMAGE_INDEX, OCI_IMAGE_MANIFEST
from envgraph.model.canonical import canonical_bytes
from envgraph.model.history import Change
from envgraph.model.identity import (
    DEFINITION_SCHEMA,
    RUNTIME_SCHEMA,
    definition_document,
    runtime_document,
)
from envgraph.model.locked import LockedEnvironment
from envgraph.model.names import escape_name
from envgraph.model.records import PARENT_PROPERTY, LockReference, VersionRecord
from envgraph.plan.plan import EnvironmentChange
from envgraph_store import Digest, Store, Transaction


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What an environment's image nodes came to: manifests by platform, and the final one."""

    platforms: Mapping[str, Digest]
    final: Digest
    size: int
    members: tuple[Digest, ...]


def utc(now: datetime) -> str:
    """``2026-11-23T04:25:00Z``."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


class Publisher:
    """Appends version records and moves names, all of one apply in one batch."""

    def __init__(self, store: Store, workspace_id: str, workspace_name: str, now: datetime) -> None:
        """Bind; nothing is written before :meth:`publish`."""
        self._store = store
        self._id = workspace_id
        self._naming = Naming(store, workspace_id, workspace_name)
        self._now = now

    def publish(
        self,
        changes: Sequence[tuple[EnvironmentChange, BuiltImage]],
        lock_records: Mapping[str, Mapping[str, Digest]],
    ) -> list[VersionRecord]:
        """Register a version for each change; on return it is durable."""
        if not changes:
            return []
        records = []
        with self._store.transaction() as batch:
            for change, image in changes:
                shown = True
                if change.changed == ("name",) and change.registered is not None:
                    record = change.registered
                else:
                    locks = lock_records[change.target.name]
                    record, shown = self._register(batch, change, image, locks)
                optional = optional_layers(item.lock for item in change.target.platforms.values())
                if shown:
                    self._naming.name(batch, record, image.size, optional)
                records.append(record)
            mark_applied(batch, self._store, self._id, self._now)
            batch.commit()
        self._store.rewrite_index()
        return records

    def _register(
        self,
        batch: Transaction,
        change: EnvironmentChange,
        image: BuiltImage,
        lock_records: Mapping[str, Digest],
    ) -> tuple[VersionRecord, bool]:
        """The version, and whether it is one to show: neither it nor all of them are archived."""
        target = change.target
        spec = target.spec
        batch.add_bytes(canonical_bytes(DEFINITION_SCHEMA, definition_document(spec)))
        batch.add_bytes(canonical_bytes(RUNTIME_SCHEMA, runtime_document(spec)))
        appender = Appender(self._store, self._id, target.name)
        if change.changed == ("metadata",) and change.registered is not None:
            note = Change("metadata", change.version, description=spec.description, tags=spec.tags)
            appender.add_change(batch, note, utc(self._now))
            appender.finish(batch)
            return replace(change.registered, description=spec.description, tags=spec.tags), False
        record = VersionRecord(
            workspace=self._id,
            environment=target.name,
            sequence=0,
            previous=None,
            time=utc(self._now),
            version=change.version,
            kind=spec.kind,
            definition=target.definition,
            runtime=target.runtime,
            locks={
                platform: LockReference(locked.identity, lock_records[platform])
                for platform, locked in target.platforms.items()
            },
            images=image.platforms,
            image=image.final,
            image_name=target.image_name,
            image_keys={p: str(locked.image) for p, locked in target.platforms.items()},
            members=image.members,
            changed=tuple(item for item in change.changed if item != "metadata"),
            parent=None if appender.state.versions else spec.properties.get(PARENT_PROPERTY),
            description=spec.description,
            tags=spec.tags,
            properties=spec.properties,
            tool=TOOL,
            anonymous=spec.anonymous,
        )
        record = appender.add_version(batch, record)
        appender.finish(batch)
        return record, appender.state.holds(appender.state.versions[record.version])


class Naming:
    """Gives images their names in the layout's index."""

    def __init__(self, store: Store, workspace_id: str, workspace_name: str) -> None:
        """Bind; nothing is read yet."""
        self._store = store
        self._id = workspace_id
        self._name = workspace_name

    @cached_property
    def _foreign_names(self) -> frozenset[str]:
        """Names in the index that belong to other workspaces of this store."""
        own = f"images/{self._id}/"
        refs = self._store.refs.list("images/")
        return frozenset(
            ref.value["ref_name"] for name, ref in refs.items() if not name.startswith(own)
        )

    def name(
        self,
        batch: Transaction,
        record: VersionRecord,
        size: int,
        optional: frozenset[Digest] = frozenset(),
    ) -> None:
        """``workspace/env:version`` in the layout's index: the current version only.

        ``size`` is that of the manifest or index. Where another workspace of the same
        name has taken the name, ours carries its id. ``optional``: layers that the
        registry of the base has.
        """
        ref_name = image_ref(self._id, record.environment)
        ref = self._store.refs.get(ref_name)
        ending = f"{escape_name(record.environment)}:{escape_name(record.version)}"
        shown = f"{self._name}/{ending}"
        if shown in self._foreign_names:
            shown = f"{self._name}-{self._id}/{ending}"
        value: dict[str, Any] = {
            "mediaType": OCI_IMAGE_INDEX if len(record.images) > 1 else OCI_IMAGE_MANIFEST,
            "digest": str(record.image),
            "size": size,
            "ref_name": shown,
        }
        expected = None if ref is None else ref.generation
        batch.set_ref(ref_name, value, expected=expected, optional=optional)


def mark_applied(batch: Transaction, store: Store, workspace_id: str, now: datetime) -> None:
    """Say that something was registered: a remembered "nothing to do" ends here."""
    name = f"applied/{workspace_id}"
    ref = store.refs.get(name)
    expected = None if ref is None else ref.generation
    batch.set_ref(name, {"time": utc(now)}, expected=expected)


def optional_layers(locks: Iterable[LockedEnvironment]) -> frozenset[Digest]:
    """The layers of bases in registries: they come when something needs them."""
    bases = (lock.base for lock in locks)
    return frozenset(la.digest for base in bases if base.in_registry for la in base.layers)
