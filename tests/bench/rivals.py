"""Other tools that make an image of a folder, each with a place of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.bench import Bench, remove
from tests.bench.measure import Sample, process

DOCKERFILE = "FROM scratch\nCOPY . /opt/env\n"


class Docker:
    """Its own daemon on its own socket and folder; nothing of the machine's is touched."""

    def __init__(self, docker: str, dockerd: str, folder: Path) -> None:
        self._docker, self._dockerd, self._folder = docker, dockerd, folder
        self._socket = f"unix://{folder}/d.sock"

    @contextlib.contextmanager
    def running(self) -> Iterator[bool]:
        """Start the daemon; False where it does not start here. It ends with the block."""
        self._folder.mkdir(parents=True)
        words = [
            self._dockerd, "--data-root", self._folder / "data", "--exec-root",
            self._folder / "exec", "--pidfile", self._folder / "pid", "-H", self._socket,
            "--iptables=false", "--bridge=none",
        ]  # fmt: skip
        env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
        with (
            (self._folder / "log").open("wb") as log,
            subprocess.Popen([str(w) for w in words], stdout=log, stderr=log, env=env) as daemon,
        ):
            try:
                yield self._wait(daemon)
            finally:
                daemon.terminate()
                daemon.wait()

    def _wait(self, daemon: subprocess.Popen[bytes]) -> bool:
        for _ in range(150):
            if daemon.poll() is not None:
                return False
            words = [self._docker, "-H", self._socket, "info"]
            if subprocess.run(words, capture_output=True, check=False).returncode == 0:
                return True
            time.sleep(0.2)
        return False

    def build(self, tree: Path, dockerfile: Path, *, cached: bool = False) -> Sample:
        """``docker build`` with one COPY, by the builder that needs no plugin."""
        env = {**os.environ, "DOCKER_BUILDKIT": "0"}
        words: list[str | Path]
        words = [self._docker, "-H", self._socket, "build", "-q", "-f", dockerfile, "-t", "bench"]
        return process([*words, *([] if cached else ["--no-cache"]), tree], env=env)


def docker(bench: Bench) -> Docker | None:
    """Docker, if both its parts are here."""
    client, daemon = bench.find("docker", "docker build"), bench.find("dockerd", "docker build")
    if client is None or daemon is None:
        return None
    return Docker(client, daemon, bench.work / "docker")


def buildah(program: str, tree: Path, dockerfile: Path, folder: Path) -> Sample:
    """``buildah bud`` with one COPY."""
    words: list[str | Path] = [program, "--root", folder / "root", "--runroot", folder / "run"]
    return process([*words, "bud", "-q", "-f", dockerfile, "-t", "bench", tree])


def umoci(program: str, tree: Path, folder: Path) -> Sample:
    """``umoci insert`` of the folder into a new image."""
    script = 'set -e; "$0" init --layout "$1"; "$0" new --image "$1:b"; '
    script += '"$0" insert --image "$1:b" "$2" /opt/env'
    return process(["sh", "-c", script, program, folder / "layout", tree])


def tar_zstd(tree: Path, output: Path) -> Sample:
    """What any assembler at least has to do: read the tree, compress it."""
    script = 'set -e; tar -C "$0" -cf - . | zstd -q -f -3 -T2 -o "$1"'
    return process(["sh", "-c", script, tree, output])


def clean(folder: Path) -> None:
    """Remove what a rival wrote, its mounts included."""
    if folder.exists():
        for mount in sorted(folder.rglob("overlay"), reverse=True):
            subprocess.run(["umount", "-q", str(mount)], capture_output=True, check=False)
        remove(folder)
    shutil.rmtree(folder, ignore_errors=True)
