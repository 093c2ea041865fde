"""Pins in a registry: definition → lock for every machine, without compare-and-swap.

A lock is pushed under a tag of its own, ``pin-<pin key>-<lock record>``. Where one pin
key has several, **the lock whose record has the smallest digest holds**. Everybody who
sees the same tags picks the same one, without a clock or a word from anybody.

Who has solved something new looks before it pushes (what is there holds, and nothing
is pushed), pushes, and looks again: whoever looks last of two that pushed at once sees
both. It looks once more at the end, for the machine that pushed a moment after the
second look. The loser takes the winner's lock.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from envgraph.api.registry import RegistryError
from envgraph.errors import IntegrityError, NotFoundError
from envgraph.model.documents import lock_bytes
from envgraph.model.identity import image_name, lock_identity
from envgraph.model.locked import LockedEnvironment
from envgraph.model.oci import OCI_IMAGE_MANIFEST, Descriptor
from envgraph.registry.artifacts import PIN_TYPE, fetch_parts, pin_artifact, read_contents, read_pin
from envgraph.registry.names import is_pin_of, pin_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import RetryingRepository
from envgraph_store.digest import Digest


def pin_tags(tags: Iterable[str], pin_key: Digest) -> list[str]:
    """The tags of a pin key; the first one holds."""
    return sorted(tag for tag in tags if is_pin_of(tag, pin_key))


@dataclass(frozen=True, slots=True)
class Settled:
    """Which lock holds for a pin key, and whether it is the one that was offered.

    ``rivals``: the registry has others for that key.
    """

    lock: LockedEnvironment
    ours: bool
    rivals: bool = False


class RegistryPins:
    """The pins of a workspace's registry; safe for threads.

    A registry that gave no answer is not asked again: ``silent`` says why.
    """

    def __init__(self, remote: Callable[[], Remote]) -> None:
        """Bind; asks nothing."""
        self._remote = remote
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, ...]] = {}
        self.silent: RegistryError | None = None

    def find(self, definition: Digest, pin_key: Digest) -> LockedEnvironment | None:
        """The lock that holds; None when there is none, or the registry gives no answer.

        The tags of a definition are listed once.
        """
        if self.silent is not None:
            return None
        try:
            repository = self._repository(definition)
            with self._lock:
                known = self._known.get(repository.name)
            if known is None:
                known = tuple(repository.tags())
                with self._lock:
                    self._known[repository.name] = known
            return self._read(repository, known, definition, pin_key)
        except RegistryError as error:
            self.silent = error
            return None

    def settle(self, lock: LockedEnvironment, *, offer: bool = True) -> Settled:
        """Which lock holds, of ours and those that are there; ours is pushed if there is none.

        Without ``offer`` nothing is pushed. RegistryError when the registry cannot be asked.
        """
        repository = self._repository(lock.definition)
        mine = pin_tag(lock.pin_key, Digest.of(lock_bytes(lock)))
        there = pin_tags(repository.tags(), lock.pin_key)
        found = self._holding(repository, there, lock, mine)
        if found is None and offer:
            self._push(repository, lock)
            there = pin_tags(repository.tags(), lock.pin_key)
            found = self._holding(repository, there, lock, mine)
        rivals = any(tag != mine for tag in there)
        if found is None or lock_identity(found) == lock_identity(lock):
            return Settled(lock, True, rivals and found is lock)
        return Settled(found, False, rivals)

    def _holding(
        self, repository: RetryingRepository, tags: list[str], lock: LockedEnvironment, mine: str
    ) -> LockedEnvironment | None:
        """The lock that holds; what our own tag shows is known without asking."""
        if tags and tags[0] == mine:
            return lock
        return self._read(repository, tags, lock.definition, lock.pin_key)

    def _repository(self, definition: Digest) -> RetryingRepository:
        return self._remote().repository(image_name(definition))

    def _read(
        self,
        repository: RetryingRepository,
        tags: Iterable[str],
        definition: Digest,
        pin_key: Digest,
    ) -> LockedEnvironment | None:
        """The first lock that is whole: one that is damaged is nobody's."""
        for tag in pin_tags(tags, pin_key):
            try:
                lock = self._fetch(repository, tag, pin_key)
            except RegistryError:
                raise
            except (IntegrityError, NotFoundError):
                continue
            if lock.definition == definition and tag == pin_tag(
                pin_key, Digest.of(lock_bytes(lock))
            ):
                return lock
        return None

    def _fetch(
        self, repository: RetryingRepository, tag: str, pin_key: Digest
    ) -> LockedEnvironment:
        what = f"{repository.name}:{tag}"
        contents = read_contents(repository.get_manifest(tag).data, PIN_TYPE, what)
        return read_pin(contents, fetch_parts(repository, contents), pin_key, what)

    def _push(self, repository: RetryingRepository, lock: LockedEnvironment) -> None:
        data = lock_bytes(lock)
        artifact = pin_artifact(data)
        for digest in repository.missing(artifact.blobs):
            blob = artifact.blobs[digest]
            repository.push_blob(Descriptor("", digest, len(blob)), partial(io.BytesIO, blob))
        tag = pin_tag(lock.pin_key, Digest.of(data))
        repository.put_manifest(tag, artifact.manifest, OCI_IMAGE_MANIFEST)
