"""What is remembered of a registry: a hint that saves a question, never what is relied on."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from envgraph.model.config import Provider
from envgraph_store import Digest, Store

_FRESH: Final = 86_400.0
"""Seconds for which it is believed that a registry still has what it had."""


class PushMemo:
    """What is remembered of one registry: which tag showed which image, and when."""

    def __init__(self, store: Store, provider: Provider, now: datetime) -> None:
        """Bind. ``provider`` says which registry it is."""
        where = json.dumps([provider.type, dict(provider.options)], sort_keys=True, default=str)
        self._prefix = f"registry/{Digest.of(where.encode()).hex[:32]}"
        self._store = store
        self._now = now.timestamp()

    def knows(self, repository: str, tag: str, image: Digest) -> bool:
        """The tag showed the image less than a day ago."""
        found = self._store.memo.get(f"{self._prefix}/{repository}:{tag}")
        if not isinstance(found, list) or len(found) != 2 or found[0] != str(image):
            return False
        seen = found[1]
        return isinstance(seen, int) and 0 <= self._now - seen < _FRESH

    def remember(self, repository: str, tag: str, image: Digest) -> None:
        """The tag shows the image now."""
        value = [str(image), int(self._now)]
        self._store.memo.set(f"{self._prefix}/{repository}:{tag}", value)

    def forget(self, repository: str, tag: str) -> None:
        """It does not, or nobody knows."""
        self._store.memo.delete(f"{self._prefix}/{repository}:{tag}")

    def suspect(self, repository: str, image: Digest) -> None:
        """The image could not be had as it is there: it is built, and pushed blob by blob."""
        known = self._suspected(repository)
        value = [*(text for text in known if text != str(image)), str(image)]
        self._store.memo.set(f"{self._prefix}/{repository}", [value[-16:], int(self._now)])

    def suspects(self, repository: str, image: Digest | None = None) -> bool:
        """The image (any image, without one) there was found wanting less than a day ago."""
        known = self._suspected(repository)
        return bool(known) if image is None else str(image) in known

    def clear(self, repository: str) -> None:
        """Everything was pushed anew."""
        self._store.memo.delete(f"{self._prefix}/{repository}")

    def _suspected(self, repository: str) -> list[str]:
        found = self._store.memo.get(f"{self._prefix}/{repository}")
        if not isinstance(found, list) or len(found) != 2 or not isinstance(found[0], list):
            return []
        fresh = isinstance(found[1], int) and 0 <= self._now - found[1] < _FRESH
        return [text for text in found[0] if isinstance(text, str)] if fresh else []
