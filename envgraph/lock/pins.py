"""Pins: definition → lock, written once at creation and found again ever after.

A pin is the ref ``pins/<workspace id>/<pin key>`` in the store, naming the blob of
the whole lock; it is kept apart from images and survives their collection. The
ref ``lockfiles/<workspace id>/<name>`` remembers which bytes of a committed
lockfile hold which locks, so that an unchanged file is not parsed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from envgraph.model.documents import lock_bytes, lock_from_document
from envgraph.model.locked import LockedEnvironment
from envgraph.model.names import escape_name
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError

LOCK_LIMIT: Final = 256 << 20
"""Bytes of one lock record; 3,000 packages take about 2 MB."""


@dataclass(frozen=True, slots=True)
class KnownLockfile:
    """A lockfile that was parsed before: the digest of its bytes, and its locks' blobs."""

    file: Digest
    locks: Mapping[str, Digest]


class Pins:
    """The pins of one workspace in one store."""

    def __init__(self, store: Store, workspace_id: str) -> None:
        """Bind; nothing is read yet."""
        self._store = store
        self._workspace = workspace_id

    def _pin_ref(self, pin_key: Digest) -> str:
        return f"pins/{self._workspace}/{pin_key.hex}"

    def _file_ref(self, name: str) -> str:
        return f"lockfiles/{self._workspace}/{escape_name(name)}"

    def read(self, record: Digest) -> LockedEnvironment:
        """The lock in a blob; an error of store or IntegrityError when it is not whole."""
        document: dict[str, Any] = json.loads(self._store.blobs.read(record, limit=LOCK_LIMIT))
        return lock_from_document(document)

    def find(self, pin_key: Digest) -> LockedEnvironment | None:
        """The lock that was pinned for this key, or None.

        A pin whose blob is lost or damaged counts as none: ``store verify`` names it.
        """
        ref = self._store.refs.get(self._pin_ref(pin_key))
        if ref is None:
            return None
        try:
            return self.read(Digest(ref.value["lock"]))
        except StoreError:
            return None

    def known_file(self, name: str) -> KnownLockfile | None:
        """What is remembered of the environment's lockfile."""
        ref = self._store.refs.get(self._file_ref(name))
        if ref is None:
            return None
        return KnownLockfile(
            Digest(ref.value["file"]),
            {platform: Digest(text) for platform, text in ref.value["locks"].items()},
        )

    def save(
        self,
        environments: Mapping[str, Mapping[str, LockedEnvironment]],
        documents: Iterable[bytes] = (),
    ) -> dict[str, dict[str, Digest]]:
        """Keep locks by environment and platform; return the blobs that hold them.

        ``documents`` are manifests and configs of their bases. All of it is one durable
        batch. A pin that already names the same lock is left alone; another lock under the
        same key (an update, an accepted edit, a lock that holds elsewhere) moves the pin, and
        it goes on naming the old ones as its generations.
        """
        saved: dict[str, dict[str, Digest]] = {}
        moved: set[str] = set()
        with self._store.transaction() as batch:
            for data in documents:
                batch.add_bytes(data)
            for name, locks in environments.items():
                saved[name] = {}
                for platform, lock in locks.items():
                    record = batch.add_bytes(lock_bytes(lock))
                    saved[name][platform] = record
                    pin = self._pin_ref(lock.pin_key)
                    ref = self._store.refs.get(pin)
                    if pin in moved or (ref is not None and ref.value["lock"] == str(record)):
                        continue
                    moved.add(pin)
                    value: dict[str, Any] = {"lock": str(record), "created": lock.created}
                    if ref is not None:
                        older = [ref.value["lock"], *ref.value.get("generations", ())]
                        value["generations"] = [text for text in older if text != str(record)]
                    batch.set_ref(pin, value, expected=None if ref is None else ref.generation)
            batch.commit()
        return saved

    def remember_files(self, files: Mapping[str, KnownLockfile]) -> None:
        """Remember, by environment, which locks the bytes of its lockfile hold."""
        with self._store.transaction() as batch:
            for name, known in files.items():
                ref_name = self._file_ref(name)
                ref = self._store.refs.get(ref_name)
                value = {
                    "file": str(known.file),
                    "locks": {platform: str(digest) for platform, digest in known.locks.items()},
                }
                if ref is None or ref.value != value:
                    expected = None if ref is None else ref.generation
                    batch.set_ref(ref_name, value, expected=expected)
            batch.commit()
