"""What moved since a lock was taken, judged by a policy. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Final

from envgraph.errors import Severity
from envgraph.model.drift import (
    CODES,
    Allowance,
    BaseStanding,
    ContextStanding,
    DriftPolicy,
    Finding,
    PackageStanding,
)
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage

OLDEST_BELIEVED: Final = "1990"
"""Images that are built reproducibly say a fixed day such as 1970-01-01 or 1980-01-01."""

_ORDER: Final = {code: index for index, code in enumerate(CODES)}
_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Locked:
    """One platform of one version, with what is known now of its base and packages.

    A package without a standing could not be asked about.
    """

    environment: str
    version: str
    lock: LockedEnvironment
    base: BaseStanding | None = None
    packages: Mapping[LockedPackage, PackageStanding] = field(default_factory=dict)
    images: Mapping[LockedBase, BaseStanding] = field(default_factory=dict)
    """The standings of the other images that docker steps or a Dockerfile name."""

    context: ContextStanding | None = None
    """Of a build context at an address; None where it never moves or was not asked."""


def find_drift(locked: Iterable[Locked], policy: DriftPolicy, now: datetime) -> tuple[Finding, ...]:
    """Every finding, those that the policy allows with its reason; platforms that agree are one.

    Sorted by environment, then by kind as :data:`CODES` lists them.
    """
    found: dict[Finding, list[str]] = {}
    for item in locked:
        bases = [finding for base in item.lock.bases for finding in _base(item, base, policy, now)]
        for finding in [*bases, *_context(item, now), *_packages(item, policy)]:
            found.setdefault(finding, []).append(item.lock.platform)
    findings = [replace(f, platforms=tuple(platforms)) for f, platforms in found.items()]
    today = now.astimezone(UTC).strftime("%Y-%m-%d")
    valid = [entry for entry in policy.allow if not entry.until or today <= entry.until]
    findings = [_judged(finding, valid) for finding in findings]
    findings += [_expired(entry, policy) for entry in policy.allow if entry not in valid]
    return tuple(sorted(findings, key=lambda f: (f.environment, _ORDER[f.code], f.subject)))


def _base(item: Locked, base: LockedBase, policy: DriftPolicy, now: datetime) -> list[Finding]:
    standing = item.base if base == item.lock.base else item.images.get(base)
    if base.manifest is None:
        return []
    known = standing or BaseStanding(None, asked=False)
    age = days_since(known.created, now) if known.created >= OLDEST_BELIEVED else None
    locked_ago = days_since(item.lock.created, now)
    old = str(base.meant)
    found = []

    def note(code: str, severity: Severity, new: str, summary: str) -> None:
        found.append(
            Finding(
                code, severity, item.environment, item.version, base.reference, old, new,
                summary, age_days=age,
            )
        )  # fmt: skip

    since = f"locked {_ago(locked_ago)}" + (f", made {_ago(age)}" if age is not None else "")
    if known.asked and known.meant is None:
        note("base-gone", "error", "", f"the image that is pinned is not there now; {since}")
    elif known.asked and known.meant != base.meant:
        note("base-moved", "warning", str(known.meant), f"names another image now; {since}")
    least = max((days for days in (age, locked_ago) if days is not None), default=None)
    limit = policy.max_age_days
    if limit is not None and least is not None and least > limit:
        at_least = "" if age is not None else "at least "
        text = f"is {at_least}{_days(least)} old, and the policy allows {limit}"
        note("base-old", "error", "", text)
    if policy.require_digest and "@sha256:" not in base.reference:
        note("base-no-digest", "error", "", "is no digest, which the policy requires")
    return found


def _context(item: Locked, now: datetime) -> list[Finding]:
    """Whether the branch or address that the context came from has something else by now."""
    context = item.lock.context
    origin = None if context is None else context.origin
    if origin is None or item.context is None or item.context.meant == origin.pinned:
        return []
    since = f"locked {_ago(days_since(item.lock.created, now))}"
    new = item.context.meant
    what = "another commit" if origin.kind == "git" else "another archive"
    code, severity, summary = "context-moved", "warning", f"means {what} now; {since}"
    if new is None:
        code, severity, summary = "context-gone", "error", f"is not there now; {since}"
    return [
        Finding(
            code, "error" if severity == "error" else "warning", item.environment, item.version,
            origin.address, origin.pinned, new or "", summary,
        )
    ]  # fmt: skip


def _packages(item: Locked, policy: DriftPolicy) -> list[Finding]:
    found: list[Finding] = []
    nested: list[int] = []
    for package, standing in item.packages.items():
        found += _package(item, package, standing)
        if standing.behind <= policy.max_behind:
            continue
        if package.direct:
            found.append(_behind(item, package, standing, policy))
        else:
            nested.append(standing.behind)
    if nested:
        packages = f"{len(nested)} nested package{'s have' if len(nested) > 1 else ' has'}"
        releases = f"{sum(nested)} newer release{'s' if sum(nested) > 1 else ''}"
        found.append(
            Finding(
                "behind-nested", "info", item.environment, item.version, "nested packages",
                "", "", f"{packages} {releases}", behind=sum(nested),
            )
        )  # fmt: skip
    return found


def _package(item: Locked, package: LockedPackage, standing: PackageStanding) -> list[Finding]:
    """What became of the very archive that is locked: one finding, or none."""
    where = package.channel or "the index"
    severity: Severity = "error"
    if standing.state == "gone":
        code, old, new = "package-gone", package.version, standing.newest
        summary = f"{package.version} {package.build}".strip() + f" was withdrawn from {where}"
    elif standing.state == "changed":
        code, old = "package-changed", f"sha256:{package.sha256.hex}"
        new = f"sha256:{standing.sha256}" if standing.sha256 else ""
        summary = f"{package.file_name} in {where} has other bytes than the lock"
    elif standing.removed or standing.added:
        code, severity = "package-patched", "warning"
        old, new = "; ".join(standing.removed), "; ".join(standing.added)
        summary = f"{package.version}: {_patched(standing)}"
    else:
        return []
    return [
        Finding(
            code, severity, item.environment, item.version, _title(package), old, new, summary
        )
    ]  # fmt: skip


def _title(package: LockedPackage) -> str:
    return package.name if package.manager == "conda" else f"{package.name} (pip)"


def _behind(
    item: Locked, package: LockedPackage, standing: PackageStanding, policy: DriftPolicy
) -> Finding:
    count = standing.behind
    summary = f"{count} newer {'version' if standing.versions else 'build'}"
    summary += "s" if count > 1 else ""
    if standing.held:
        summary += f", and {standing.held} that the requirements exclude"
    if policy.max_behind:
        summary += f"; the policy allows {policy.max_behind}"
    return Finding(
        "behind",
        "error" if policy.max_behind else "info",
        item.environment,
        item.version,
        _title(package),
        package.version,
        standing.newest or package.version,
        summary,
        behind=count,
        held=standing.held,
    )


def _patched(standing: PackageStanding) -> str:
    parts = []
    if standing.removed:
        parts.append("no longer needs " + ", ".join(standing.removed))
    if standing.added:
        parts.append("needs " + ", ".join(standing.added) + " now")
    return "; ".join(parts)


def _judged(finding: Finding, allowed: Sequence[Allowance]) -> Finding:
    """The finding with the reason of the first entry that accepts it."""
    for entry in allowed:
        if (
            entry.code == finding.code
            and fnmatchcase(finding.environment, entry.environment)
            and fnmatchcase(finding.subject.removesuffix(" (pip)"), entry.package)
        ):
            return replace(finding, allowed=entry.reason)
    return finding


def _expired(entry: Allowance, policy: DriftPolicy) -> Finding:
    place = str(entry.source) if entry.source else policy.file
    return Finding(
        "allow-expired", "warning", "", "", place, entry.until, "",
        f"`allow: {entry.code}` for {entry.environment} {entry.package} ended on {entry.until}",
    )  # fmt: skip


def days_since(timestamp: str, now: datetime) -> int | None:
    """Whole days from an RFC 3339 time to ``now``; None for a text that is none."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int((now - moment).total_seconds() // _DAY))


def _days(count: int) -> str:
    return f"{count} day{'' if count == 1 else 's'}"


def _ago(count: int | None) -> str:
    if count is None:
        return "at an unknown time"
    return f"{_days(count)} ago" if count else "today"
