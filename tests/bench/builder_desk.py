"""What the builders' group works on: a daemon of its own, contexts, workspaces, rivals."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envgraph.testing.base import Base, make_base
from tests.bench.bench import ROOT, Bench, envgraph, environment
from tests.bench.measure import Sample, process
from tests.counting import methods
from tests.wire import Wire

FILES = 2_000
FILE_BYTES = 51_000


@dataclass(slots=True)
class Place:
    """One contender's files. Every contender's differ, so that no cache serves two."""

    folder: Path
    seed: int
    edits: int = 0

    @property
    def context(self) -> Path:
        """The build context."""
        return self.folder / "environments/context"

    def fill(self, files: int) -> None:
        """``data/`` with many files, ``app/`` with one."""
        chance = random.Random(self.seed)
        for number in range(files):
            path = self.context / f"data/d{number // 50}/f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(chance.randbytes(FILE_BYTES))
        (self.context / "app").mkdir()
        self.edit("app/main.py")
        (self.context / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")

    def edit(self, path: str) -> None:
        """Give a file of the context other bytes, of the same size."""
        self.edits += 1
        with (self.context / path).open("r+b" if (self.context / path).exists() else "wb") as out:
            out.write(b"%08d %08d\n" % (self.seed, self.edits))

    def dockerfile(self, *lines: str, base: str = "scratch") -> None:
        """Write the Dockerfile."""
        text = "".join(f"{line}\n" for line in (f"FROM {base}", *lines))
        (self.context / "Dockerfile").write_text(text)


@dataclass(slots=True)
class Rivals:
    """Docker's command line and buildah, with nothing of the user's."""

    docker: Path
    folder: Path
    address: str
    buildah: str | None
    base: Base

    def __post_init__(self) -> None:
        plugins = self.folder / "docker-config/cli-plugins"
        plugins.mkdir(parents=True)
        here = self.docker / "usr/libexec/docker/cli-plugins/docker-buildx"
        (plugins / "docker-buildx").symlink_to(here)

    def environment(self, address: str = "") -> dict[str, str]:
        """Of a docker command."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "DOCKER_CONFIG": str(self.folder / "docker-config"),
            "DOCKER_HOST": address or self.address,
            "BUILDX_GIT_INFO": "0",  # else it asks git about the checkout that this runs in
        }

    def words(self, *words: str | Path) -> list[str | Path]:
        """A docker command."""
        return [self.docker / "usr/bin/docker", *words]

    def buildx(self, context: Path, *more: str | Path, address: str = "") -> Sample:
        """``docker buildx build``: into docker's image store, unless told otherwise."""
        words = self.words("buildx", "build", "-q", "-t", "bench", *more, context)
        return process(words, env=self.environment(address))

    def forget(self) -> None:
        """Let the daemon drop its build cache and images but the base."""
        env = self.environment()
        for words in (("rmi", "-f", "bench"), ("builder", "prune", "-af")):
            subprocess.run(
                [str(word) for word in self.words(*words)],
                env=env,
                capture_output=True,
                check=False,
            )

    def load_base(self) -> None:
        """Give docker and buildah the base, as ``base:1``."""
        archive = self.folder / "base.tar"
        source = f"oci:{self.base.layout}:{self.base.name}"
        process(["skopeo", "copy", "-q", source, f"docker-archive:{archive}:base:1"])
        process(self.words("load", "-q", "-i", archive), env=self.environment())
        if self.buildah:
            process([*self._buildah(), "pull", "-q", f"docker-archive:{archive}"])

    def _buildah(self) -> list[str | Path]:
        assert self.buildah is not None
        store = self.folder / "buildah"
        return [self.buildah, "--root", store / "root", "--runroot", store / "run"]

    def bud(self, context: Path, *more: str) -> Sample:
        """``buildah bud --layers``."""
        words = [*self._buildah(), "bud", "-q", "--layers", "--isolation", "chroot",
                 "--network", "host", "--pull-never", "-t", "bench", *more, context]  # fmt: skip
        return process(words)

    def forget_buildah(self) -> None:
        """Drop the image and what it was built of; the base stays."""
        words = [str(word) for word in [*self._buildah(), "rmi", "-f", "bench"]]
        subprocess.run(words, capture_output=True, check=False)
        prune = [str(word) for word in [*self._buildah(), "rmi", "--prune"]]
        subprocess.run(prune, capture_output=True, check=False)


@dataclass(slots=True)
class Ours:
    """envgraph in workspaces of its own, and what it says over the wire."""

    address: str
    base: Base
    wire: Wire
    places: dict[str, Place] = field(default_factory=dict)

    def settle(self, place: Place, builder: dict[str, str] | None = None) -> None:
        """Make a workspace of a contender's folder."""
        (place.folder / "environments").mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.base.layout, place.folder / "base", dirs_exist_ok=True)
        document = {
            "workspace": "bench", "id": f"be9c{place.seed:04x}", "image": {"bytecode": "none"},
            "builder": builder or {"type": "buildkit", "address": self.address},
        }  # fmt: skip
        (place.folder / "envgraph.yaml").write_text(json.dumps(document))

    def write_context(self, place: Place) -> None:
        """The environment that is the build context."""
        path = place.folder / "environments/context.yml"
        path.write_text(json.dumps({"name": "context", "build": {"path": "context"}}))

    def write_steps(self, place: Place, name: str, steps: Sequence[str]) -> None:
        """An environment of docker steps on the base."""
        document = {"name": name, "image": "oci:../base", "docker_steps": list(steps)}
        (place.folder / f"environments/{name}.yml").write_text(json.dumps(document))

    def run(self, place: Place, *words: str) -> Sample:
        """One command."""
        return envgraph(*words, store=place.folder / "store", cwd=place.folder)

    def apply(self, place: Place, *words: str) -> Sample:
        """``envgraph apply``, without network as the daemon has none."""
        return self.run(place, "apply", "--auto-approve", "--offline", *words)

    def counted(self, place: Place, *words: str) -> str:
        """One more run, not timed: its calls to BuildKit, connections and bytes."""
        notes = place.folder / "calls"
        notes.unlink(missing_ok=True)
        settings = place.folder / "envgraph.yaml"
        before = settings.read_text()
        settings.write_text(before.replace(self.address, self.wire.address))
        self.wire.look()
        process(
            [sys.executable, "-m", "tests.counting", notes, *words],
            env=environment(place.folder / "store") | {"PYTHONPATH": str(ROOT)}, cwd=place.folder,
        )  # fmt: skip
        seen = self.wire.look()
        settings.write_text(before)
        calls = methods(notes)
        return (
            f"{calls.total()} calls, {calls['Solve']} of them Solve; {seen.connections} "
            f"connections; {size(seen.sent)} sent, {size(seen.received)} received"
        )


def daemon_cpu(session: int) -> float:
    """CPU seconds of a daemon and all that it started, those that ended included."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[3]) == session:
            ticks += sum(map(int, words[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def size(count: int) -> str:
    """Bytes for people."""
    for unit, step in (("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count} B"


def make_places(bench: Bench, names: Sequence[str], files: int) -> dict[str, Place]:
    """A folder for each contender."""
    found = {}
    for number, name in enumerate(names, 1):
        folder = bench.folder(f"builders-{number}")
        found[name] = Place(folder, number)
        if files:
            found[name].fill(files)
    return found


def base_in(bench: Bench) -> Base:
    """A small base with a shell."""
    return make_base(bench.folder("builders-base") / "layout")
