"""Which channels are meant, what they are called, and where they really are.

A channel has one canonical name, which is what locks record and identities
hash: the bare name for anaconda.org's (``conda-forge``), the text as written
for a folder relative to the conda file, and otherwise the address without
credentials. ``channels:`` in envgraph.yaml moves a name elsewhere (a mirror)
and changes neither name nor identity.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from envgraph.conda import credentials
from envgraph.errors import InputError, OfflineError
from envgraph.model.config import WorkspaceConfig
from envgraph.model.spec import CondaSpec

ALIAS: Final = "https://conda.anaconda.org"
_DEFAULTS: Final = {
    "pkgs/main": "https://repo.anaconda.com/pkgs/main",
    "pkgs/r": "https://repo.anaconda.com/pkgs/r",
    "pkgs/msys2": "https://repo.anaconda.com/pkgs/msys2",
    "pkgs/free": "https://repo.anaconda.com/pkgs/free",
}


@dataclass(frozen=True, slots=True)
class ChannelSource:
    """A channel: canonical ``name``, ``address`` without credentials, no last slash.

    ``secret_address`` is what requests go to, credentials included. It is never
    printed (repr leaves it out), stored or hashed. ``template`` is the address
    with references (``${NAME}``) unexpanded, and equals ``address`` when the
    channel needs no credentials.
    """

    name: str
    address: str
    secret_address: str = field(repr=False, compare=False)
    template: str = field(default="", compare=False)

    @property
    def is_file(self) -> bool:
        """A folder of this machine: no connection is needed."""
        return self.address.startswith("file://")

    @property
    def title(self) -> str:
        """Name and address for people."""
        return self.name if self.name == self.address else f"{self.name} ({self.address})"

    @property
    def has_credentials(self) -> bool:
        """Requests carry a user, password or token."""
        return self.secret_address != self.address


def _file_address(path: str) -> str:
    return Path(path).absolute().as_uri().rstrip("/")


def _source(
    name: str, where: str, config: WorkspaceConfig, env: Mapping[str, str]
) -> ChannelSource:
    expanded = credentials.expand(where, env, config.secrets).rstrip("/")
    if "://" not in expanded:
        path = Path(config.root, expanded).expanduser() if config.root else Path(expanded)
        expanded = _file_address(os.path.normpath(path))
    scheme = urlsplit(expanded).scheme.lower()
    if scheme not in ("http", "https", "file"):
        raise InputError(
            f"channel {name!r}: {scheme}:// is not supported",
            code="channel-scheme",
            hint="use https://, http:// or file://",
        )
    address = credentials.clean(expanded)
    template = where.rstrip("/") if credentials.has_reference(where) else address
    return ChannelSource(name, address, expanded, template)


def canonical_name(text: str, paths: Mapping[str, str]) -> str:
    """What a channel is called in locks; ``paths`` are the spec's relative folders."""
    if text in paths:
        return text
    if text.startswith("/"):
        return _file_address(text)
    if "://" not in text:
        return text.strip("/")
    address = credentials.clean(text)
    for prefix in (ALIAS + "/", "http://conda.anaconda.org/", "https://repo.anaconda.com/"):
        if address.startswith(prefix):
            return address.removeprefix(prefix)
    return address


def _mirror(name: str, config: WorkspaceConfig) -> str | None:
    if name in config.channels:
        return config.channels[name]
    head, slash, rest = name.partition("/")
    if slash and rest.startswith("label/") and head in config.channels:
        return config.channels[head].rstrip("/") + "/" + rest
    return None


def locate(
    text: str,
    paths: Mapping[str, str],
    config: WorkspaceConfig,
    environ: Mapping[str, str] | None = None,
) -> tuple[ChannelSource, ...]:
    """The channel that ``text`` means; ``defaults`` means two of them."""
    env = os.environ if environ is None else environ
    name = canonical_name(text, paths)
    mirror = _mirror(name, config)
    if mirror is not None:
        return (_source(name, mirror, config, env),)
    if name == "defaults":
        return tuple(s for part in ("pkgs/main", "pkgs/r") for s in locate(part, {}, config, env))
    if text in paths:
        where = _file_address(paths[text])
    elif "://" in text:
        where = text
    elif name.startswith("file://"):
        where = name
    else:
        where = _DEFAULTS.get(name, f"{ALIAS}/{name}")
    return (_source(name, where, config, env),)


def names_own_channels(conda: CondaSpec) -> bool:
    """Whether the conda file says where its packages come from."""
    return bool([c for c in conda.channels or () if c != "nodefaults"])


def channel_sources(
    conda: CondaSpec, config: WorkspaceConfig, environ: Mapping[str, str] | None = None
) -> tuple[ChannelSource, ...]:
    """The channels of a conda file in order of priority, each once.

    ``nodefaults`` is dropped (nothing is ever added silently, save
    ``default_channels`` for a file that names none). Raises InputError.
    """
    written: Sequence[str] = [c for c in conda.channels or () if c != "nodefaults"]
    if not written:
        written = [c for c in config.default_channels if c != "nodefaults"]
    if not written:
        raise InputError(
            "no channel to take packages from",
            code="no-channels",
            hint="add `channels:` to the conda file, or default_channels to envgraph.yaml",
        )
    found: dict[str, ChannelSource] = {}
    for text in written:
        for source in locate(text, conda.channel_paths, config, environ):
            found.setdefault(source.name, source)
    return tuple(found.values())


def require_offline(sources: Sequence[ChannelSource], what: str) -> None:
    """Raise OfflineError that names every channel that would need a connection."""
    remote = [s for s in sources if not s.is_file]
    if remote:
        raise OfflineError(
            f"{what} needs a connection to " + ", ".join(source.title for source in remote),
            hint="run it without --offline, or point `channels:` in envgraph.yaml to a folder",
        )
