"""What moved since an environment was locked: standings, findings, and the policy on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from envgraph.errors import Severity, SourceLocation
from envgraph_store.digest import Digest

CODES: Final[Mapping[str, str]] = {
    "base-moved": "the base's tag names another image now",
    "base-gone": "the base's tag, or the image that is pinned, is not there any more",
    "base-old": "the pinned base is older than the policy allows",
    "base-no-digest": "the base is named by a tag, and the policy wants a digest",
    "context-moved": "the branch, tag or address of a build context has something else now",
    "context-gone": "the branch, tag or address of a build context is not there any more",
    "package-gone": "a locked archive was withdrawn (yanked) from its channel or index",
    "package-changed": "a locked file name now stands for other bytes",
    "package-patched": "the channel changed what a locked package needs",
    "behind": "there are newer releases of a package that the file names",
    "behind-nested": "there are newer releases of packages that came along",
    "allow-expired": "an entry of the policy's `allow:` is past its `until:`",
}
"""Every kind of finding, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class PackageStanding:
    """What a channel or an index says now of one locked package.

    ``versions`` are the newer releases that the environment could have, oldest first;
    ``builds`` counts newer builds of the locked version; ``held`` counts the newer versions
    that its own requirements, or those of its other packages, exclude. ``removed`` and
    ``added`` are requirements (``depends`` and ``constrains``) that a repodata patch took
    away and put in.
    """

    state: Literal["same", "gone", "changed"] = "same"
    versions: tuple[str, ...] = ()
    builds: int = 0
    held: int = 0
    sha256: str = ""
    """Hexadecimal digest under the locked file name now, where the channel says one."""

    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def newest(self) -> str:
        """The newest version; empty when none is newer."""
        return self.versions[-1] if self.versions else ""

    @property
    def behind(self) -> int:
        """Releases since: newer versions, or newer builds where no version is newer."""
        return len(self.versions) or self.builds


@dataclass(frozen=True, slots=True)
class BaseStanding:
    """What a base's reference means now. ``meant`` None: nothing any more.

    In a registry that is the index, where the tag names one, as in
    :attr:`~envgraph.model.locked.LockedBase.meant`.

    ``created``: the time in the pinned image's config, ``2026-11-23T04:25:00Z``, else empty.
    """

    meant: Digest | None
    created: str = ""
    asked: bool = True
    """False where the reference could not be asked: only the age is known."""


@dataclass(frozen=True, slots=True)
class ContextStanding:
    """What a build context's branch or address has now. ``meant`` None: nothing any more.

    A commit, or of an archive its sha256 where that is known, else what its server calls it.
    """

    meant: str | None


@dataclass(frozen=True, slots=True)
class Allowance:
    """One entry of ``allow:``: a finding that is accepted, by whom it concerns, until a day.

    ``environment`` and ``package`` are globs (``*`` by default). ``until`` is a day
    (``2026-12-31``, which is still accepted) or empty.
    """

    code: str
    environment: str = "*"
    package: str = "*"
    until: str = ""
    reason: str = ""
    source: SourceLocation | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """What is tolerated. ``max_age_days`` None: bases may have any age.

    ``max_behind``: newer releases of a package that are no finding.
    """

    max_age_days: int | None = None
    max_behind: int = 0
    require_digest: bool = False
    allow: tuple[Allowance, ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that moved. ``allowed`` is the policy's reason, where it accepts it.

    ``subject``: the base's reference, a build context's address, a package's name
    (``NAME (pip)``), or the file of the policy. ``old`` and ``new`` are digests, commits,
    versions or days, as text.
    """

    code: str
    severity: Severity
    environment: str
    version: str
    subject: str
    old: str
    new: str
    summary: str
    platforms: tuple[str, ...] = ()
    age_days: int | None = None
    """Age of the pinned base, where it is known."""

    behind: int = 0
    held: int = 0
    """Newer versions that the environment's own requirements exclude: they are no finding."""

    allowed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry of ``drift --json``."""
        return {
            "code": self.code,
            "severity": self.severity,
            "environment": self.environment,
            "version": self.version,
            "platforms": list(self.platforms),
            "subject": self.subject,
            "old": self.old,
            "new": self.new,
            "age_days": self.age_days,
            "behind": self.behind,
            "held": self.held,
            "summary": self.summary,
            "allowed": self.allowed,
        }
