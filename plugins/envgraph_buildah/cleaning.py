"""What nothing has used for a while goes from the storage: bases, images, and what builds left.

A stamp is an empty file per image, ``used/DRIVER/ID``; its time is when the image was last
used, or first seen. Only our own storage is looked at, and only while no build runs in it, in
this process or another.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from envgraph_buildah.storage import Storage

DAY: Final = 86_400.0
_ID: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class Cleaner:
    """Stamps what builds use, and clears away the rest; safe for threads and processes."""

    def __init__(
        self, storage: Storage, keep_days: int, clock: Callable[[], float] = time.time
    ) -> None:
        """Bind; nothing is looked at yet."""
        self._storage = storage
        self._keep = keep_days * DAY
        self._clock = clock
        self._built = False

    def used(self, identities: Iterable[str]) -> None:
        """Note that images were used by a build just now."""
        self._built = True
        for identity in identities:
            if _ID.fullmatch(identity):
                self._stamp(identity, self._clock())

    def clean(self) -> int:
        """Remove what is too old; how many images went.

        Does nothing where this process built nothing, where it was done within a day (unless
        nothing is to be kept), or while a build runs.
        """
        if not self._built:
            return 0
        now = self._clock()
        done = self._storage.folder / "cleaned"
        if self._keep and done.exists() and now - done.stat().st_mtime < DAY:
            return 0
        with (self._storage.folder / "builds.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return 0
            shutil.rmtree(self._storage.folder / "builds", ignore_errors=True)
            removed = self._remove(now)
        _touch(done, now)
        return removed

    def _remove(self, now: float) -> int:
        removed = 0
        left = set(self._ids())
        for identity in left:
            if not self._stamp_of(identity).exists():
                self._stamp(identity, now)
        young = [each for each in left if self._age(each, now) < self._keep]
        kept = self._standing_below(young)
        while old := left - kept:
            # one that others stand on may not go before them: so, again, until none goes
            for identity in old:
                self._storage.run([*self._storage.words, "rmi", identity], lambda line: None)
            gone = left - set(self._ids())
            if not gone:
                break
            removed += len(gone)
            left -= gone
            for identity in gone:
                self._stamp_of(identity).unlink(missing_ok=True)
        return removed

    def _standing_below(self, young: Iterable[str]) -> set[str]:
        """These images, and those whose layers they stand on: the steps of one build."""
        place = self._storage.folder / self._storage.driver
        driver = self._storage.driver
        try:
            images = json.loads((place / f"{driver}-images" / "images.json").read_bytes())
            layers = json.loads((place / f"{driver}-layers" / "layers.json").read_bytes())
            tops = {str(image["id"]): image.get("layer") for image in images}
            below = {layer["id"]: layer.get("parent") for layer in layers or ()}
        except (OSError, ValueError, KeyError, TypeError):
            return set(young)  # another buildah keeps its books otherwise: cached steps may go
        kept = set(young)
        needed: set[object] = set()
        for identity in kept:
            layer = tops.get(identity)
            while layer and layer not in needed:
                needed.add(layer)
                layer = below.get(layer)
        return kept | {identity for identity, layer in tops.items() if layer in needed}

    def _ids(self) -> list[str]:
        lines: list[str] = []
        words = [*self._storage.words, "images", "-a", "-q", "--no-trunc"]
        self._storage.run(words, lines.append)
        return [match[1] for line in lines if (match := _ID.fullmatch(line.strip()))]

    def _age(self, identity: str, now: float) -> float:
        return now - self._stamp_of(identity).stat().st_mtime

    def _stamp(self, identity: str, now: float) -> None:
        path = self._stamp_of(identity.removeprefix("sha256:"))
        path.parent.mkdir(parents=True, exist_ok=True)
        _touch(path, now)

    def _stamp_of(self, identity: str) -> Path:
        return self._storage.folder / "used" / self._storage.driver / identity


def _touch(path: Path, now: float) -> None:
    path.touch()
    os.utime(path, (now, now))
