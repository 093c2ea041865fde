"""Images in the workspace's registry that nothing here needs: found, and deleted when asked.

What is whose, only the record artifacts say: an image without one, or with that of another
workspace, is never listed. What is needed, only this store says: every image of every version
in its history, and images of locks that are pinned. So a version that another machine
pushed, and that this store never saw, looks as if nobody needed it; it is listed with that
reason, and a store that knows no version at all judges nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from envgraph.api.registry import RegistryError
from envgraph.errors import EnvgraphError, NotFoundError
from envgraph.history.read import environment_names, versions
from envgraph.interchange.chain import keys_in
from envgraph.model.oci import Index, Manifest, read_document
from envgraph.model.records import VersionRecord
from envgraph.refresh.pushmemo import PushMemo
from envgraph.refresh.remote import Mapper
from envgraph.refresh.stepgarbage import UnneededSteps, find_steps, is_older
from envgraph.registry.artifacts import (
    ENVIRONMENT_TYPE,
    STEPS,
    VERSION,
    read_contents,
    read_version,
)
from envgraph.registry.names import STEPS_REPOSITORY, version_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import RetryingRepository
from envgraph_store import Digest, Store

IMAGES: Final = "envgraph/envgraph_"
_RECORD: Final = "record-"


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A record artifact of this or another workspace."""

    repository: str
    tag: str
    digest: Digest
    record: VersionRecord
    steps: frozenset[str] = frozenset()
    """The keys of its docker steps whose results it has."""

    @property
    def images(self) -> frozenset[Digest]:
        """Every manifest and index that it stands for."""
        return frozenset({self.record.image, *self.record.images.values()})


@dataclass(frozen=True, slots=True)
class UnneededImage:
    """An image that nothing here needs. ``reason`` says how that came.

    ``size``: bytes of its layers in the registry, those that other images share included; None
    where the image is gone and only its record is left. ``manifests`` are what to delete.
    """

    repository: str
    environment: str
    version: str
    image: Digest
    created: str
    reason: str
    size: int | None
    manifests: tuple[Digest, ...]

    def to_json(self) -> dict[str, Any]:
        """The entry of ``store gc --registry --json``."""
        return {
            "repository": self.repository,
            "name": self.environment,
            "version": self.version,
            "image": str(self.image),
            "created": self.created,
            "reason": self.reason,
            "size": self.size,
            "manifests": [str(digest) for digest in self.manifests],
        }


@dataclass(frozen=True, slots=True)
class RegistryGarbage:
    """What was found.

    ``foreign``: images of other workspaces, ``unknown``: records that nobody can read;
    neither is touched.
    """

    title: str
    unneeded: tuple[UnneededImage, ...]
    needed: int
    young: int
    foreign: int
    unknown: int
    steps: tuple[UnneededSteps, ...] = ()
    """Results of docker steps that belong to no image that stays."""


def find_garbage(
    remote: Remote,
    store: Store,
    workspace_id: str,
    *,
    now: datetime,
    grace: timedelta,
    mapper: Mapper = map,
) -> RegistryGarbage:
    """Look at every image of the registry; what is younger than ``grace`` is left alone.

    NotFoundError when this store knows no version of the workspace; RegistryError when the
    registry does not list what it has. Changes nothing.
    """
    needed, pinned = _needed(store, workspace_id)
    if not needed:
        raise NotFoundError(
            "this store knows no version of this workspace, so everything would look unneeded",
            code="nothing-known",
            hint="run it where the environments were applied, or `envgraph pull` them first",
        )
    recorded: list[_Recorded] = []
    unknown = foreign = 0
    for found, strange in mapper(lambda name: _records(remote, name), list(remote.list(IMAGES))):
        recorded += found
        unknown += strange
    keep: dict[str, set[Digest]] = {}
    doubtful: list[_Recorded] = []
    young = kept = 0
    for item in recorded:
        record = item.record
        is_ours = record.workspace == workspace_id
        is_young = is_ours and not is_older(record.time, now, grace)
        is_needed = bool(item.images & needed) or any(
            lock.record in pinned for lock in record.locks.values()
        )
        if is_ours and not is_young and not is_needed:
            doubtful.append(item)
            continue
        keep.setdefault(item.repository, set()).update(item.images)
        foreign += not is_ours
        young += is_young and not is_needed
        kept += is_ours and is_needed
    unneeded = [item for item in doubtful if item.record.image not in keep.get(item.repository, ())]
    described = mapper(
        lambda item: _describe(remote, item, keep.get(item.repository, set())), unneeded
    )
    doomed = {item.digest for item in unneeded}
    keys = {key for item in recorded if item.digest not in doomed for key in item.steps}
    steps = () if unknown else find_steps(remote, keys, now=now, grace=grace, mapper=mapper)
    return RegistryGarbage(
        remote.title,
        tuple(sorted(described, key=lambda item: (item.environment, item.created))),
        kept + len(doubtful) - len(unneeded),
        young,
        foreign,
        unknown,
        steps,
    )


def delete_image(remote: Remote, item: UnneededImage, memo: PushMemo | None = None) -> None:
    """Delete an image's manifests with every tag that names them; its record goes last.

    So one that broke off is found, and finished, the next time. RegistryError
    ``registry-unsupported`` when the registry deletes nothing. The bytes of layers are
    freed by the registry's own garbage collection. ``memo`` forgets that it was pushed.
    """
    if memo is not None:
        for image in (None, item.image):
            memo.forget(item.repository, version_tag(item.version, image))
    _delete(remote, item.repository, item.manifests)


def delete_steps(remote: Remote, item: UnneededSteps) -> None:
    """Delete what a builder made of steps, with every tag that names it. RegistryError alike."""
    _delete(remote, STEPS_REPOSITORY, [item.artifact])


def _delete(remote: Remote, name: str, manifests: Iterable[Digest]) -> None:
    repository = remote.repository(name)
    for digest in manifests:
        try:
            repository.delete(str(digest))
        except NotFoundError:
            continue
        except RegistryError as error:
            [first, *_] = error.diagnostics
            if first.code != "registry-unsupported":
                raise
            raise RegistryError(
                f"{remote.title} does not delete images",
                code=first.code,
                detail=first.detail,
                hint="docker's registry does with REGISTRY_STORAGE_DELETE_ENABLED=true",
            ) from error


def _needed(store: Store, workspace_id: str) -> tuple[frozenset[Digest], frozenset[Digest]]:
    """Images of all versions in this store's history, and the lock records that are pinned."""
    images: set[Digest] = set()
    for name in environment_names(store, workspace_id):
        for record in versions(store, workspace_id, name):
            images |= {record.image, *record.images.values()}
    pins = store.refs.list(f"pins/{workspace_id}/")
    return frozenset(images), frozenset(Digest(ref.value["lock"]) for ref in pins.values())


def _records(remote: Remote, name: str) -> tuple[list[_Recorded], int]:
    """The record artifacts of a repository, and how many of them cannot be read."""
    repository = remote.repository(name)
    found, unknown = [], 0
    for tag in sorted(repository.tags()):
        if not tag.startswith(_RECORD):
            continue
        try:
            found.append(_read(repository, remote.title, name, tag))
        except NotFoundError:
            continue  # deleted since
        except RegistryError:
            raise
        except EnvgraphError:
            unknown += 1
    return found, unknown


def _read(repository: RetryingRepository, title: str, name: str, tag: str) -> _Recorded:
    what = f"{title}: {name}:{tag}"
    manifest = repository.get_manifest(tag)
    contents = read_contents(manifest.data, ENVIRONMENT_TYPE, what)
    blobs = {}
    steps: set[str] = set()
    for part in contents.parts:
        if part.media_type in (VERSION, STEPS):
            with repository.open_blob(part.digest, part.size) as body:
                blobs[part.digest] = body.read(part.size + 1)
        if part.media_type == STEPS:
            steps.update(keys_in(blobs[part.digest], what)[2])
    record = read_version(contents, blobs, what)
    return _Recorded(name, tag, manifest.digest, record, frozenset(steps))


def _describe(remote: Remote, item: _Recorded, keep: Collection[Digest]) -> UnneededImage:
    repository = remote.repository(item.repository)
    record = item.record
    size, manifests = _manifests(repository, record.image)
    tag = version_tag(record.version)
    shown = repository.resolve(tag)
    own = repository.resolve(version_tag(record.version, record.image))
    reason = "no version in this store has it; another machine may have pushed it"
    if size is None:
        reason = "only its record is left"
    elif (shown is None or shown.digest != record.image) and own is None:
        reason = f"version {record.version} is another image now"
    return UnneededImage(
        item.repository,
        record.environment,
        record.version,
        record.image,
        record.time,
        reason,
        size,
        (*(digest for digest in manifests if digest not in keep), item.digest),
    )


def _manifests(
    repository: RetryingRepository, image: Digest
) -> tuple[int | None, tuple[Digest, ...]]:
    """Bytes of an image's layers, and its manifests, the index first; None and none when gone."""
    try:
        document = _document(repository, image)
        if isinstance(document, Manifest):
            return _layers(document), (image,)
        below = [entry.digest for entry in document.manifests]
        parts = [_document(repository, digest) for digest in below]
    except NotFoundError:
        return None, ()
    return sum(_layers(part) for part in parts if isinstance(part, Manifest)), (image, *below)


def _document(repository: RetryingRepository, digest: Digest) -> Manifest | Index:
    found = repository.get_manifest(str(digest))
    return read_document(found.data, found.media_type, f"{repository.name}: {digest}")


def _layers(manifest: Manifest) -> int:
    return sum({layer.digest: layer.size for layer in manifest.layers}.values())


def total(items: Iterable[UnneededImage]) -> int:
    """Bytes of layers; those that images share are counted for each."""
    return sum(item.size or 0 for item in items)
