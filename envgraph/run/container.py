"""A command in the image itself, base included, without a daemon: bubblewrap or runc.

The image's files are unpacked once (:mod:`envgraph.run.rootfs`) and mounted read-only;
``/tmp`` and ``/run`` are empty and in memory; the caller's folder is ``/workspace``. The
image's variables and entrypoint hold, none of the caller's do but ``TERM``. The network is
the caller's. The user is the caller: an image's ``User`` is not followed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol

from envgraph.errors import PlatformError
from envgraph.model.oci import Manifest, read_config, read_document
from envgraph.run.kept import Kept, Say, cache_folder, keep
from envgraph.run.rootfs import unpack
from envgraph.run.supervise import run_bwrap, run_runc
from envgraph_store.digest import Digest

WORKSPACE: Final = "/workspace"
RuntimeName = Literal["bwrap", "runc"]
RUNTIMES: Final[tuple[RuntimeName, ...]] = ("bwrap", "runc")


class Blobs(Protocol):
    """The part of the store's area that is needed here."""

    def read(self, digest: Digest, limit: int = ...) -> bytes:
        """The blob's bytes, verified."""

    def open(self, digest: Digest) -> BinaryIO:
        """The blob as a file, verified before its first byte is handed out."""


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """An unpacked image: its folder, its variables, and what it starts before a command."""

    path: Path
    variables: Mapping[str, str]
    entrypoint: tuple[str, ...]


def find_runtime(path: str | None = None) -> tuple[RuntimeName, str]:
    """The first of bubblewrap and runc that is here and works; PlatformError without one."""
    search = (os.environ.get("PATH", os.defpath) if path is None else path) + ":/usr/sbin:/sbin"
    problems: list[str] = []
    for name in RUNTIMES:
        found = shutil.which(name, path=search)
        if found is None:
            problems.append(f"{name}: not installed")
        elif fault := _fault(name, found):
            problems.append(f"{name}: {fault}")
        else:
            return name, found
    raise PlatformError(
        "no container runtime works here",
        code="no-container-runtime",
        detail="; ".join(problems),
        hint="install bubblewrap (apt install bubblewrap), or leave out --container",
    )


def _fault(name: RuntimeName, found: str) -> str:
    """Why the runtime cannot be used; empty when it can. Runc alone needs root."""
    if name == "runc":
        return "" if os.geteuid() == 0 else "needs root"
    test = [found, "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "/bin/true"]
    done = subprocess.run(test, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip()[:200] or "does not start"


def prepare_image(
    blobs: Blobs,
    manifest: Digest,
    *,
    folder: Path | None = None,
    waiting: Say | None = None,
    renew: bool = False,
) -> ImageRoot:
    """Unpack the image ``manifest`` of the store, once; give its root and its settings."""
    document = read_document(blobs.read(manifest), "", f"image {manifest}")
    if not isinstance(document, Manifest):
        raise PlatformError(f"{manifest} is an index over several platforms", code="image-platform")
    config = read_config(blobs.read(document.config.digest), "the image's config").document
    kept: Kept = keep(
        cache_folder("images") if folder is None else folder,
        manifest,
        lambda empty, _final: unpack(document, blobs.open, empty),
        purpose="unpacking an image",
        waiting=waiting,
        renew=renew,
    )
    settings: Mapping[str, Any] = config.get("config") or {}
    pairs = (line.partition("=") for line in settings.get("Env") or ())
    return ImageRoot(
        kept.path,
        {name: value for name, _, value in pairs},
        tuple(settings.get("Entrypoint") or ()),
    )


def container_environment(
    image: ImageRoot, outer: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables in the container: the image's, a home, and the caller's terminal."""
    caller = os.environ if outer is None else outer
    result = {"PATH": os.defpath, "HOME": "/tmp"}  # noqa: S108 - in the container
    if "TERM" in caller:
        result["TERM"] = caller["TERM"]
    return result | dict(image.variables)


def bwrap_command(
    program: str, image: ImageRoot, command: Sequence[str], workspace: Path
) -> list[str]:
    """The command line for bubblewrap; it takes the variables from its own environment."""
    words = [program, "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--ro-bind", str(image.path), "/", "--proc", "/proc", "--dev", "/dev"]
    words += ["--tmpfs", "/tmp", "--tmpfs", "/run"]  # noqa: S108 - in the container
    for name in ("resolv.conf", "hosts"):
        if (image.path / "etc" / name).is_file() and (Path("/etc") / name).is_file():
            words += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    words += ["--bind", str(workspace), WORKSPACE, "--chdir", WORKSPACE, "--"]
    return [*words, *image.entrypoint, *command]


def runc_config(
    image: ImageRoot, command: Sequence[str], variables: Mapping[str, str], workspace: Path,
    *, terminal: bool,
) -> dict[str, Any]:  # fmt: skip
    """The OCI runtime configuration that does the same as :func:`bwrap_command`."""
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},  # noqa: S108
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
        {"destination": WORKSPACE, "type": "bind", "source": str(workspace), "options": ["rbind"]},
    ]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(image.path), "readonly": True},
        "mounts": mounts,
        "hostname": "envgraph",
        "process": {
            "terminal": terminal,
            "user": {"uid": os.getuid(), "gid": os.getgid()},
            "args": [*image.entrypoint, *command],
            "env": [f"{name}={value}" for name, value in variables.items()],
            "cwd": WORKSPACE,
            "noNewPrivileges": True,
        },
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
    }


def run_in_image(
    image: ImageRoot,
    command: Sequence[str],
    *,
    workspace: Path,
    runtime: tuple[RuntimeName, str] | None = None,
    outer: Mapping[str, str] | None = None,
) -> int:
    """Run ``command`` in the image and wait; the exit code is its own, 128+n for a signal.

    ``workspace`` is the folder that it finds as ``/workspace`` and starts in. A signal
    sent to this process goes to the command; Ctrl-C reaches it as it would without a
    container. ``outer`` is the caller's environment, of which only ``TERM`` enters.
    """
    name, program = find_runtime() if runtime is None else runtime
    variables = container_environment(image, outer)
    if name == "bwrap":
        return run_bwrap(bwrap_command(program, image, command, workspace), variables)
    with tempfile.TemporaryDirectory(prefix="envgraph-runc-") as folder:
        bundle = Path(folder)
        terminal = all(os.isatty(descriptor) for descriptor in (0, 1, 2))
        config = runc_config(image, command, variables, workspace, terminal=terminal)
        (bundle / "config.json").write_text(json.dumps(config))
        words = [program, "--root", str(bundle / "state"), "run", "--bundle", str(bundle)]
        return run_runc([*words, f"envgraph-{os.getpid()}-{bundle.name[-8:]}"])
