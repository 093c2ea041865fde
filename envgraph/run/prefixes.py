"""A prefix on this machine for a lock: what ``run`` and ``shell`` use.

Its files are copies, so editing one changes neither the store nor another prefix. Where it
lies and how it comes about is :mod:`envgraph.run.kept`'s; its key is a hash over the
packages alone, so two environments on different bases share a prefix when their packages
are the same.
"""

from __future__ import annotations

import platform as machine
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from envgraph.errors import PlatformError
from envgraph.model.canonical import digest_of
from envgraph.model.locked import LockedEnvironment, LockedPackage
from envgraph.run.kept import Kept, Say, cache_folder, keep
from envgraph_store.digest import Digest

PREFIX_SCHEMA: Final = "prefix/1"
LONGEST_PREFIX: Final = 255
"""Characters that conda's placeholder leaves room for."""

Archives = Callable[[LockedPackage], Path]
Prefix = Kept


class Installer(Protocol):
    """What :func:`envgraph.conda.link.install_prefix` promises."""

    def __call__(
        self,
        lock: LockedEnvironment,
        archives: Archives,
        target: Path,
        *,
        prefix_in_files: str | None,
    ) -> object:
        """Write every package into the empty folder ``target``, as copies."""


def prefix_key(lock: LockedEnvironment) -> Digest:
    """The identity of what the prefix holds: its platform and its packages, nothing else."""
    document = {
        "platform": lock.platform,
        "packages": [package.identity() for package in lock.packages],
    }
    return digest_of(PREFIX_SCHEMA, document)


def host_platform(system: str = sys.platform, cpu: str | None = None) -> str:
    """Name this machine as conda does, such as ``linux-64`` or ``osx-arm64``."""
    architecture = (machine.machine() if cpu is None else cpu).lower()
    names = {"x86_64": "64", "amd64": "64", "i686": "32", "arm64": "aarch64"}
    name = names.get(architecture, architecture)
    if system == "darwin":
        return "osx-arm64" if name == "aarch64" else f"osx-{name}"
    return f"linux-{name}" if system.startswith("linux") else f"{system}-{name}"


def prepare(
    lock: LockedEnvironment,
    archives: Archives,
    *,
    folder: Path | None = None,
    install: Installer | None = None,
    waiting: Say | None = None,
    renew: bool = False,
) -> Prefix:
    """Give a whole prefix with exactly the lock's packages; make it if it is not there.

    ``archives`` says where a package's verified archive lies; it is asked only when a
    prefix is made. ``waiting`` is told when another process is making the same prefix.
    ``renew`` makes it anew, for a prefix that was edited. Raises PlatformError where this
    machine cannot run the lock.
    """
    root = cache_folder("prefixes") if folder is None else folder
    _check_runs_here(lock, root)

    def make(empty: Path, final: Path) -> None:
        (install or _default_installer())(lock, archives, empty, prefix_in_files=str(final))

    return keep(
        root, prefix_key(lock), make, purpose="making a prefix", waiting=waiting, renew=renew
    )


def _default_installer() -> Installer:
    from envgraph.conda.link import install_prefix

    return install_prefix


def _check_runs_here(lock: LockedEnvironment, root: Path) -> None:
    here = host_platform()
    if lock.platform != here:
        raise PlatformError(
            f"the environment is locked for {lock.platform}, and this machine is {here}",
            code="other-platform",
            hint=f"add {here} to platforms in envgraph.yaml and apply again",
        )
    if not any(package.manager == "conda" for package in lock.packages):
        raise PlatformError(
            "the environment has no conda packages of its own: what it runs lies in its base image",
            code="nothing-to-prepare",
            hint="run it in the image: --container",
        )
    length = len(str(root)) + 33
    if length > LONGEST_PREFIX:
        raise PlatformError(
            f"the prefix's path has {length} characters; packages have room for {LONGEST_PREFIX}",
            code="prefix-too-long",
            hint="set XDG_CACHE_HOME to a shorter path",
        )
