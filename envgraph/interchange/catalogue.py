"""Environments of a registry by name: who may share there, what is shared, what it is.

A shared version is the artifact of its record, tagged by the version in the repository
of its name; its image lies where every image of its definition lies. ``latest`` is a tag
that moves; every other label is recorded (:mod:`envgraph.registry.moves`), and has a tag
as well. The registry's owner, where it has one, is the only one who may share.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from envgraph.errors import EnvgraphError, IntegrityError, NotFoundError
from envgraph.interchange.parcel import Parcel, parcel_of
from envgraph.model.history import Change, ChangeRecord
from envgraph.model.names import reserved_prefix
from envgraph.model.oci import OCI_IMAGE_MANIFEST, Descriptor
from envgraph.model.records import VersionRecord
from envgraph.registry.artifacts import (
    ENVIRONMENT_TYPE,
    OWNER_TYPE,
    Artifact,
    EnvironmentRecord,
    environment_artifact,
    fetch_parts,
    owner_artifact,
    read_contents,
    read_environment,
    read_owner,
)
from envgraph.registry.moves import (
    MOVES_TYPE,
    CatalogueState,
    appended,
    moves_artifact,
    read_moves,
    state_of_moves,
)
from envgraph.registry.names import (
    CATALOGUE,
    MOVES_TAG,
    OWNER_REPOSITORY,
    OWNER_TAG,
    catalogue_repository,
    label_tag,
    name_of_repository,
    version_of_tag,
    version_tag,
)
from envgraph.registry.remotes import Remote
from envgraph.registry.retrying import RetryingRepository
from envgraph_store.digest import Digest

LATEST = "latest"


class NotOwnerError(EnvgraphError):
    """Somebody else says what is shared in a registry."""

    default_code = "not-owner"


@dataclass(frozen=True, slots=True)
class Owner:
    """The workspace that a registry belongs to."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Shared:
    """One version of a catalogue: its documents, verified, and the artifact's digest."""

    contents: EnvironmentRecord
    artifact: Digest

    @property
    def record(self) -> VersionRecord:
        """The version."""
        return self.contents.record


class Catalogue:
    """The catalogue of one registry; every method may be called from any thread."""

    def __init__(self, remote: Remote) -> None:
        """Bind; asks nothing."""
        self._remote = remote

    # -- looking ---------------------------------------------------------

    def owner(self) -> Owner | None:
        """Whose registry it is; None where nobody has claimed it."""
        repository = self._remote.repository(OWNER_REPOSITORY)
        what = f"{self._remote.title}: {OWNER_REPOSITORY}:{OWNER_TAG}"
        try:
            manifest = repository.get_manifest(OWNER_TAG)
        except NotFoundError:
            return None
        contents = read_contents(manifest.data, OWNER_TYPE, what)
        return Owner(*read_owner(contents, fetch_parts(repository, contents), what))

    def names(self) -> list[str]:
        """The environments that are shared, sorted."""
        found = (name_of_repository(name) for name in self._remote.list(CATALOGUE))
        return sorted(name for name in found if name is not None)

    def versions(self, name: str) -> list[str]:
        """The versions of an environment, in no order."""
        tags = self._repository(name).tags()
        return [version for tag in tags if (version := version_of_tag(tag)) is not None]

    def meant(self, name: str, version: str | None = None, label: str | None = None) -> Digest:
        """The artifact that a version or label (else ``latest``) means now.

        What a label means, the moves say; a label that nobody has recorded, its tag.
        NotFoundError with what there is instead.
        """
        if version is None and label not in (None, LATEST):
            state = self.state(name)
            if label in state.known:
                version = state.meaning().get(label or "")
                if version is None:
                    raise self._unknown(name, None, label)
        tag = version_tag(version) if version is not None else label_tag(label or LATEST)
        found = self._repository(name).resolve(tag)
        if found is None:
            raise self._unknown(name, version, label)
        return found.digest

    def latest(self, name: str) -> Digest | None:
        """The artifact that ``latest`` means; None where nothing is shared."""
        found = self._repository(name).resolve(label_tag(LATEST))
        return None if found is None else found.digest

    def moves(self, name: str) -> tuple[ChangeRecord, ...]:
        """Every move of a label, archived and restored, the oldest first."""
        found = self._repository(name).resolve(MOVES_TAG)
        return () if found is None else self.read_moves(name, found.digest)

    def moves_digest(self, name: str) -> Digest | None:
        """The artifact that holds the moves now; None where there is none."""
        found = self._repository(name).resolve(MOVES_TAG)
        return None if found is None else found.digest

    def read_moves(self, name: str, artifact: Digest) -> tuple[ChangeRecord, ...]:
        """The moves in an artifact; IntegrityError where their chain is broken."""
        repository = self._repository(name)
        what = f"{self._remote.title}: the moves of {name!r}"
        manifest = repository.get_manifest(str(artifact))
        contents = read_contents(manifest.data, MOVES_TYPE, what)
        return read_moves(contents, fetch_parts(repository, contents), name, what)

    def state(self, name: str) -> CatalogueState:
        """What holds now of the labels and of what is archived."""
        return state_of_moves(self.moves(name))

    def fetch(self, name: str, artifact: Digest) -> Shared:
        """A version's documents; IntegrityError when they are not those of that name."""
        repository = self._repository(name)
        what = f"{self._remote.title}: {name!r} ({artifact})"
        manifest = repository.get_manifest(str(artifact))
        contents = read_contents(manifest.data, ENVIRONMENT_TYPE, what)
        found = read_environment(contents, fetch_parts(repository, contents), what)
        if found.record.environment != name:
            raise IntegrityError(
                f"{what}: it is the environment {found.record.environment!r}",
                code="registry-record",
                hint="the registry is damaged or lies: nothing was kept",
            )
        return Shared(found, artifact)

    def parcel(self, shared: Shared) -> Parcel:
        """The version with its keys, computed anew."""
        title = f"{shared.record.environment}:{shared.record.version}"
        return parcel_of(shared.contents, f"{self._remote.title}: {title}")

    def _unknown(self, name: str, version: str | None, label: str | None) -> NotFoundError:
        known = sorted(self.versions(name))
        if not known:
            return NotFoundError(
                f"the registry {self._remote.name!r} shares no environment {name!r}",
                code="unknown-name",
                hint=f"`envgraph list --registry {self._remote.name}` shows what it shares",
            )
        if version is not None:
            what, code = f"version {version!r}", "unknown-version"
        else:
            what, code = f"label {label or LATEST!r}", "unknown-label"
            known = sorted({LATEST, *self.state(name).labels})
        return NotFoundError(
            f"{name!r} of the registry {self._remote.name!r} has no {what}",
            code=code,
            hint=f"it has {', '.join(known[:10])}",
        )

    def _repository(self, name: str) -> RetryingRepository:
        return self._remote.repository(catalogue_repository(name))

    # -- sharing ---------------------------------------------------------

    def check_share(self, record: VersionRecord, workspace: str, reserved: tuple[str, ...]) -> None:
        """Refuse what may not be shared here, before anything is sent.

        NotOwnerError: the registry belongs to another workspace, or the name is reserved
        for its owner. EnvgraphError ``version-taken``: the version is another one there.
        """
        owner = self.owner()
        if owner is not None and owner.id != workspace:
            raise NotOwnerError(
                f"the registry {self._remote.name!r} belongs to the workspace {owner.name!r}",
                detail="only its owner shares there; everybody may pull",
                hint="share to another registry",
            )
        prefix = reserved_prefix(record.environment, reserved)
        if prefix is not None and owner is None:
            raise NotOwnerError(
                f"the name {record.environment!r} begins with the reserved prefix {prefix!r}",
                code="reserved-prefix",
                detail="such names are for curated environments, in a registry with an owner",
                hint=f"choose another name, for example {'my-' + record.environment!r}",
            )
        there = self._repository(record.environment).resolve(version_tag(record.version))
        if there is None:
            return
        known = self.fetch(record.environment, there.digest).record
        if not is_same(known, record):
            raise EnvgraphError(
                f"version {record.version} of {record.environment!r} is shared already, and"
                " it is another one",
                code="version-taken",
                detail=f"there it is {known.image}, here {record.image}",
                hint="a version never changes once it is shared: share another version",
            )

    def claim(self, workspace: str, name: str) -> None:
        """Make the registry belong to a workspace; NotOwnerError when it has an owner.

        Registries have no compare-and-swap: of two that claim one at the same moment the
        later wins, and the first learns of it here, by reading what it has written.
        """
        for attempt in range(2):
            owner = self.owner()
            if owner is not None and owner.id == workspace:
                return
            if owner is not None or attempt:
                break
            artifact = owner_artifact(workspace, name)
            repository = self._remote.repository(OWNER_REPOSITORY)
            self._put(repository, artifact, [OWNER_TAG])
        raise NotOwnerError(
            f"the registry {self._remote.name!r} belongs to the workspace"
            f" {'' if owner is None else owner.name!r}",
            hint="its owner can share there; ask them, or choose another registry",
        )

    def publish(self, parcel: Parcel, *, latest: bool = True) -> bool:
        """Name a version whose image is in the registry; False when it was shared before.

        ``latest`` means it from now on; without, only where nothing else does.
        """
        record = parcel.record
        repository = self._repository(record.environment)
        tag = version_tag(record.version)
        there = repository.resolve(tag)
        if there is not None:
            return False
        tags = [tag]
        if latest or repository.resolve(label_tag(LATEST)) is None:
            tags.append(label_tag(LATEST))
        self._put(repository, environment_artifact(parcel.contents), tags, record.image_name)
        return True

    def let_mean(self, name: str, label: str, version: str) -> None:
        """Put a label's tag (``latest`` among them) at a version that is shared."""
        repository = self._repository(name)
        manifest = repository.get_manifest(version_tag(version))
        if repository.resolve(label_tag(label)) != manifest.digest:
            repository.put_manifest(label_tag(label), manifest.data, OCI_IMAGE_MANIFEST)

    def record(
        self, name: str, changes: Sequence[Change], *, workspace: str, time: str, tool: str
    ) -> None:
        """Append moves to the catalogue's history of an environment.

        Registries have no compare-and-swap: what was written is read again, and appended
        once more where somebody else has written at the same moment. One window is left:
        whoever writes over it after that look takes its place.
        """
        repository = self._repository(name)
        for _ in range(3):
            moves = appended(
                self.moves(name), changes, name=name, workspace=workspace, time=time, tool=tool
            )
            artifact = moves_artifact(moves)
            self._put(repository, artifact, [MOVES_TAG])
            if self.moves_digest(name) == artifact.digest:
                return

    def _put(
        self,
        repository: RetryingRepository,
        artifact: Artifact,
        tags: list[str],
        mount: str = "",
    ) -> None:
        for digest in sorted(repository.missing(artifact.blobs)):
            if mount and repository.mount(digest, mount):
                continue
            data = artifact.blobs[digest]
            repository.push_blob(Descriptor("", digest, len(data)), partial(io.BytesIO, data))
        for tag in tags:
            repository.put_manifest(tag, artifact.manifest, OCI_IMAGE_MANIFEST)


def is_same(one: VersionRecord, other: VersionRecord) -> bool:
    """Whether two records are of one version: its parts are equal, whoever registered it."""
    return (one.definition, one.runtime, one.image) == (
        other.definition,
        other.runtime,
        other.image,
    ) and {p: lock.identity for p, lock in one.locks.items()} == {
        p: lock.identity for p, lock in other.locks.items()
    }
