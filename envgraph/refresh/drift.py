"""Ask what moved since environments were locked: bases, channels, indexes. Keeps nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from envgraph.conda.channels import ChannelSource, locate
from envgraph.conda.logins import Logins
from envgraph.conda.releases import ChannelQuestion, Wanted, ask_channels, recorded_source
from envgraph.conda.transport import Transport
from envgraph.diff.drift import Locked, find_drift
from envgraph.errors import EnvgraphError, OfflineError
from envgraph.lock.images import resolve_base
from envgraph.lock.pipindex import PackageIndexes, needs_connection, wanted_wheels
from envgraph.lock.registry_bases import RegistryBases
from envgraph.model.config import WorkspaceConfig
from envgraph.model.drift import (
    BaseStanding,
    DriftPolicy,
    Finding,
    PackageStanding,
)
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.records import VersionRecord
from envgraph.model.reference import LocalReference, RegistryReference, parse_reference
from envgraph.model.spec import CondaSpec, EnvironmentSpec
from envgraph.refresh.asking import Asking, Skipped, Subject
from envgraph.refresh.context_drift import ask_contexts
from envgraph.spec.match_spec import package_name
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError

CONFIG_LIMIT: Final = 4 << 20
_NOTHING_THERE: Final = frozenset(
    {"missing-image", "base-name", "base-tag", "base-platform", "base-gone"}
)

__all__ = ["DriftReport", "Skipped", "Subject", "ask_drift", "subjects_of", "what_means_now"]

BaseNow = Callable[[str, str | None, str], Digest | None]
"""``(reference, path behind it, platform)`` → the manifest (of a tag, the index) that it means
now; None when it means nothing any more."""


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The findings, how much was looked at, and what could not be asked."""

    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    checked: Mapping[str, int]

    @property
    def open(self) -> tuple[Finding, ...]:
        """Findings that the policy does not accept."""
        return tuple(finding for finding in self.findings if finding.allowed is None)

    def to_json(self) -> dict[str, Any]:
        """The object of ``drift --json``."""
        count: dict[str, int] = {}
        for finding in self.open:
            count[finding.code] = count.get(finding.code, 0) + 1
        return {
            "findings": [finding.to_json() for finding in self.findings],
            "summary": {
                "open": len(self.open),
                "allowed": len(self.findings) - len(self.open),
                "by_code": count,
            },
            "checked": dict(self.checked),
            "skipped": [item.to_json() for item in self.skipped],
        }


def what_means_now(bases: RegistryBases) -> BaseNow:
    """Bases asked where they are: images on disk read, tags in registries looked up.

    A tag costs one question, without a body.
    """

    def ask(reference: str, path: str | None, platform: str) -> Digest | None:
        parsed = parse_reference(reference)
        if isinstance(parsed, RegistryReference):
            return bases.meant_now(parsed)
        return resolve_base(reference, path, platform).locked.manifest

    return ask


def subjects_of(
    pairs: Iterable[tuple[VersionRecord, LockedEnvironment]], specs: Iterable[EnvironmentSpec]
) -> tuple[Subject, ...]:
    """Each version on each platform with the environment file of its name, if there is one."""
    by_name = {spec.name: spec for spec in specs}
    return tuple(Subject(record, lock, by_name.get(record.environment)) for record, lock in pairs)


def ask_drift(
    config: WorkspaceConfig,
    store: Store,
    subjects: Sequence[Subject],
    policy: DriftPolicy,
    *,
    base_now: BaseNow,
    now: datetime,
    offline: bool,
    cache: Path,
) -> DriftReport:
    """Ask each base and context once, each channel once for each platform; judge by the policy.

    What cannot be asked (a registry or channel that is down, or that ``offline``
    forbids) is skipped with its reason and stops nothing else.
    """
    asking = Asking()
    bases = _ask_bases(store, subjects, base_now, asking)
    contexts = ask_contexts(config, store, subjects, asking, offline=offline)
    packages = _ask_packages(config, subjects, offline, cache, asking)
    with Transport(logins=Logins(os.environ)) as transport:
        wheels = _ask_wheels(config, subjects, offline, PackageIndexes(transport), asking)
    locked = []
    for subject in subjects:
        record, lock = subject.record, subject.lock
        standings = {
            wanted.package: found
            for wanted in _wanted(subject)
            if (found := packages.get((lock.platform, wanted))) is not None
        } | wheels.get((record.environment, record.version, lock.platform), {})
        own, *others = ((base, bases.get(_base_key(subject, base))) for base in lock.bases)
        images = {base: found for base, found in others if found is not None}
        origin = None if lock.context is None else lock.context.origin
        locked.append(
            Locked(
                record.environment, record.version, lock, own[1], standings, images,
                None if origin is None else contexts.get(origin),
            )
        )  # fmt: skip
    return DriftReport(
        find_drift(locked, policy, now),
        asking.skipped(),
        {
            "environments": len({subject.record.environment for subject in subjects}),
            "bases": sum(1 for standing in bases.values() if standing.asked),
            "contexts": sum(1 for standing in contexts.values() if standing is not None),
            "packages": len({package for item in locked for package in item.packages}),
        },
    )


# -- bases -------------------------------------------------------------------

_BaseKey = tuple[LockedBase, str | None, str]


def _base_key(subject: Subject, base: LockedBase) -> _BaseKey:
    return base, _path(subject, base), subject.lock.platform


def _path(subject: Subject, base: LockedBase) -> str | None:
    """The absolute path behind ``oci:`` or ``docker-archive:``, from the environment's file."""
    spec = subject.spec
    if spec is None or spec.image != base.reference:
        return None
    return spec.image_path


def _ask_bases(
    store: Store, subjects: Sequence[Subject], base_now: BaseNow, asking: Asking
) -> dict[_BaseKey, BaseStanding]:
    users: dict[_BaseKey, list[str]] = {}
    for subject in subjects:
        for base in subject.lock.bases:
            if base.manifest is not None:
                key = _base_key(subject, base)
                users.setdefault(key, []).append(subject.record.environment)
    means: dict[tuple[str, str | None, str], Digest | EnvgraphError | None] = {}
    found = {}
    for (base, path, platform), names in users.items():
        created = _created(store, base)
        if "@sha256:" in base.reference:  # a digest never means anything else
            found[base, path, platform] = BaseStanding(base.meant, created)
            continue
        place = (base.reference, path, platform)
        if place not in means:
            means[place] = _means(*place, base_now)
        answer = means[place]
        if isinstance(answer, EnvgraphError):
            asking.skip(f"base {base.reference}", names, answer)
            found[base, path, platform] = BaseStanding(None, created, asked=False)
        else:
            found[base, path, platform] = BaseStanding(answer, created)
    return found


def _means(
    reference: str, path: str | None, platform: str, base_now: BaseNow
) -> Digest | EnvgraphError | None:
    parsed = parse_reference(reference)
    if isinstance(parsed, LocalReference) and path is None:
        if not Path(parsed.path).is_absolute():
            return EnvgraphError(
                f"{reference} is a relative path, and no file of the workspace names it now",
                code="base-unknown",
            )
        path = parsed.path
    try:
        return base_now(reference, path, platform)
    except EnvgraphError as error:
        # That there is nothing is an answer; that nobody answers is none.
        return None if error.diagnostics[0].code in _NOTHING_THERE else error


def _created(store: Store, base: LockedBase) -> str:
    """``created`` of the base's config, where the store has it; else empty."""
    if base.config is None:
        return ""
    try:
        document = json.loads(store.blobs.read(base.config, limit=CONFIG_LIMIT))
    except (StoreError, ValueError):
        return ""
    created = document.get("created") if isinstance(document, dict) else None
    return created if isinstance(created, str) else ""


# -- packages ----------------------------------------------------------------

_Standings = dict[tuple[str, Wanted], PackageStanding]


def _ask_packages(
    config: WorkspaceConfig,
    subjects: Sequence[Subject],
    offline: bool,
    cache: Path,
    asking: Asking,
) -> _Standings:
    asked: dict[tuple[ChannelSource, str], dict[Wanted, None]] = {}
    users: dict[tuple[ChannelSource, str], dict[str, None]] = {}
    for subject in subjects:
        sources: dict[str, ChannelSource | EnvgraphError] = {}
        for wanted in _wanted(subject):
            package = wanted.package
            if package.channel not in sources:
                sources[package.channel] = _source(package, subject.spec, config, offline)
            source = sources[package.channel]
            if isinstance(source, EnvgraphError):
                name = subject.record.environment
                asking.skip(f"channel {package.channel}", [name], source)
                continue
            key = (source, subject.lock.platform)
            asked.setdefault(key, {})[wanted] = None
            users.setdefault(key, {})[subject.record.environment] = None
    questions = [
        ChannelQuestion(source, platform, tuple(packages))
        for (source, platform), packages in asked.items()
    ]
    found: _Standings = {}
    for answer in ask_channels(questions, cache=cache / "repodata"):
        source, platform = answer.question.source, answer.question.platform
        if answer.error is not None:
            asking.skip(f"channel {source.title}", users[source, platform], answer.error)
        found |= {(platform, wanted): said for wanted, said in answer.standings.items()}
    return found


def _wanted(subject: Subject) -> list[Wanted]:
    """The conda packages of a lock, each with what its environment asks of another release."""
    lock, spec = subject.lock, subject.spec
    conda = [package for package in lock.packages if package.manager == "conda"]
    texts: dict[str, set[str]] = {}
    for package in conda:
        for text in (*package.depends, *package.constrains):
            texts.setdefault(package_name(text), set()).add(text)
    if spec is not None and spec.conda is not None:
        for requirement in spec.conda.for_platform(lock.platform):
            text = requirement.text.rpartition("::")[2]
            texts.setdefault(package_name(text), set()).add(text)
    python = tuple(p for p in conda if p.name in ("python", "python_abi"))
    return [Wanted(package, frozenset(texts.get(package.name, ())), python) for package in conda]


def _source(
    package: LockedPackage, spec: EnvironmentSpec | None, config: WorkspaceConfig, offline: bool
) -> ChannelSource | EnvgraphError:
    """Where a package's channel is now: mirrors of envgraph.yaml count."""
    conda = spec.conda if spec is not None and spec.conda is not None else CondaSpec()
    name = package.channel
    try:
        source: ChannelSource | None
        if name.startswith(".") and name not in conda.channel_paths:
            source = recorded_source(package)
        else:
            located = locate(name, conda.channel_paths, config)
            source = located[0] if len(located) == 1 else recorded_source(package)
    except EnvgraphError as error:
        return error
    if source is None:
        return EnvgraphError(f"where the channel {name} is, no file here says", code="no-channel")
    if offline and not source.is_file:
        return OfflineError(f"the channel {source.title} would be asked, and --offline asks none")
    return source


# -- wheels ------------------------------------------------------------------


def _ask_wheels(
    config: WorkspaceConfig,
    subjects: Sequence[Subject],
    offline: bool,
    indexes: PackageIndexes,
    asking: Asking,
) -> dict[tuple[str, str, str], dict[LockedPackage, PackageStanding]]:
    """The standings of each version's wheels, by environment, version and platform.

    Newer releases are counted of those that the file names.
    """
    found = {}
    for record, lock, spec in ((s.record, s.lock, s.spec) for s in subjects):
        name = record.environment
        conda = spec.conda if spec is not None and spec.conda is not None else CondaSpec()
        try:
            wanted = wanted_wheels(lock, conda, config)
        except EnvgraphError as error:
            asking.skip(f"package indexes of {name}", [name], error)
            continue
        standings = {}
        for wheel in wanted:
            remote = needs_connection(wheel)
            what = f"package index {remote}" if remote else f"package index of {name}"
            try:
                if offline and remote:
                    raise OfflineError(f"{what} would be asked, and --offline asks none")
                said = indexes.ask(wheel)
                if not wheel.package.direct:  # what other wheels ask of it is not known
                    said = replace(said, versions=())
                standings[wheel.package] = said
            except EnvgraphError as error:
                asking.skip(what, [name], error)
        found[name, record.version, lock.platform] = standings
    return found
