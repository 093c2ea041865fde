"""One server behind a builder: what it can do, how it fares, and what it says in a line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envgraph.api.builder import Builder, BuilderError, Capabilities
from envgraph.errors import EnvgraphError
from envgraph.model.oci import Platform


@dataclass(slots=True)
class Server:
    """A builder of one server, and how it has fared."""

    builder: Builder
    title: str
    capabilities: Capabilities | None = None
    error: EnvgraphError | None = None
    """Why it was of no use when it was asked last."""

    refused: bool = False
    """It will not be of use later either."""

    running: int = 0
    rests_until: float = 0.0
    lost: int = 0
    """Builds that it did not end."""

    def ask(self) -> Capabilities:
        """What it can do, asked once; BuilderError when it does not answer."""
        if self.refused and self.error is not None:
            raise self.error
        if self.capabilities is None:
            try:
                self.capabilities = self.builder.capabilities()
                self.error = None
            except BuilderError as error:
                self.error = error
                self.refused = not error.retryable
                raise
        return self.capabilities

    def describe(self) -> str:
        """One line: what it is, and what it can do or why it cannot."""
        if self.error is not None:
            return line_of(self.title, self.error)
        if self.capabilities is None:
            return f"{self.title}: was not asked"
        kinds = dict.fromkeys(f"{p.os}/{p.architecture}" for p in self.capabilities.platforms)
        platforms = ", ".join(kinds) or "no platform"
        version = f"{self.capabilities.version}, " if self.capabilities.version else ""
        return f"{self.title}: {version}{platforms}"


def rank(affinity: str, names: Iterable[str]) -> list[str]:
    """The names, best first: each by its own hash with the affinity (rendezvous hashing)."""
    start = f"{len(affinity)}:{affinity}"
    return sorted(names, key=lambda name: hashlib.sha256((start + name).encode()).digest())


def other_platform(wanted: Platform, offered: Sequence[Platform]) -> BuilderError:
    """Why a server is of no use for a platform."""
    builds = ", ".join(map(str, offered)) or "nothing"
    return BuilderError(
        f"it does not build for {wanted}, but for {builds}",
        code="builder-lacks",
        hint=f"add a server that builds for {wanted}, or give one QEMU's binfmt",
    )


def fits(wanted: Platform, offered: Iterable[Platform]) -> bool:
    """Variants are the builder's affair."""
    return (wanted.os, wanted.architecture) in {(one.os, one.architecture) for one in offered}


def line_of(title: str, error: EnvgraphError) -> str:
    """Whose error it is and what it says, the address once."""
    said = reason_of(error)
    address = title.split()[-1]
    return said if "://" in address and address in said else f"{title}: {said}"


def reason_of(error: EnvgraphError) -> str:
    """Summary and detail in a line."""
    first = error.diagnostics[0]
    return " ".join(f"{first.summary}. {first.detail}".split()) if first.detail else first.summary
