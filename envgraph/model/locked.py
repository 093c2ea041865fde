"""What an environment resolved to, once and for all, on one platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from envgraph_store.digest import Digest

Manager = Literal["conda", "pip"]


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package with everything that says which bytes it is.

    The first seven fields are its identity. The others are recorded beside it: a
    mirror, an index of another day or a re-upload of the same bytes changes them
    and not the environment. For pip packages ``build`` and ``channel`` are empty
    and ``subdir`` is empty; ``file_name`` is the wheel's.
    """

    manager: Manager
    name: str
    version: str
    build: str
    subdir: str
    sha256: Digest
    channel: str
    """Canonical channel name (``conda-forge``), never an address with credentials."""

    file_name: str = ""
    url: str = ""
    """Without credentials; tokens appear as ``${VARIABLE}``."""

    size: int = 0
    """Bytes of the archive. Always known: what a channel does not say is measured."""

    md5: str = ""
    build_number: int = 0
    noarch: Literal["", "python", "generic"] = ""
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    timestamp_ms: int = 0
    license: str = ""
    python_site_packages_path: str = ""
    """Of the package ``python`` only: as repodata says it (CEP 17), else empty."""

    direct: bool = False
    """The user named it; the others came along."""

    reproducible: bool = True
    """False for a wheel that was built here from an sdist or a VCS line."""

    def identity(self) -> dict[str, object]:
        """The document that enters the lock identity."""
        return {
            "manager": self.manager,
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "subdir": self.subdir,
            "sha256": self.sha256,
            "channel": self.channel,
        }

    @property
    def title(self) -> str:
        """``numpy 2.1.0 py312h_0`` for people."""
        return " ".join(part for part in (self.name, self.version, self.build) if part)

    def label(self, other: LockedPackage | None) -> str:
        """The version; with the build, or the hash's start, where that tells it from ``other``."""
        if other is None or self.version != other.version:
            return self.version
        if self.build != other.build:
            return f"{self.version} {self.build}"
        return f"{self.version} {self.build} ({self.sha256.hex[:12]})"


@dataclass(frozen=True, slots=True)
class BaseLayer:
    """A layer of a base image, as its manifest and config describe it."""

    media_type: str
    digest: Digest
    size: int
    diff_id: Digest


@dataclass(frozen=True, slots=True)
class LockedBase:
    """A base image by digest. For ``scratch`` there is no manifest and no layer."""

    reference: str
    manifest: Digest | None = None
    manifest_media_type: str = ""
    config: Digest | None = None
    layers: tuple[BaseLayer, ...] = ()
    index: Digest | None = field(default=None, compare=False)
    """In a registry, what the reference itself meant: an index over platforms. None where
    it meant the manifest. Recorded, so that one question tells whether a tag has moved."""

    @property
    def meant(self) -> Digest | None:
        """What the reference meant when it was locked: the index, or else the manifest."""
        return self.index or self.manifest

    @property
    def short(self) -> str:
        """The manifest's digest as short as people read it."""
        return "scratch" if self.manifest is None else self.manifest.hex[:12]

    @property
    def in_registry(self) -> bool:
        """It lies in a registry, not on disk: its layers come only where they are needed."""
        return not self.is_scratch and not self.reference.startswith(("oci:", "docker-archive:"))

    @property
    def is_scratch(self) -> bool:
        """Nothing at all lies below the environment."""
        return self.manifest is None


Move = tuple[LockedBase, LockedBase]
"""An image that a name meant, and the one that it means now."""


@dataclass(frozen=True, slots=True)
class ContextOrigin:
    """Where the files of a build context came from: recorded, and no part of any identity."""

    kind: Literal["git", "archive"]
    address: str
    """As the environment file has it, without credentials."""

    pinned: str
    """Hexadecimal: the commit, or the sha256 of the archive."""

    ref: str = ""
    """The full name of the branch or tag that was pinned (``refs/heads/main``, ``HEAD``);
    empty where the file names a commit: that never means another one."""

    validator: str = ""
    """Of an archive, the ``ETag`` that its server gave: whether it is another one by now."""

    @property
    def short(self) -> str:
        """What was pinned, as short as people read it."""
        return self.pinned[:12]


@dataclass(frozen=True, slots=True)
class LockedContext:
    """A Docker build context: its tree, its Dockerfile's path in it, the arguments given.

    ``origin`` is None for a folder of this machine. With one, the store keeps the files:
    the listing under the tree's own digest, and each file.
    """

    tree: Digest
    dockerfile_path: str
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    origin: ContextOrigin | None = None


@dataclass(frozen=True, slots=True)
class LockedEnvironment:
    """The lock of one environment on one platform.

    ``packages`` are ordered: conda by name, then pip by name. ``definition`` and
    ``pin_key`` say what it answers; :func:`envgraph.model.identity.lock_identity`
    says what it is.
    """

    definition: Digest
    pin_key: Digest
    platform: str
    base: LockedBase
    packages: tuple[LockedPackage, ...] = ()
    steps: tuple[str, ...] = ()
    """Docker steps, canonical, in order."""

    created: str = field(default="", compare=False)
    """UTC, ``2026-11-23T04:25:00Z``: when the pins were taken."""

    solver: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Names and versions of what solved it, for the record."""

    images: Mapping[str, LockedBase] = field(default_factory=dict, hash=False)
    """Every image that docker steps or a Dockerfile name, by their text; those of a
    Dockerfile's ``FROM`` too."""

    context: LockedContext | None = None
    """What is built as it is, instead of steps and packages. ``base`` is then the image that
    the Dockerfile's last stage stands on."""

    @property
    def bases(self) -> tuple[LockedBase, ...]:
        """The base, then every other image that steps or a Dockerfile name, each once."""
        return tuple(dict.fromkeys([self.base, *self.images.values()]))

    @property
    def python(self) -> LockedPackage | None:
        """The locked conda package ``python``, if there is one."""
        for package in self.packages:
            if package.manager == "conda" and package.name == "python":
                return package
        return None

    @property
    def site_packages(self) -> str:
        """``lib/python3.12/site-packages`` below the prefix; empty without Python."""
        python = self.python
        if python is None:
            return ""
        if python.python_site_packages_path:
            return python.python_site_packages_path
        major, minor, *_ = python.version.split(".")
        return f"lib/python{major}.{minor}/site-packages"


def moved_bases(before: LockedEnvironment, now: LockedEnvironment) -> tuple[Move, ...]:
    """Every name of an image that means another one in ``now``, each once, the base first."""
    pairs = [(before.base, now.base)] if before.base.reference == now.base.reference else []
    pairs += [(image, now.images[text]) for text, image in before.images.items()
              if text in now.images]  # fmt: skip
    return tuple(dict.fromkeys((a, b) for a, b in pairs if a.manifest != b.manifest))
