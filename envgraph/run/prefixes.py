"""A prefix on this machine for a lock: made once, whole or not at all.

Prefixes lie in ``$XDG_CACHE_HOME/envgraph/prefixes`` (``~/.cache`` where that is
not set), apart from the store: they belong to one machine and one user, nothing
refers to them, and ``rm -rf`` of the folder costs only time. Their files are
copies, so editing one changes neither the store nor another prefix::

    <key>/                    a whole prefix; a rename put it there
    <key>/.envgraph.json      what it is
    <key>.lock                kernel lock: one preparer at a time
    .<key>.<random>/          being made; the next preparer of <key> sweeps it

``<key>`` is the first 32 hexadecimal digits of a hash over the packages alone: two
environments on different bases share a prefix when their packages are the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform as machine
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from envgraph.errors import EnvgraphError, PlatformError
from envgraph.model.canonical import digest_of
from envgraph.model.locked import LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest
from envgraph_store.files import Disk

PREFIX_SCHEMA: Final = "envgraph.prefix/1"
MARKER: Final = ".envgraph.json"
LONGEST_PREFIX: Final = 255
"""Characters that conda's placeholder leaves room for."""

Archives = Callable[[LockedPackage], Path]


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


@dataclass(frozen=True, slots=True)
class Prefix:
    """A whole prefix. ``created`` says whether this call made it."""

    path: Path
    key: Digest
    created: bool


def prefixes_folder(environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_CACHE_HOME/envgraph/prefixes``; a relative value is ignored, as XDG demands."""
    variables = os.environ if environ is None else environ
    base = variables.get("XDG_CACHE_HOME", "")
    if not base or not Path(base).is_absolute():
        base = str(Path(variables.get("HOME") or Path.home()) / ".cache")
    return Path(base) / "envgraph" / "prefixes"


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
    waiting: Callable[[str], object] | None = None,
    renew: bool = False,
) -> Prefix:
    """Give a whole prefix with exactly the lock's packages; make it if it is not there.

    ``archives`` says where a package's verified archive lies. ``waiting`` is told when
    another process is making the same prefix. ``renew`` makes it anew, for a prefix
    that was edited. Raises PlatformError where this machine cannot run the lock.
    """
    _check_runs_here(lock)
    key = prefix_key(lock)
    root = prefixes_folder() if folder is None else folder
    target = root / key.hex[:32]
    if len(str(target)) > LONGEST_PREFIX:
        raise PlatformError(
            f"the prefix's path has {len(str(target))} characters; packages have room for "
            f"{LONGEST_PREFIX}",
            code="prefix-too-long",
            hint="set XDG_CACHE_HOME to a shorter path",
        )
    if not renew and _is_whole(target, key):
        return Prefix(target, key, created=False)
    with _plain_errors(root):
        _make_private_folder(root)
        with _one_preparer(root / f"{target.name}.lock", waiting):
            if not renew and _is_whole(target, key):
                return Prefix(target, key, created=False)
            _install(lock, archives, target, key, install or _default_installer())
    return Prefix(target, key, created=True)


def _default_installer() -> Installer:
    from envgraph.conda.link import install_prefix

    return install_prefix


def _check_runs_here(lock: LockedEnvironment) -> None:
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


def _is_whole(target: Path, key: Digest) -> bool:
    """The marker names this key. A rename put it there, so the rest is there too."""
    try:
        marker = json.loads((target / MARKER).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(marker, dict) and marker.get("key") == str(key)


def _make_private_folder(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PlatformError(
            f"{root} belongs to somebody else, or others may write to it",
            code="untrusted-folder",
            detail="A command run from there could be one that somebody else put there.",
            hint="set XDG_CACHE_HOME to a folder of your own",
        )


@contextlib.contextmanager
def _one_preparer(path: Path, waiting: Callable[[str], object] | None) -> Iterator[None]:
    """Hold the kernel lock on ``path``; a killed holder leaves nothing to unlock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                waiting(f"waiting for {holder or 'another process'}, which makes this prefix")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {machine.node()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _install(
    lock: LockedEnvironment, archives: Archives, target: Path, key: Digest, install: Installer
) -> None:
    for leftover in target.parent.glob(f".{target.name}.*"):
        _remove(leftover)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        made = work / "prefix"
        made.mkdir(mode=0o755)
        install(lock, archives, made, prefix_in_files=str(target))
        marker = {"schema": PREFIX_SCHEMA, "key": str(key), "platform": lock.platform}
        (made / MARKER).write_text(json.dumps(marker) + "\n")
        _make_durable(made)
        if target.is_symlink() or target.exists():
            target.rename(work / "old")
        made.rename(target)
    finally:
        _remove(work)


def _make_durable(folder: Path) -> None:
    """A power cut must not leave a folder that is there and whose files are empty."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not Disk().sync_everything(descriptor):
            os.sync()
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a tree that is ours, read-only folders included."""

    def writable(function: Callable[[str], object], name: str, _error: object) -> None:
        Path(name).parent.chmod(0o700)
        if not Path(name).is_symlink():
            Path(name).chmod(0o700)
        function(name)

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=writable)
    else:
        shutil.rmtree(path, onerror=writable)


@contextlib.contextmanager
def _plain_errors(root: Path) -> Iterator[None]:
    """What the file system refuses is one clear error, not a traceback."""
    try:
        yield
    except OSError as error:
        raise EnvgraphError(
            f"could not make a prefix in {root}: {error.strerror or error}",
            code="prefix",
            detail=str(error.filename or ""),
            hint="set XDG_CACHE_HOME to a folder with space that you may write to",
        ) from error
