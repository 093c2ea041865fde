"""Pieces of an import put together: channel names, the environment file's text, direct marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from envgraph.conda.channels import locate
from envgraph.interchange.imports.environment_text import environment_text
from envgraph.interchange.imports.foreign import ForeignLock
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedPackage


def named_channels(foreign: ForeignLock, config: WorkspaceConfig) -> ForeignLock:
    """The lock with its channels called what the workspace calls them.

    An address that ``channels:`` in envgraph.yaml gives for a name is that channel: the
    same packages from a mirror are the same environment.
    """
    names = {
        source.address: name
        for name in config.channels
        for source in locate(name, {}, config)
        if source.name == name
    }
    if not names:
        return foreign
    return replace(
        foreign,
        channels=tuple(dict.fromkeys(names.get(c, c) for c in foreign.channels)),
        platforms={
            platform: tuple(replace(p, channel=names.get(p.channel, p.channel)) for p in packages)
            for platform, packages in foreign.platforms.items()
        },
    )


def channels_in(packages: Mapping[str, Sequence[LockedPackage]]) -> tuple[str, ...]:
    """The channels of the packages in order of first use."""
    return tuple(
        dict.fromkeys(
            p.channel for found in packages.values() for p in found if p.manager == "conda"
        )
    )


def written_text(
    origin: str,
    foreign: ForeignLock,
    chosen: Sequence[str],
    conda: Sequence[tuple[str, str]],
    pip: Sequence[str],
    channels: Sequence[str],
) -> str:
    """The environment file for what is imported from ``origin``, a file's name."""
    return environment_text(
        name=foreign.name,
        origin=f"{origin} ({foreign.title})",
        channels=channels,
        conda=conda,
        pip=pip,
        platforms=chosen,
        variables=foreign.variables,
        image=image_of(foreign),
    )


def image_of(foreign: ForeignLock) -> str | None:
    """The base that the lock names; None where the workspace's default is meant."""
    return next((lock.base.reference for lock in foreign.ready.values()), None)


def marked(
    packages: Sequence[LockedPackage], roots: frozenset[tuple[str, str]]
) -> tuple[LockedPackage, ...]:
    """The packages; ``direct`` are those that the environment file names."""
    return tuple(replace(p, direct=(p.manager, p.name) in roots) for p in packages)
