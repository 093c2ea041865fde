"""What a workspace answers with: frozen values that show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial

from envgraph.model.locked import LockedEnvironment
from envgraph.model.records import VersionRecord
from envgraph.sdk import html


@dataclass(frozen=True, slots=True)
class Package:
    """One locked package. ``manager``: conda or pip; ``direct``: the environment names it."""

    manager: str
    name: str
    version: str
    build: str
    subdir: str
    channel: str
    sha256: str
    size: int | None
    direct: bool


class PackageList(tuple[Package, ...]):
    """Packages of one lock in its order: conda by name, then pip by name."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        rows = [(p.name, p.version, p.build, p.manager, p.channel) for p in self]
        return html.table(rows, ("name", "version", "build", "manager", "channel"))


@dataclass(frozen=True)
class EnvironmentVersion:
    """One registered version, as it was when it was asked for. Digests are ``sha256:…``.

    Of a version only ``description``, ``tags``, ``labels`` and ``archived`` ever change.
    ``lock`` and ``image`` are those of the first platform, ``locks`` and ``images`` those
    of all. ``changed`` says what differs from the version before. ``created`` is UTC.
    """

    name: str
    version: str
    kind: str
    definition: str = field(repr=False)
    lock: str = field(repr=False)
    image: str
    image_name: str = field(repr=False)
    created: datetime = field(repr=False)
    description: str | None = field(repr=False)
    tags: Mapping[str, str] = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    archived: bool = field(repr=False)
    properties: Mapping[str, str] = field(repr=False)
    changed: tuple[str, ...] = field(repr=False)
    parent: str | None = field(repr=False)
    locks: Mapping[str, str] = field(repr=False)
    images: Mapping[str, str] = field(repr=False)
    _read_lock: Callable[[str | None], LockedEnvironment] = field(repr=False, compare=False)

    @property
    def reference(self) -> str:
        """``name:version``, as every command takes it."""
        return f"{self.name}:{self.version}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that it is locked for, in the workspace's order."""
        return tuple(self.locks)

    @cached_property
    def packages(self) -> PackageList:
        """The packages of the first platform, read from the store when first asked for."""
        return self.packages_of(None)

    def packages_of(self, platform: str | None) -> PackageList:
        """The packages of one platform; NotFoundError for one that it is not locked for."""
        return PackageList(
            Package(
                p.manager, p.name, p.version, p.build, p.subdir, p.channel, p.sha256.hex, p.size,
                p.direct,
            )
            for p in self._read_lock(platform).packages
        )  # fmt: skip

    def _repr_html_(self) -> str:
        rows = [
            ("name", self.name),
            ("version", self.version),
            ("kind", self.kind),
            ("image", self.image),
            ("image name", self.image_name),
            ("lock", self.lock),
            ("definition", self.definition),
            ("platforms", ", ".join(self.platforms)),
            ("created", f"{self.created:%Y-%m-%d %H:%M} UTC"),
        ]
        rows += [("labels", ", ".join(self.labels))] if self.labels else []
        rows += [("archived", "yes")] if self.archived else []
        rows += [("description", self.description)] if self.description else []
        rows += [("tags", html.text_of(dict(self.tags)))] if self.tags else []
        return html.table(rows)


class EnvironmentList(tuple[EnvironmentVersion, ...]):
    """Versions, one row each in a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        rows = [
            (
                v.name,
                v.version,
                ", ".join(v.labels),
                v.kind,
                html.short(v.image),
                f"{v.created:%Y-%m-%d %H:%M}",
            )
            for v in self
        ]
        return html.table(rows, ("name", "version", "labels", "kind", "image", "created (UTC)"))


def version_of(
    record: VersionRecord,
    labels: tuple[str, ...],
    archived: bool,
    read_lock: Callable[[VersionRecord, str | None], LockedEnvironment],
) -> EnvironmentVersion:
    """The value for a record; ``read_lock`` reads its lock when packages are asked for."""
    locks = {platform: str(lock.identity) for platform, lock in record.locks.items()}
    images = {platform: str(digest) for platform, digest in record.images.items()}
    return EnvironmentVersion(
        name=record.environment,
        version=record.version,
        kind=record.kind,
        definition=str(record.definition),
        lock=next(iter(locks.values())),
        image=next(iter(images.values())),
        image_name=record.image_name,
        created=datetime.fromisoformat(record.time),
        description=record.description,
        tags=dict(record.tags),
        labels=labels,
        archived=archived,
        properties=dict(record.properties),
        changed=record.changed,
        parent=record.parent,
        locks=locks,
        images=images,
        _read_lock=partial(read_lock, record),  # can be pickled, as a lambda cannot
    )
