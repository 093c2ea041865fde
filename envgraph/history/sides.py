"""Gather what ``diff`` and ``why`` compare: a version's documents, or a lockfile's lock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from envgraph.diff.versions import Side
from envgraph.errors import NotFoundError
from envgraph.lock.pins import Pins
from envgraph.model.identity import lock_identity
from envgraph.model.locked import LockedEnvironment
from envgraph.model.oci import DOCUMENT_LIMIT
from envgraph.model.records import VersionRecord
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError


class Sides:
    """Finds both sides of a comparison, on a platform that both have."""

    def __init__(
        self, store: Store, workspace_id: str, root: str, find: Callable[[str], VersionRecord]
    ) -> None:
        """Bind; ``find`` finds a version by its reference, ``root`` is where paths start."""
        self._store = store
        self._pins = Pins(store, workspace_id)
        self._root = root
        self._find = find

    def pair(self, one: str, two: str, platform: str | None = None) -> tuple[Side, Side]:
        """Both sides; NotFoundError where they have no platform, or not this one, in common."""
        first, second = self._open(one), self._open(two)
        common = [name for name in first.platforms if name in second.platforms]
        if platform is not None:
            common = [platform] if platform in common else []
        if not common:
            raise NotFoundError(
                f"{one!r} and {two!r} have no platform in common"
                if platform is None
                else f"{one!r} and {two!r} are not both locked for {platform}",
                code="no-common-platform",
                hint=f"they have {', '.join(first.platforms)} and {', '.join(second.platforms)}",
            )
        return first.side(common[0]), second.side(common[0])

    def of_records(self, one: VersionRecord, two: VersionRecord) -> tuple[Side, Side]:
        """Both sides from their records, on the first platform that both have."""
        common = [name for name in two.locks if name in one.locks]
        platform = (common or list(two.locks))[0]
        before = platform if platform in one.locks else next(iter(one.locks))
        return self._version(one).side(before), self._version(two).side(platform)

    def _open(self, text: str) -> _Opened:
        path = Path(self._root, Path(text).expanduser())
        if text.endswith((".yml", ".yaml", ".lock")) and path.is_file():
            return self._lockfile(text, path)
        return self._version(self._find(text))

    def _lockfile(self, text: str, path: Path) -> _Opened:
        from envgraph.lock.lockfile import read_lockfile

        locks = read_lockfile(path).locks
        if not locks:
            raise NotFoundError(
                f"{text!r} holds no lock that envgraph wrote",
                code="foreign-lock",
                hint="an environment file? name the environment instead",
            )
        return _Opened(
            tuple(locks),
            lambda platform: Side(
                text,
                locks[platform],
                lock_identity(locks[platform]),
                locks[platform].definition,
                self._document(locks[platform].definition),
                base_labels=self._base_labels(locks[platform]),
            ),
        )

    def _version(self, record: VersionRecord) -> _Opened:
        def side(platform: str) -> Side:
            lock = self._pins.read(record.locks[platform].record)
            image = record.images.get(platform)
            return Side(
                f"{record.environment}:{record.version}",
                lock,
                record.locks[platform].identity,
                record.definition,
                self._document(record.definition),
                record.runtime,
                self._document(record.runtime),
                image,
                record.image_keys.get(platform, ""),
                {
                    "kind": record.kind,
                    "description": record.description,
                    **{f"tags.{key}": value for key, value in record.tags.items()},
                    **{f"properties.{key}": value for key, value in record.properties.items()},
                },
                self._base_labels(lock),
                None if image is None else self._layers(image),
            )

        return _Opened(tuple(record.locks), side)

    def _json(self, digest: Digest) -> Any:
        try:
            return json.loads(self._store.blobs.read(digest, limit=DOCUMENT_LIMIT))
        except (StoreError, ValueError):
            return None

    def _document(self, digest: Digest) -> Mapping[str, Any] | None:
        """A canonical document by its digest, without its schema; None when it is not here."""
        found = self._json(digest)
        return found[1] if isinstance(found, list) and len(found) == 2 else None

    def _base_labels(self, lock: LockedEnvironment) -> Mapping[str, str] | None:
        if lock.base.is_scratch:
            return {}
        found = None if lock.base.config is None else self._json(lock.base.config)
        config = found.get("config") if isinstance(found, dict) else None
        if found is None or not isinstance(config, dict | None):
            return None
        return {str(k): str(v) for k, v in ((config or {}).get("Labels") or {}).items()}

    def _layers(self, image: Digest) -> tuple[tuple[Digest, int], ...] | None:
        found = self._json(image)
        try:
            return tuple((Digest(item["digest"]), int(item["size"])) for item in found["layers"])
        except (TypeError, KeyError, ValueError):
            return None


class _Opened:
    """What a reference or path leads to, before a platform is chosen."""

    def __init__(self, platforms: tuple[str, ...], side: Callable[[str], Side]) -> None:
        self.platforms = platforms
        self.side = side
