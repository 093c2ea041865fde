"""What a workspace answers with: frozen values that show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial

from envgraph.history.listing import Listing, listing_of
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
        rows = [(p.name, p.version, p.build, p.manager, p.channel) for p in self[: html.ROWS]]
        header = ("name", "version", "build", "manager", "channel")
        return html.table(rows, header, note=html.left_out(len(self), "packages"))


@dataclass(frozen=True)
class EnvironmentVersion:
    """One registered version, as it was when it was asked for. Digests are ``sha256:…``.

    Of a version only ``description``, ``tags``, ``labels`` and ``archived`` ever change.
    ``lock`` and ``image`` are those of the first platform, ``locks`` and ``images`` those
    of all. ``changed`` says what differs from the version before. ``created`` is UTC.
    What :meth:`Environments.list` does not need (``images``, ``properties``, ``changed``,
    ``parent`` and the packages) is read from the store when it is first asked for.
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
    locks: Mapping[str, str] = field(repr=False)
    _read_record: Callable[[], VersionRecord] = field(repr=False, compare=False)
    _read_lock: Callable[[VersionRecord, str | None], LockedEnvironment] = field(
        repr=False, compare=False
    )

    @property
    def reference(self) -> str:
        """``name:version``, as every command takes it."""
        return f"{self.name}:{self.version}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that it is locked for, in the workspace's order."""
        return tuple(self.locks)

    @cached_property
    def _record(self) -> VersionRecord:
        return self._read_record()

    @cached_property
    def images(self) -> Mapping[str, str]:
        """The image of each platform."""
        return {platform: str(digest) for platform, digest in self._record.images.items()}

    @cached_property
    def properties(self) -> Mapping[str, str]:
        """What was registered as ``properties:``."""
        return dict(self._record.properties)

    @property
    def changed(self) -> tuple[str, ...]:
        """What differs from the version before, such as ``definition`` or ``lock``."""
        return self._record.changed

    @property
    def parent(self) -> str | None:
        """What it was cloned from, as a reference."""
        return self._record.parent

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
            for p in self._read_lock(self._record, platform).packages
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
            for v in self[: html.ROWS]
        ]
        header = ("name", "version", "labels", "kind", "image", "created (UTC)")
        return html.table(rows, header, note=html.left_out(len(self), "versions"))


def version_of(
    listing: Listing,
    read_record: Callable[[], VersionRecord],
    read_lock: Callable[[VersionRecord, str | None], LockedEnvironment],
) -> EnvironmentVersion:
    """The value for what a list shows; the two functions read the rest when it is asked for.

    They have to be such as can be pickled.
    """
    locks = {platform: f"sha256:{text}" for platform, text in listing.lock.items()}
    return EnvironmentVersion(
        name=listing.name,
        version=listing.version,
        kind=listing.kind,
        definition=f"sha256:{listing.definition}",
        lock=next(iter(locks.values())),
        image=f"sha256:{listing.image}",
        image_name=listing.image_name,
        created=datetime.fromisoformat(listing.created),
        description=listing.description,
        tags=dict(listing.tags),
        labels=listing.labels,
        archived=listing.archived,
        locks=locks,
        _read_record=read_record,
        _read_lock=read_lock,
    )


def version_of_record(
    record: VersionRecord,
    labels: tuple[str, ...],
    archived: bool,
    read_lock: Callable[[VersionRecord, str | None], LockedEnvironment],
) -> EnvironmentVersion:
    """The value for a record that was read already."""
    listing = listing_of(record, labels, archived=archived)
    return version_of(listing, partial(_same, record), read_lock)


def _same(record: VersionRecord) -> VersionRecord:
    return record
