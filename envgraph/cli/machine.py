"""What a machine has and lacks: one check for each thing that envgraph stands on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from envgraph.cli.session import Session
from envgraph.cli.views.text import size
from envgraph.errors import PlatformError

Status = Literal["ok", "remark", "missing"]
LITTLE_SPACE: Final = 5 * 10**9
FEW_FILES: Final = 1024
IMAGE_PLATFORMS: Final = ("linux-64", "linux-aarch64")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing: there, missing for some verbs (a remark), or missing for all."""

    name: str
    status: Status
    summary: str
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        """``name, status, summary, hint``."""
        return {
            "name": self.name,
            "status": self.status,
            "summary": self.summary,
            "hint": self.hint,
        }


def examine(session: Session) -> list[Check]:
    """All checks, in the order in which a person would look."""
    store = store_path(session)
    checks: list[Callable[[], Check]] = [
        check_python,
        check_platform,
        lambda: check_store(store),
        lambda: check_space(store),
        lambda: check_file_locks(store),
        lambda: check_syncfs(store),
        check_open_files,
        check_uv,
        check_container,
        check_docker,
        check_graphviz,
        check_plugins,
    ]
    return [*(check() for check in checks), *check_builder(session)]


def store_path(session: Session) -> Path:
    """The store that commands would use."""
    from envgraph.folders import default_store

    if session.common.store is not None:
        return session.common.store.absolute()
    return Path(default_store(dict(session.environment))).absolute()


def check_python() -> Check:
    """Python 3.11 or newer; older ones cannot even start this."""
    return Check("python", "ok", f"{platform.python_version()}, {sys.executable}")


def check_platform() -> Check:
    """Images are for Linux; everything else works elsewhere too."""
    from envgraph.run.prefixes import host_platform

    here = host_platform()
    if here in IMAGE_PLATFORMS:
        return Check("platform", "ok", here)
    return Check(
        "platform",
        "remark",
        f"{here}: validate, lock and plan work; images are for Linux",
        "apply on a Linux machine, or run this in a Linux container",
    )


def check_store(store: Path) -> Check:
    """The store's folder is ours and can be written, or can be made."""
    parent = _existing(store)
    if not store.exists():
        if os.access(parent, os.W_OK | os.X_OK):
            return Check("store", "ok", f"{store}: not there yet, the first apply makes it")
        return Check(
            "store",
            "missing",
            f"{store}: cannot be made, {parent} is not writable",
            "set ENVGRAPH_STORE to a folder of your own",
        )
    status = store.stat()
    if status.st_uid != os.geteuid():
        return Check(
            "store",
            "missing",
            f"{store} belongs to another user",
            "set ENVGRAPH_STORE to a folder of your own",
        )
    if status.st_mode & 0o022:
        return Check("store", "missing", f"{store} can be written by others", f"chmod go-w {store}")
    if not os.access(store, os.W_OK | os.X_OK):
        return Check("store", "missing", f"{store} is not writable", f"chmod u+wx {store}")
    return Check("store", "ok", str(store))


def check_space(store: Path) -> Check:
    """Space and inodes on the store's file system."""
    found = os.statvfs(_existing(store))
    free = found.f_bavail * found.f_frsize
    if found.f_files and found.f_favail < 10_000:
        return Check(
            "free space", "remark", f"only {found.f_favail:,} inodes free", "envgraph store gc"
        )
    if free < LITTLE_SPACE:
        return Check(
            "free space",
            "remark",
            f"{size(free)} free: a large environment needs several GB",
            "envgraph store gc, or ENVGRAPH_STORE on a larger disk",
        )
    return Check("free space", "ok", f"{size(free)} free")


def check_file_locks(store: Path) -> Check:
    """Kernel locks work where the store is; without them two processes could clash."""
    import fcntl

    folder = _writable(store)
    if folder is None:
        return Check("file locks", "remark", "not tried: nothing there can be written")
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Check(
            "file locks",
            "missing",
            f"the file system of {folder} has no file locks: {error.strerror}",
            "set ENVGRAPH_STORE to a folder on a local disk",
        )
    return Check("file locks", "ok", "kernel locks work")


def check_syncfs(store: Path) -> Check:
    """One call makes a whole batch durable; without it every file is synced alone."""
    from envgraph_store.files import Disk

    descriptor = os.open(_existing(store), os.O_RDONLY | os.O_DIRECTORY)
    try:
        works = Disk().sync_everything(descriptor)
    except OSError:
        works = False
    finally:
        os.close(descriptor)
    if works:
        return Check("syncfs", "ok", "batches become durable at once")
    return Check(
        "syncfs",
        "remark",
        "not here: each file is synced alone, which is slower and as safe",
        "a Linux kernel and C library of this decade",
    )


def check_open_files() -> Check:
    """The limit of open files."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        return Check("open files", "remark", f"at most {soft}", f"ulimit -n {FEW_FILES}")
    return Check("open files", "ok", "no limit" if soft < 0 else f"at most {soft:,}")


def check_uv() -> Check:
    """What resolves pip sections."""
    try:
        from uv import find_uv_bin

        program = find_uv_bin()
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (ImportError, OSError, subprocess.CalledProcessError):
        return Check(
            "uv", "remark", "not here: environments with a pip section cannot be locked",
            "pip install uv, in the Python that runs envgraph",
        )  # fmt: skip
    return Check("uv", "ok", f"{done.stdout.strip()}, {program}")


def check_container() -> Check:
    """What ``run --container`` needs."""
    from envgraph.run.container import find_runtime

    try:
        name, program = find_runtime()
    except PlatformError as error:
        problem = error.diagnostics[0]
        return Check(
            "container",
            "remark",
            f"`run --container` does not work here ({problem.detail})",
            "apt install bubblewrap",
        )
    return Check("container", "ok", f"`run --container` uses {name}, {program}")


def check_docker() -> Check:
    """Other tools that take images from here; envgraph itself needs none."""
    names = ("docker", "podman", "skopeo", "buildah")
    found = [name for name in names if shutil.which(name)]
    if found:
        return Check("image tools", "ok", f"{', '.join(found)} (envgraph itself needs none)")
    return Check("image tools", "ok", "none here, and envgraph needs none")


def check_plugins() -> Check:
    """Every plugin can be imported, and offers what this version takes."""
    from envgraph.plugins import Plugins

    plugins = Plugins()
    broken = [found.title for found in plugins.found if found.problems]
    if broken:
        return Check("plugins", "remark", f"wrong: {', '.join(broken)}", "envgraph plugin check")
    return Check("plugins", "ok", ", ".join(found.name for found in plugins.found) or "none")


def check_builder(session: Session) -> list[Check]:
    """Every server of the builder that envgraph.yaml names; for ``auto``, where it would look."""
    from envgraph.cli.builder_here import check_auto
    from envgraph.errors import EnvgraphError
    from envgraph.plugins import Plugins
    from envgraph.workspace import Workspace

    common = session.common
    try:
        with Workspace.open(common.folder, store=common.store, offline=common.offline) as workspace:
            if workspace.config.builder.type == "auto":
                return [check_auto(workspace.config, Plugins())]
            servers = workspace.builders.servers()
            return [
                Check("builder", "ok", server.describe())
                if server.error is None
                else Check(
                    "builder",
                    "remark",
                    server.describe(),
                    server.error.diagnostics[0].hint or "start it, or correct `builder:`",
                )
                for server in servers
            ]
    except EnvgraphError as error:
        first = error.diagnostics[0]
        return [Check("builder", "remark", first.summary, first.hint)]


def check_graphviz() -> Check:
    """What ``graph --format svg`` needs."""
    program = shutil.which("dot")
    if program is None:
        return Check(
            "graphviz", "remark", "`graph --format svg` needs `dot`", "apt install graphviz"
        )
    return Check("graphviz", "ok", program)


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _writable(path: Path) -> Path | None:
    found = _existing(path)
    return found if found.is_dir() and os.access(found, os.W_OK | os.X_OK) else None
