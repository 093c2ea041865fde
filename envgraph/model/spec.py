"""What a user asked for: values made by :mod:`envgraph.spec`, read by everybody.

Nothing here is resolved. Every piece of text that a diagnostic may later have
to point at carries its :class:`~envgraph.errors.SourceLocation`, which never
enters an identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from envgraph.errors import SourceLocation
from envgraph_store.digest import Digest

Kind = Literal["curated", "user-managed", "system-managed"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One conda dependency as written, trimmed, spaces collapsed, name lower-cased.

    ``selector`` is mamba's ``sel(linux):`` before it (``linux``, ``osx``, ``win``,
    ``unix`` or a platform), else empty: see :meth:`CondaSpec.for_platform`.
    """

    text: str
    source: SourceLocation | None = field(default=None, compare=False)
    selector: str = ""

    def applies_to(self, platform: str) -> bool:
        """Whether ``platform`` (``linux-64``) is meant."""
        system = platform.partition("-")[0]
        return self.selector in ("", platform, system) or (
            self.selector == "unix" and system != "win"
        )


@dataclass(frozen=True, slots=True)
class PipLine:
    """One line of a pip section after ``-r`` and ``-c`` files were put in its place.

    ``kind``: ``requirement`` (PEP 508, name normalised by PEP 503), ``constraint``
    (the same, from a ``-c`` file), ``option`` (an index option such as
    ``--extra-index-url X``, one spelling), ``project`` (a local folder or file,
    ``text`` is the path as written, ``tree`` its content) or ``url`` (a wheel,
    sdist or VCS address). ``editable`` for ``-e``. ``hashes`` are those of
    ``--hash=`` options, sorted: ``sha256:<hex>``.
    """

    kind: Literal["requirement", "constraint", "option", "project", "url"]
    text: str
    editable: bool = False
    tree: Digest | None = None
    path: str | None = field(default=None, compare=False)
    source: SourceLocation | None = field(default=None, compare=False)
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CondaSpec:
    """A conda environment file. ``channels`` is None when the file names none.

    A relative path in ``channels`` keeps the text that was written (that is what
    identity sees); ``channel_paths`` maps it to the absolute folder.
    ``variables`` is the file's own ``variables:`` (part of the runtime).
    """

    name: str | None = None
    channels: tuple[str, ...] | None = None
    dependencies: tuple[Requirement, ...] = ()
    pip: tuple[PipLine, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    file: str | None = field(default=None, compare=False)
    channel_paths: Mapping[str, str] = field(default_factory=dict, compare=False)

    def for_platform(self, platform: str) -> tuple[Requirement, ...]:
        """The dependencies that ``platform`` is meant to have."""
        return tuple(r for r in self.dependencies if r.applies_to(platform))


@dataclass(frozen=True, slots=True)
class CopiedInput:
    """A file or folder that a docker step copies: path as written, content, mode."""

    path: str
    tree: Digest


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image that an instruction names: ``FROM``, ``COPY --from``, ``RUN --mount=from``.

    ``text`` as the instruction has it, arguments put in; where the platform decides it
    still holds ``${TARGETARCH}`` and the like, and ``reference``, its normal form, is empty.
    """

    text: str
    reference: str = ""
    source: SourceLocation | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class DockerStep:
    """One Dockerfile instruction laid on the base, with what it copies and names.

    ``images`` and ``secrets`` say again what the instruction says. ``folder`` is the
    absolute folder that ``inputs`` start at.
    """

    instruction: str
    inputs: tuple[CopiedInput, ...] = ()
    source: SourceLocation | None = field(default=None, compare=False)
    images: tuple[NamedImage, ...] = field(default=(), compare=False)
    secrets: tuple[str, ...] = field(default=(), compare=False)
    folder: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """A Docker build context: its folder (or address), its tree after ignore rules.

    What the Dockerfile says is in the tree already: ``images`` are all that it names,
    ``base`` is the text of the one that its last stage stands on (or ``scratch``),
    ``secrets`` the names of those that it mounts, ``platforms`` those of its
    ``FROM --platform=``. ``folder`` is the absolute folder behind ``path``.

    Of a context at an address (git, or an archive) only ``path`` is known before it is
    locked: ``tree`` is None. ``arguments`` are the values of ``ARG``; ``proxies`` those that
    say only how this machine reaches others, which no identity knows.
    """

    path: str
    dockerfile_path: str = "Dockerfile"
    tree: Digest | None = None
    source: SourceLocation | None = field(default=None, compare=False)
    images: tuple[NamedImage, ...] = field(default=(), compare=False)
    base: str = field(default="scratch", compare=False)
    secrets: tuple[str, ...] = field(default=(), compare=False)
    platforms: tuple[str, ...] = field(default=(), compare=False)
    folder: str = field(default="", compare=False)
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    proxies: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """An inference route of an Azure ML environment."""

    port: int
    path: str


@dataclass(frozen=True, slots=True)
class InferenceConfig:
    """All three routes, or none of them."""

    liveness_route: Route
    readiness_route: Route
    scoring_route: Route


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """One environment file, read and checked.

    ``image`` is the normalised base reference (``scratch``, ``oci:…``,
    ``docker-archive:…``, ``docker.io/library/python:latest``); exactly one of
    ``image`` and ``build`` is set. ``inputs`` lists every file that was read to
    make this value, absolute, in reading order: what the quick path watches.
    """

    name: str
    image: str | None = None
    build: BuildSpec | None = None
    conda: CondaSpec | None = None
    docker_steps: tuple[DockerStep, ...] = ()
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    inference_config: InferenceConfig | None = None
    platforms: tuple[str, ...] = ()
    version: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    os_type: Literal["linux", "windows"] = "linux"
    source: SourceLocation | None = field(default=None, compare=False)
    inputs: tuple[str, ...] = field(default=(), compare=False)
    image_path: str | None = field(default=None, compare=False)
    """For ``oci:`` and ``docker-archive:`` the absolute path behind the reference."""

    anonymous: bool = False
    """Inline in a job or deployment, without a name of its own: its version is the digest
    of what it is, it is found by that, and lists leave it out (M26)."""

    @property
    def kind(self) -> Kind:
        """``system-managed`` when there is a conda file, else ``user-managed``.

        ``curated`` is a property of the registry that an environment came from.
        """
        return "system-managed" if self.conda is not None else "user-managed"
