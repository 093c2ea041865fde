"""Files of environments that are made from registered versions: clones, and what is edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envgraph.history.find import parsed
from envgraph.history.read import environment_names
from envgraph.lock.pins import Pins
from envgraph.model.config import WorkspaceConfig
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store

if TYPE_CHECKING:
    from envgraph.apply.clone import Clone
    from envgraph.apply.editing import Draft, Editing
    from envgraph.model.locked import LockedEnvironment


class NewFiles:
    """Writes environment files from versions; registers nothing."""

    def __init__(
        self, config: WorkspaceConfig, store: Store, find: Callable[[str], VersionRecord]
    ) -> None:
        """Bind; ``find`` finds a version by its reference, in registries too."""
        self._config = config
        self._store = store
        self._find = find

    def clone(self, reference: str, name: str, changes: Sequence[tuple[str, str]] = ()) -> Clone:
        """Write the files of a new environment from an existing version; registers nothing.

        ``changes`` are keys and values as ``clone --set`` takes them. InputError for a name
        that is bad, reserved or curated, and for what cannot be cloned; EnvgraphError
        ``name-taken``.
        """
        from envgraph.apply.clone import check_name, clone_document, write_clone
        from envgraph.refresh.desired import load_specs

        record = self._find(reference)
        taken = dict.fromkeys(environment_names(self._store, self._config.id), "registered")
        taken |= {s.name: str(s.source) for s in load_specs(self._config, ()).specs}
        check_name(name, self._config, record, taken)
        parent = self._parent(reference, record)
        locks = self._locks(record)
        document = clone_document(
            record,
            self._document(record.definition),
            self._document(record.runtime),
            name=name,
            parent=parent,
            changes=changes,
        )
        return write_clone(self._config, document, record, locks, parent)

    def edit(self, reference: str, new: str | None = None) -> tuple[Editing, Draft, VersionRecord]:
        """Begin to edit an environment (its file, or one written from a version), or a new one.

        The caller lets somebody edit ``draft.path``, then asks for problems and finishes.
        InputError and EnvgraphError as :meth:`clone`; see :mod:`envgraph.apply.editing`.
        """
        from envgraph.apply.editing import Editing

        record = self._find(reference)
        wanted = parsed(reference)
        named = wanted.version is not None or bool(wanted.label) or not wanted.name
        editing = Editing(self._config, self._store, document=self._document, locks=self._locks)
        parent = self._parent(reference, record)
        return editing, editing.begin(reference, record, parent, new, named=named), record

    def _parent(self, reference: str, record: VersionRecord) -> str:
        """How what is made from a version names it."""
        if registry := parsed(reference).registry:
            return (
                f"azureml://registries/{registry}/environments/{record.environment}"
                f"/versions/{record.version}"
            )
        return f"azureml:{record.environment}:{record.version}"

    def _locks(self, record: VersionRecord) -> dict[str, LockedEnvironment]:
        pins = Pins(self._store, self._config.id)
        return {platform: pins.read(lock.record) for platform, lock in record.locks.items()}

    def _document(self, digest: Digest) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self._store.blobs.read(digest))[1]
        return found
