"""Run a command in an image of an OCI layout, with whatever runtime works here.

bubblewrap and runc get the image's files unpacked into a temporary folder, docker
and podman get an archive to load. Output is captured: it is for tests and demos; a
person's command runs by :mod:`envgraph.run.container`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from envgraph.errors import PlatformError
from envgraph.image.oci_export import export_oci
from envgraph.run.container import (
    bwrap_command,
    container_environment,
    prepare_image,
    runc_config,
)
from envgraph_store.digest import Digest

RUNTIMES = ("bwrap", "runc", "docker", "podman")


@dataclass(frozen=True, slots=True)
class Runtime:
    """A program that can run images here; ``problem`` says why it cannot, or is empty."""

    name: str
    program: str = ""
    problem: str = ""

    @property
    def works(self) -> bool:
        """Whether it can."""
        return not self.problem


def probe(name: str) -> Runtime:
    """Look for one of :data:`RUNTIMES` and try it."""
    program = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if program is None:
        return Runtime(name, problem="not installed")
    if name == "bwrap":
        test = [program, "--ro-bind", "/", "/", "--unshare-pid", "--proc", "/proc"]
        test += ["--dev", "/dev", "/bin/true"]
    elif name == "runc":
        return Runtime(name, program, "" if os.geteuid() == 0 else "needs root")
    else:
        test = [program, "info"]
    done = subprocess.run(test, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines() or ["does not answer"]
    return Runtime(name, program, "" if done.returncode == 0 else lines[-1][:200])


def find_runtime() -> Runtime:
    """The first that works. PlatformError names each with what is wrong with it."""
    problems = []
    for name in RUNTIMES:
        runtime = probe(name)
        if runtime.works:
            return runtime
        problems.append(f"{name}: {runtime.problem}")
    raise PlatformError(
        "no container runtime works on this machine",
        code="no-container-runtime",
        detail="; ".join(problems),
        hint="install bubblewrap: it needs neither a daemon nor root",
    )


class LayoutBlobs:
    """The blobs of an OCI layout on disk, each verified when it is read."""

    def __init__(self, layout: Path) -> None:
        self._folder = layout / "blobs"

    def path(self, digest: Digest) -> Path:
        """Where a blob lies."""
        algorithm, _, hexadecimal = str(digest).partition(":")
        return self._folder / algorithm / hexadecimal

    def size(self, digest: Digest) -> int:
        """Its bytes."""
        return self.path(digest).stat().st_size

    def read(self, digest: Digest, limit: int = 1 << 40) -> bytes:
        """A blob's bytes. ValueError when they are others, or more than ``limit``."""
        data = self.path(digest).read_bytes()
        if len(data) > limit or f"sha256:{hashlib.sha256(data).hexdigest()}" != str(digest):
            raise ValueError(f"blob {digest} is not what its name says")
        return data

    def open(self, digest: Digest) -> BinaryIO:
        """A blob as a file, verified before its first byte is handed out."""
        return io.BytesIO(self.read(digest))


def image_digest(layout: Path, name: str | None = None) -> Digest:
    """The manifest that a layout's index gives a name, or its only one.

    Raises LookupError when there is no such name, or several images and no name.
    """
    found = json.loads((layout / "index.json").read_text())["manifests"]
    if name is not None:
        key = "org.opencontainers.image.ref.name"
        found = [row for row in found if row.get("annotations", {}).get(key) == name]
    if len(found) != 1:
        raise LookupError(f"{layout} has {len(found)} images named {name or 'anyhow'}")
    return Digest(str(found[0]["digest"]))


def run_in_image(
    layout: Path,
    command: Sequence[str],
    *,
    name: str | None = None,
    manifest: Digest | None = None,
    runtime: Runtime | None = None,
    variables: Mapping[str, str] | None = None,
    workspace: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` in an image and wait; its code and output are the result.

    The image is ``manifest``, or the one called ``name`` in the layout's index.
    ``workspace`` is mounted as ``/workspace`` (an empty folder by default).
    """
    runtime = find_runtime() if runtime is None else runtime
    digest = image_digest(layout, name) if manifest is None else manifest
    blobs = LayoutBlobs(layout)
    with tempfile.TemporaryDirectory(prefix="envgraph-image-") as temporary:
        folder = Path(temporary)
        outside = workspace or folder / "workspace"
        outside.mkdir(exist_ok=True)
        if runtime.name in ("docker", "podman"):
            return _by_engine(runtime, blobs, digest, command, variables or {}, outside, folder)
        image = prepare_image(blobs, digest, folder=folder / "images")
        settings = {**container_environment(image, {}), **(variables or {})}
        if runtime.name == "bwrap":
            return _run(bwrap_command(runtime.program, image, command, outside), settings)
        config = runc_config(image, command, settings, outside, terminal=False)
        return _by_runc(runtime, config, folder)


def _by_runc(
    runtime: Runtime, config: Mapping[str, Any], folder: Path
) -> subprocess.CompletedProcess[str]:
    (folder / "config.json").write_text(json.dumps(config))
    words = [runtime.program, "--root", str(folder / "state"), "run", "--bundle", str(folder)]
    return _run([*words, f"envgraph-{os.getpid()}-{folder.name[-8:]}"], None)


def _by_engine(
    runtime: Runtime,
    blobs: LayoutBlobs,
    digest: Digest,
    command: Sequence[str],
    variables: Mapping[str, str],
    workspace: Path,
    folder: Path,
) -> subprocess.CompletedProcess[str]:
    archive = folder / "image.tar"
    tag = f"envgraph.test/image:{digest.hex[:12]}"
    export_oci(blobs, digest, [tag], archive)
    loaded = _run([runtime.program, "load", "--input", str(archive)], None)
    if loaded.returncode != 0:
        return loaded
    words = [runtime.program, "run", "--rm", "--network", "none"]
    words += ["--volume", f"{workspace}:/workspace", "--workdir", "/workspace"]
    for key, value in variables.items():
        words += ["--env", f"{key}={value}"]
    return _run([*words, tag, *command], None)


def _run(
    words: Sequence[str], environment: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
