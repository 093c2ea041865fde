"""What another tool's lock says, before anything that it leaves out is found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from envgraph.conda import credentials
from envgraph.conda.channels import canonical_name
from envgraph.errors import Diagnostic
from envgraph.model.locked import LockedEnvironment, Manager

if TYPE_CHECKING:
    from packaging.pylock import Pylock

LARGEST_IMPORT: Final = 64 << 20
"""Bytes: the largest lock that was seen has 6 MB."""

_EXTENSIONS: Final = (".conda", ".tar.bz2")


@dataclass(frozen=True, slots=True)
class ForeignPackage:
    """One package as another tool locked it. Empty or 0 means that the tool did not say.

    ``depends`` is None where nothing is said of what it needs. ``noarch`` is None where
    only the archive knows it. ``place`` names it in the file, for messages.
    """

    manager: Manager
    name: str
    version: str
    url: str
    build: str = ""
    subdir: str = ""
    file_name: str = ""
    channel: str = ""
    sha256: str = ""
    md5: str = ""
    size: int = 0
    depends: tuple[str, ...] | None = None
    constrains: tuple[str, ...] = ()
    noarch: str | None = None
    build_number: int | None = None
    timestamp_ms: int = 0
    license: str = ""
    python_site_packages_path: str = ""
    place: str = ""
    problem: str = ""
    """Why it cannot be imported; told only when its platform is."""

    @property
    def title(self) -> str:
        """``numpy 2.1.0 py312h_0`` for people."""
        return " ".join(part for part in (self.name, self.version, self.build) if part)


@dataclass(frozen=True, slots=True)
class ForeignLock:
    """A whole lock by platform. ``ready`` are those that lack nothing: envgraph's own.

    ``pip_only``: the file locks no Python, or nothing at all. ``conda`` and ``pip`` are
    the requirements that are solved now; with ``pylock`` its wheels are taken as they are.
    """

    kind: str
    title: str
    name: str
    channels: tuple[str, ...] = ()
    platforms: Mapping[str, tuple[ForeignPackage, ...]] = field(default_factory=dict)
    ready: Mapping[str, LockedEnvironment] = field(default_factory=dict)
    pip_only: bool = False
    conda: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    pylock: Pylock | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class CondaAddress:
    """The parts of an archive's address; ``channel`` is canonical."""

    channel: str
    subdir: str
    file_name: str
    name: str
    version: str
    build: str


def conda_address(url: str) -> CondaAddress | None:
    """The parts of ``…/CHANNEL/SUBDIR/NAME-VERSION-BUILD.conda``; None when it is no such thing.

    >>> conda_address("https://conda.anaconda.org/conda-forge/noarch/a-b-1.0-h_0.conda").name
    'a-b'
    """
    head, _, file_name = url.partition("#")[0].rpartition("/")
    channel, _, subdir = head.rpartition("/")
    stem = next((file_name[: -len(e)] for e in _EXTENSIONS if file_name.endswith(e)), "")
    parts = unquote(stem).rsplit("-", 2)
    if len(parts) != 3 or not all(parts) or not channel or not subdir:
        return None
    name = canonical_name(credentials.recorded(channel), {})
    return CondaAddress(name, subdir, file_name, parts[0].lower(), parts[1], parts[2])


def file_name_of(url: str) -> str:
    """The last part of an address, unquoted; empty when it is none."""
    try:
        return unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    except ValueError:
        return ""


def is_wheel(url: str) -> bool:
    """Whether the address ends in a wheel's name."""
    return file_name_of(url).endswith(".whl")


def is_hash(kind: str, text: str) -> bool:
    """Whether ``text`` is a whole ``sha256`` or ``md5`` in hexadecimal digits."""
    length = 64 if kind == "sha256" else 32
    return len(text) == length and all(c in "0123456789abcdef" for c in text.lower())


def channels_of(packages: Iterable[ForeignPackage]) -> tuple[str, ...]:
    """The channels of conda packages in the order of their first use."""
    return tuple(dict.fromkeys(p.channel for p in packages if p.manager == "conda"))
