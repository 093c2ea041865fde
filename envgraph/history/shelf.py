"""What a store knows of catalogues: versions that were pulled or listed, for use offline.

The ref ``catalogue/<workspace>/<registry>/<name>`` names each version's record (and
the artifact that it came in) and what each label meant when it was last asked for;
``registries/<workspace>/<registry>`` says whose registry that was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from envgraph.history.read import read_record
from envgraph.model.names import escape_name, unescape_name
from envgraph.model.records import VersionRecord
from envgraph.registry.moves import CatalogueState
from envgraph_store import Digest, Store, Transaction

CURATED = "curated"


@dataclass(frozen=True, slots=True)
class Shelved:
    """One environment of a registry, as it was last seen.

    ``versions`` name the record and the artifact of each version; ``labels`` the version
    that each label meant.
    """

    name: str
    versions: Mapping[str, tuple[Digest, Digest]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    archived: frozenset[str] = frozenset()
    moves: Digest | None = None
    """The artifact of the moves that ``labels`` and ``archived`` are what holds after."""

    def artifact(self, version: str) -> Digest | None:
        """The artifact of a version that is known."""
        found = self.versions.get(version)
        return None if found is None else found[1]

    def labels_of(self, version: str) -> tuple[str, ...]:
        """The labels that mean a version, ``latest`` first."""
        found = [label for label, meant in self.labels.items() if meant == version]
        return tuple(sorted(found, key=lambda label: (label != "latest", label)))


class Shelf:
    """The catalogues that one workspace has seen."""

    def __init__(self, store: Store, workspace_id: str) -> None:
        """Bind; nothing is read yet."""
        self._store = store
        self._workspace = workspace_id

    def _ref(self, registry: str, name: str = "") -> str:
        return f"catalogue/{self._workspace}/{escape_name(registry)}/{escape_name(name)}"

    def _owner_ref(self, registry: str) -> str:
        return f"registries/{self._workspace}/{escape_name(registry)}"

    def owner(self, registry: str) -> tuple[str, str] | None:
        """Id and name of the workspace that a registry belonged to when it was asked."""
        ref = self._store.refs.get(self._owner_ref(registry))
        owner = None if ref is None else ref.value.get("owner")
        return None if not owner else (owner[0], owner[1])

    def is_known(self, registry: str) -> bool:
        """Whether anything was ever asked of it."""
        return self._store.refs.get(self._owner_ref(registry)) is not None

    def names(self, registry: str) -> list[str]:
        """The environments that are known of a registry, sorted."""
        prefix = self._ref(registry)
        return sorted(
            unescape_name(ref.removeprefix(prefix)) for ref in self._store.refs.list(prefix)
        )

    def get(self, registry: str, name: str) -> Shelved:
        """What is known of one environment; nothing, when it was never seen."""
        ref = self._store.refs.get(self._ref(registry, name))
        if ref is None:
            return Shelved(name)
        versions = {
            version: (Digest(record), Digest(artifact))
            for version, (record, artifact) in ref.value["versions"].items()
        }
        moves = ref.value.get("moves")
        return Shelved(
            name,
            versions,
            dict(ref.value["labels"]),
            frozenset(ref.value.get("archived", ())),
            None if moves is None else Digest.from_hex(moves),
        )

    def record(self, registry: str, name: str, version: str) -> VersionRecord | None:
        """A version that is known; ``curated`` where somebody else owns the registry."""
        found = self.get(registry, name).versions.get(version)
        if found is None or not self._store.blobs.has(found[0]):
            return None
        return self.shown(registry, read_record(self._store, found[0]))

    def find(
        self, registry: str, name: str, version: str | None, label: str | None
    ) -> VersionRecord | None:
        """A version whose locks are here; of a label (else ``latest``) what it meant last."""
        if version is None:
            version = self.get(registry, name).labels.get(label or "latest")
        record = None if version is None else self.record(registry, name, version)
        if record is None:
            return None
        needed = [record.definition, record.runtime, record.image]
        needed += [lock.record for lock in record.locks.values()]
        return None if self._store.blobs.missing(needed) else record

    def listed(
        self, registry: str, *, all: bool = False, archived: bool = False
    ) -> list[VersionRecord]:
        """The latest version of each environment that was seen; with ``all`` every version.

        ``archived``: what is archived there, too.
        """
        found: list[VersionRecord] = []
        for name in self.names(registry):
            known = self.get(registry, name)
            records = [
                record
                for version in known.versions
                if (archived or version not in known.archived)
                and (record := self.record(registry, name, version)) is not None
            ]
            records.sort(key=lambda record: record.time, reverse=True)
            latest = known.labels.get("latest")
            records.sort(key=lambda record: record.version != latest)
            found += records if all else records[:1]
        return found

    def shown(self, registry: str, record: VersionRecord) -> VersionRecord:
        """The record as this workspace sees it."""
        owner = self.owner(registry)
        if owner is None or owner[0] == self._workspace:
            return record
        return replace(record, kind=CURATED)

    def put(
        self,
        batch: Transaction,
        registry: str,
        found: Mapping[str, list[tuple[VersionRecord, Digest]]],
        labels: Mapping[str, Mapping[str, str]],
        states: Mapping[str, tuple[Digest | None, CatalogueState]] = {},
    ) -> None:
        """Remember versions (with their artifacts) and labels, by name of the environment.

        ``states``: what the catalogue's moves come to, with the artifact that they are in.
        """
        for name in found.keys() | labels.keys() | states.keys():
            ref_name = self._ref(registry, name)
            ref = self._store.refs.get(ref_name)
            before: dict[str, Any] = {"versions": {}, "labels": {}} if ref is None else ref.value
            versions = dict(before["versions"])
            for record, artifact in found.get(name, ()):
                digest = batch.add_bytes(record.to_bytes())
                versions[record.version] = [str(digest), str(artifact)]
            value = {
                **before,
                "versions": versions,
                "labels": dict(before["labels"]) | dict(labels.get(name, {})),
            }
            if name in states:
                moves, state = states[name]
                kept = {k: v for k, v in value["labels"].items() if k not in state.known}
                value["labels"] = kept | state.meaning()
                value["archived"] = sorted(state.archived)
                value["moves"] = None if moves is None else moves.hex
            if ref is None or value != before:
                batch.set_ref(ref_name, value, None if ref is None else ref.generation)

    def put_owner(self, batch: Transaction, registry: str, owner: tuple[str, str] | None) -> None:
        """Remember whose registry it is."""
        ref_name = self._owner_ref(registry)
        ref = self._store.refs.get(ref_name)
        value = {"owner": None if owner is None else list(owner)}
        if ref is None or ref.value != value:
            batch.set_ref(ref_name, value, None if ref is None else ref.generation)
