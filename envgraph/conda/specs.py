"""Conda requirements as written → text that rattler's solver reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from envgraph.conda import credentials
from envgraph.conda.channels import ChannelSource, locate
from envgraph.errors import Diagnostic, InputError, SourceLocation
from envgraph.model.config import WorkspaceConfig
from envgraph.model.spec import CondaSpec, Requirement

_SUBDIR: Final = re.compile(r"noarch|(linux|osx|win|emscripten|wasi|freebsd|zos)-[a-z0-9_]+")
_BRACKET_KEY: Final = re.compile(
    r"""(?P<before>[\[,])\s*channel\s*=\s*(['"]?)(?P<channel>[^'",\]]+)\2\s*(?P<after>[,\]])"""
)


@dataclass(frozen=True, slots=True)
class ParsedSpec:
    """One requirement: the package's ``name``, ``text`` for the solver, its channel."""

    name: str
    text: str
    written: str
    channel: ChannelSource | None = None
    source: SourceLocation | None = None


def split_channel(text: str) -> tuple[str | None, str | None, str]:
    """``channel[/subdir]::rest`` or ``rest[channel=x]`` → (channel, subdir, rest).

    >>> split_channel("conda-forge/noarch::tzdata >=2024")
    ('conda-forge', 'noarch', 'tzdata >=2024')
    """
    head, mark, rest = text.rpartition("::")
    if not mark:
        found = _BRACKET_KEY.search(text)
        if found is None:
            return None, None, text
        before, after = found["before"], found["after"]
        joint = "" if (before, after) == ("[", "]") else "[" if before == "[" else after
        if before == "," and after == ",":
            joint = ","
        return found["channel"], None, text[: found.start()] + joint + text[found.end() :]
    channel, slash, subdir = head.strip().rpartition("/")
    if slash and _SUBDIR.fullmatch(subdir):
        return channel, subdir, rest.strip()
    return head.strip(), None, rest.strip()


def parse_requirements(
    conda: CondaSpec,
    channels: Sequence[ChannelSource],
    config: WorkspaceConfig,
    environ: Mapping[str, str] | None = None,
) -> tuple[ParsedSpec, ...]:
    """Every requirement, or InputError with a diagnostic for each that is no match spec."""
    parsed: list[ParsedSpec] = []
    wrong: list[Diagnostic] = []
    for requirement in conda.dependencies:
        try:
            parsed.append(_parse(requirement, conda, channels, config, environ))
        except InputError as error:
            wrong += error.diagnostics
    if wrong:
        raise InputError(wrong)
    return tuple(parsed)


def _parse(
    requirement: Requirement,
    conda: CondaSpec,
    channels: Sequence[ChannelSource],
    config: WorkspaceConfig,
    environ: Mapping[str, str] | None,
) -> ParsedSpec:
    import rattler

    channel_text, subdir, rest = split_channel(requirement.text)
    try:
        if "://" in rest or rest.endswith((".conda", ".tar.bz2")):
            raise ValueError("a package by its address or file cannot be locked")
        spec = rattler.MatchSpec(rest, strict=False)
        name = spec.name.normalized
        if spec.namespace:
            raise ValueError(f"the prefix {spec.namespace}: is not conda's")
    except Exception as error:
        raise InputError(
            f"not a conda requirement: {credentials.mask(requirement.text)}",
            code="match-spec",
            detail=credentials.mask(str(error)),
            source=requirement.source,
            hint="write NAME, NAME=1.2, NAME>=1.2,<2 or CHANNEL::NAME",
        ) from None
    if channel_text is None:
        return ParsedSpec(name, rest, requirement.text, None, requirement.source)
    channel = _channel(channel_text, conda, channels, config, environ)
    place = channel.address + (f"/{subdir}" if subdir else "")
    return ParsedSpec(name, f"{place}::{rest}", requirement.text, channel, requirement.source)


def _channel(
    text: str,
    conda: CondaSpec,
    channels: Sequence[ChannelSource],
    config: WorkspaceConfig,
    environ: Mapping[str, str] | None,
) -> ChannelSource:
    wanted = locate(text, conda.channel_paths, config, environ)
    by_name = {source.name: source for source in channels}
    return next((by_name[w.name] for w in wanted if w.name in by_name), wanted[0])
