"""What ``envgraph.yaml`` says, as values with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DEFAULT_PLATFORM = "linux-64"
DEFAULT_VIRTUAL_PACKAGES: Mapping[str, str] = {"__unix": "0", "__linux": "0", "__glibc": "2.28"}


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """``image:``. None of it enters the lock identity; all of it enters the image's."""

    compression: Literal["zstd", "gzip"] = "zstd"
    max_layers: int = 80
    bytecode: Literal["auto", "none"] = "auto"
    default_base: str = "scratch"


@dataclass(frozen=True, slots=True)
class Provider:
    """A plugin's entry in the file: its ``type`` and the options it will check."""

    type: str
    options: Mapping[str, object] = field(default_factory=dict)
    trust_steps: bool = True
    """Of a registry, and no option of its plugin: results of docker steps are taken from it."""


@dataclass(frozen=True, slots=True)
class WorkspaceConfig:
    """One workspace. ``root`` is its absolute folder; ``id`` owns pins and versions.

    ``virtual_packages`` maps a platform to package → version (optionally
    ``version=build``): the whole set to solve for, defaults already merged in.
    """

    name: str
    id: str
    root: str
    file: str | None = None
    environments: tuple[str, ...] = ("environments/*.yml", "environments/*.yaml")
    platforms: tuple[str, ...] = (DEFAULT_PLATFORM,)
    virtual_packages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    registry: Provider | None = None
    registries: Mapping[str, Provider] = field(default_factory=dict)
    builder: Provider = field(default_factory=lambda: Provider("auto"))
    compute: Mapping[str, Provider] = field(default_factory=dict)
    base_images: Literal["freeze", "follow", "ask"] = "freeze"
    channels: Mapping[str, str] = field(default_factory=dict)
    default_channels: tuple[str, ...] = ("conda-forge",)
    pip_indexes: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    image: ImageOptions = field(default_factory=ImageOptions)
    reserved_prefixes: tuple[str, ...] = ("AzureML-", "Microsoft")
