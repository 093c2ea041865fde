"""Changes to what is registered: labels, archived, described, deleted. Each is one record.

A version that is no longer kept (archived or deleted) loses its name in the layout's
index, and its objects become young: the grace period of garbage collection begins with
the change, however old the layers are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from envgraph.apply.publish import Naming, mark_applied, optional_layers, utc
from envgraph.errors import EnvgraphError, InputError
from envgraph.history.append import Appender
from envgraph.history.fold import LATEST, EnvironmentState, VersionState
from envgraph.history.read import image_ref, read_version, whole_record
from envgraph.image.nodes import host_platform, image_nodes
from envgraph.lock.pins import Pins
from envgraph.model.config import WorkspaceConfig
from envgraph.model.history import Change
from envgraph.model.names import name_problem, shown
from envgraph.model.oci import DOCUMENT_LIMIT
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store, Transaction
from envgraph_store.errors import StoreError

_DIGEST_TEXT: Final = len("sha256:") + 64


class Changes:
    """Appends changes to one environment's history; the caller excludes other writers."""

    def __init__(self, config: WorkspaceConfig, store: Store, name: str, now: datetime) -> None:
        """Read what is there."""
        self._config = config
        self._store = store
        self._now = now
        self._name = name
        self._appender = Appender(store, config.id, name)

    @property
    def state(self) -> EnvironmentState:
        """What holds now."""
        return self._appender.state

    def archive(self, version: str | None) -> bool:
        """Hide a version, or all of the environment; False when it was hidden already."""
        shown = self.state if version is None else self._version(version)
        return not shown.archived and self._record(Change("archive", version))

    def restore(self, version: str | None) -> bool:
        """Show it again; False when it was not hidden by itself."""
        shown = self.state if version is None else self._version(version)
        return shown.archived and self._record(Change("restore", version))

    def describe(self, version: str, description: str | None, tags: dict[str, str]) -> bool:
        """Give a version another description and other tags; False when they are the same."""
        record = read_version(self._store, self._version(version))
        if (record.description, dict(record.tags)) == (description, tags):
            return False
        return self._record(Change("metadata", version, description=description, tags=tags))

    def label(self, version: str | None, label: str) -> bool:
        """Let a label mean a version, or (None) nothing; False when it does already.

        InputError for a name that no label can have, and for ``latest``.
        """
        problem = name_problem(label)
        if problem is not None:
            raise InputError(
                f"{shown(label)} is no label: {problem.replace('a name', 'a label', 1)}",
                code="bad-label",
            )
        if label.casefold() == LATEST:
            raise InputError(
                "the label `latest` moves by itself",
                code="bad-label",
                detail="it means the newest version that is neither archived nor deleted",
                hint="choose another label, or archive what is newer",
            )
        before = self.state.labels.get(label)
        if version is not None:
            self._version(version)
        return before != version and self._record(Change("label", version, label, before))

    def delete(self, versions: Iterable[str]) -> bool:
        """Delete versions; their definitions and locks are kept.

        EnvgraphError ``label-in-use`` when a label means one of them: nothing is deleted.
        """
        wanted = [self._version(version) for version in versions]
        held = {
            label: v.version
            for v in wanted
            for label, meant in self.state.labels.items()
            if meant == v.version
        }
        if held:
            label, version = next(iter(held.items()))
            raise EnvgraphError(
                f"the label {label!r} means version {version} of {self._name!r}",
                code="label-in-use",
                hint=f"move it first: envgraph label {self._name}:VERSION {label}, or"
                f" envgraph label {self._name}:{version} {label} --remove",
            )
        return bool(wanted) and self._record(*(Change("delete", v.version) for v in wanted))

    def _version(self, version: str) -> VersionState:
        return self.state.versions[version]

    def _record(self, *changes: Change) -> bool:
        before = self.state
        with self._store.transaction() as batch:
            for change in changes:
                self._appender.add_change(batch, change, utc(self._now))
            self._appender.finish(batch)
            self._rename(batch)
            for version in before.versions.values():
                after = self.state.versions[version.version]
                if before.holds(version) and not self.state.holds(after):
                    record = whole_record(self._store, read_version(self._store, version))
                    batch.renew(self._objects(record), self._keys(record))
            mark_applied(batch, self._store, self._config.id, self._now)
            batch.commit()
        self._store.rewrite_index()
        return True

    def _rename(self, batch: Transaction) -> None:
        """Let the layout's index name the newest image that is kept, or none."""
        ref_name = image_ref(self._config.id, self._name)
        ref = self._store.refs.get(ref_name)
        top = self.state.latest
        if top is not None and self.state.holds(top) and self._store.blobs.has(top.image):
            if ref is not None and ref.value["digest"] == str(top.image):
                return
            record = read_version(self._store, top)
            pins = Pins(self._store, self._config.id)
            locks = [pins.read(lock.record) for lock in record.locks.values()]
            size = self._store.blobs.size(top.image)
            naming = Naming(self._store, self._config.id, self._config.name)
            naming.name(batch, record, size, optional_layers(locks))
        elif ref is not None:
            batch.delete_ref(ref_name, ref.generation)

    def _keys(self, record: VersionRecord) -> set[str]:
        """The actions that say what its layers and images are, as this workspace makes them."""
        pins = Pins(self._store, self._config.id)
        keys = set(record.image_keys.values())
        for reference in record.locks.values():
            try:
                lock = pins.read(reference.record)
            except (StoreError, EnvgraphError):
                continue
            nodes = image_nodes(lock, record.runtime, self._config.image, host_platform())
            keys |= {str(node.key) for node in nodes.nodes}
        return keys

    def _objects(self, record: VersionRecord) -> set[Digest]:
        """What the version kept: manifests, what they name, layers and lists of paths."""
        images = {record.image, *record.images.values()}
        found = images | set(record.members)
        for image in images:
            found |= _named_in(self._store, image)
        return found


def _named_in(store: Store, manifest: Digest) -> set[Digest]:
    try:
        document = json.loads(store.blobs.read(manifest, limit=DOCUMENT_LIMIT))
    except (StoreError, ValueError):
        return set()
    texts = [str(item.get("digest")) for key in ("layers", "manifests")
             for item in document.get(key) or ()]  # fmt: skip
    texts.append(str((document.get("config") or {}).get("digest")))
    return {Digest(text) for text in texts if len(text) == _DIGEST_TEXT}
