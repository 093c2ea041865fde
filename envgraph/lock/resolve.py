"""One environment on one platform → its lock, by asking channels and indexes now."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from envgraph.conda.channels import channel_sources
from envgraph.conda.gateway import Gateways
from envgraph.conda.logins import Logins
from envgraph.conda.request import SolveRequest
from envgraph.conda.solve import SolveAnswer, solve, solver_version
from envgraph.conda.specs import parse_requirements
from envgraph.conda.transport import Transport
from envgraph.errors import Diagnostic, InputError, ResolveError
from envgraph.folders import cache_folder
from envgraph.lock.contract import pin_key_of, virtual_packages
from envgraph.lock.packages import PackageStore, locked_conda_packages
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph.model.spec import CondaSpec, EnvironmentSpec
from envgraph_store.digest import Digest

Progress = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class LockOutcome:
    """A lock, and what the user should know about how it came to be."""

    lock: LockedEnvironment
    diagnostics: tuple[Diagnostic, ...] = ()


def default_cache(environ: Mapping[str, str] | None = None) -> Path:
    """Where repodata and uv's metadata are remembered; deleting it costs only time."""
    return Path(cache_folder(os.environ if environ is None else environ))


def lock_environment(
    spec: EnvironmentSpec,
    platform: str,
    config: WorkspaceConfig,
    *,
    base: LockedBase,
    definition: Digest,
    packages: PackageStore,
    now: datetime,
    offline: bool,
    previous: LockedEnvironment | None = None,
    update: frozenset[str] | None = None,
    progress: Progress | None = None,
    cache: Path | None = None,
    gateways: Gateways | None = None,
) -> LockOutcome:
    """Resolve ``spec`` now. ``now`` must carry a time zone and is only recorded.

    With ``previous`` and ``update`` every package that ``update`` does not name stays
    as it was, if that can be. ``gateways`` are shared by what is locked together. Raises
    InputError, ResolveError, FetchError, IntegrityError and OfflineError, each with every
    problem that was found.
    """
    conda = spec.conda or CondaSpec()
    conda = replace(conda, dependencies=conda.for_platform(platform))
    folder = cache or default_cache()
    solver: dict[str, str] = {}
    diagnostics: list[Diagnostic] = []
    found: tuple[LockedPackage, ...] = ()
    with Transport(logins=Logins(os.environ)) as transport:
        if conda.dependencies:
            answer = _solve_conda(
                conda, platform, config, previous, update, folder, offline, gateways, diagnostics
            )
            solver["conda"] = solver_version()
            found = locked_conda_packages(
                answer.candidates, packages, offline=offline, transport=transport,
                progress=progress,
            )  # fmt: skip
        if conda.pip:
            from envgraph.lock.pip import PipRequest, resolve_pip

            wheels = resolve_pip(
                PipRequest(conda, platform, found, virtual_packages(config, platform),
                           previous, update,
                           previous is not None and previous.definition == definition),
                config, packages, cache=folder, offline=offline, transport=transport,
            )  # fmt: skip
            solver["pip"] = wheels.solver
            diagnostics += wheels.diagnostics
            found += wheels.packages
    lock = LockedEnvironment(
        definition=definition,
        pin_key=pin_key_of(spec, platform, config, definition),
        platform=platform,
        base=base,
        packages=found,
        steps=steps_of(spec),
        created=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        solver=solver,
    )
    diagnostics += _went_back(lock, previous)
    return LockOutcome(lock, tuple(diagnostics))


def steps_of(spec: EnvironmentSpec) -> tuple[str, ...]:
    """Docker steps as the lock holds them: instruction, then the digests of its files."""
    return tuple(
        "\n".join([step.instruction, *(f"{i.path} {i.tree}" for i in step.inputs)])
        for step in spec.docker_steps
    )


def _solve_conda(
    conda: CondaSpec,
    platform: str,
    config: WorkspaceConfig,
    previous: LockedEnvironment | None,
    update: frozenset[str] | None,
    cache: Path,
    offline: bool,
    gateways: Gateways | None,
    diagnostics: list[Diagnostic],
) -> SolveAnswer:
    channels = channel_sources(conda, config)
    request = SolveRequest(
        specs=parse_requirements(conda, channels, config),
        channels=channels,
        platform=platform,
        virtual_packages=virtual_packages(config, platform),
    )
    names = {source.name for source in channels}
    kept = tuple(p for p in _kept(previous, update) if p.channel in names)
    ask = partial(solve, cache=cache / "repodata", offline=offline, gateways=gateways)
    if not kept:
        answer = ask(request)
    else:
        try:
            answer = ask(replace(request, pinned=kept))
        except ResolveError:
            answer = ask(replace(request, preferred=kept))
            diagnostics += _moved(kept, answer) if update else []
    diagnostics += answer.diagnostics
    return answer


def _kept(
    previous: LockedEnvironment | None, update: frozenset[str] | None
) -> tuple[LockedPackage, ...]:
    if previous is None or update is None:
        return ()
    unknown = sorted(update - {package.name for package in previous.packages})
    if unknown:
        raise InputError(
            "not in the lock: " + ", ".join(unknown),
            code="update-unknown",
            hint="`--update` takes names of locked packages",
        )
    return tuple(p for p in previous.packages if p.manager == "conda" and p.name not in update)


def _moved(kept: Sequence[LockedPackage], answer: SolveAnswer) -> list[Diagnostic]:
    before = {package.name: package for package in kept}
    return [
        Diagnostic(
            "update-moved",
            f"{c.name} moves from {before[c.name].version} to {c.version}: the update needs it",
            severity="warning",
        )
        for c in answer.candidates
        if c.name in before
        and (c.version, c.build) != (before[c.name].version, before[c.name].build)
    ]


def _went_back(lock: LockedEnvironment, previous: LockedEnvironment | None) -> list[Diagnostic]:
    """Warn when a channel seems to have been rolled back."""
    if previous is None or previous.definition != lock.definition:
        return []
    before = {(p.manager, p.name): p for p in previous.packages}
    warnings = []
    for package in lock.packages:
        old = before.get((package.manager, package.name))
        if (
            old is not None
            and old.channel == package.channel
            and old.sha256 != package.sha256
            and 0 < package.timestamp_ms < old.timestamp_ms
        ):
            warnings.append(
                Diagnostic(
                    "channel-went-back",
                    f"{package.name}: {package.channel} now gives {package.version} "
                    f"{package.build}, which is older than the locked {old.version} {old.build}",
                    hint="was the channel rolled back, or the package withdrawn?",
                    severity="warning",
                )
            )
    return warnings
