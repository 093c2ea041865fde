"""Builders: docker steps and build contexts, beside docker's own commands and buildah."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from tests.bench.bench import Bench, remove
from tests.bench.builder_desk import (
    FILE_BYTES,
    FILES,
    Ours,
    Place,
    Rivals,
    base_in,
    daemon_cpu,
    make_places,
)
from tests.bench.measure import Contender, Sample, Table, process, race
from tests.daemons import current_client, current_docker, dockerd
from tests.wire import Wire

T = TypeVar("T")
ENVGRAPH = "envgraph apply"
PLAN = "envgraph plan"
BUILDX = "docker buildx build"
OCI = "docker buildx build, type=oci"
BUILDAH = "buildah bud --layers"
BY_BUILDAH = "envgraph apply, buildah"
SHARING = 8

STEPS = ("RUN echo {0} > /first", "COPY data /data", "RUN echo b > /b", "ENV MODE=fast",
         "RUN echo c > /c")  # fmt: skip
"""The environment of steps; ``{0}`` tells contenders apart."""


def run(bench: Bench) -> Iterator[Table]:
    """Every question of the group; without docker's packages it is left out, and said."""
    try:
        programs, client = current_docker(bench.cache), current_client(bench.cache)
    except pytest.skip.Exception as error:
        bench.missing.append(f"builders: {error}")
        return
    with (
        dockerd(bench.folder("builders-daemon"), programs) as daemon,
        tempfile.TemporaryDirectory(prefix="eg-", dir="/tmp") as short,
        Wire(daemon.address, Path(short)) as wire,
    ):
        base = base_in(bench)
        buildah = bench.find("buildah", BUILDAH)
        folder = bench.folder("builders-rivals")
        rivals = Rivals(client, folder, daemon.address, buildah, base)
        rivals.load_base()
        ours = Ours(daemon.address, base, wire)
        group = _Group(bench, ours, rivals, daemon.version, daemon.process.pid)
        yield from group.contexts()
        yield from group.steps()
        yield group.sharing()


def _with_daemon(session: int, run: Callable[[], Sample]) -> Callable[[], Sample]:
    """The same with the daemon's CPU seconds added to the command's own."""

    def both() -> Sample:
        before = daemon_cpu(session)
        sample = run()
        return replace(sample, cpu=sample.cpu + daemon_cpu(session) - before)

    return both


def _settled(change: Callable[[T], object], what: T) -> None:
    """Make the change, and leave no contender the disk's work for the one before."""
    change(what)
    os.sync()


@dataclass(slots=True)
class _Group:
    bench: Bench
    ours: Ours
    rivals: Rivals
    version: str
    session: int

    @property
    def about(self) -> str:
        return (
            f"dockerd {self.version} with containerd's image store, on its own socket; buildx "
            "0.13. Each line is a new process. envgraph ends with layers in normal form, durable "
            "in its store; buildx with an image in docker's store (gzip), or a tar of it. CPU: of "
            "the command and the daemon together."
        )

    @property
    def files(self) -> int:
        return 200 if self.bench.quick else FILES

    # -- build contexts --------------------------------------------------

    def contexts(self) -> Iterator[Table]:
        names = [ENVGRAPH, BUILDX, OCI, *([BUILDAH] if self.rivals.buildah else [])]
        others = [name for name in names if name != OCI]
        places = make_places(self.bench, names, self.files)
        ours = places[ENVGRAPH]
        self.ours.settle(ours)
        self.ours.write_context(ours)
        for place in places.values():
            place.dockerfile("COPY data /data", "COPY app /app")
        megabytes = self.files * FILE_BYTES / 1e6
        what = f"{megabytes:.0f} MB in {self.files + 1:,} files, `COPY data` and `COPY app`. "
        output = self.bench.work / "image.tar"
        runs: dict[str, Callable[[Path], Sample]] = {
            BUILDX: self.rivals.buildx,
            OCI: lambda context: self.rivals.buildx(context, "--output", f"type=oci,dest={output}"),
            BUILDAH: self.rivals.bud,
        }

        def table(title: str, about: str, change: Callable[[Place], object]) -> Table:
            contenders = []
            for name in names if change is forget else others:
                place = places[name]
                contenders.append(
                    Contender(
                        name,
                        (lambda place=place: self.ours.apply(place))
                        if name == ENVGRAPH
                        else (lambda name=name, place=place: runs[name](place.context)),
                        lambda place=place: _settled(change, place),
                    )
                )
            found = self._race(Table(title, what + about, BUILDX), contenders, self.bench.rounds)
            change(ours)
            self._note(found, ENVGRAPH, ours, "apply", "--auto-approve", "--offline")
            return found

        def forget(place: Place) -> None:
            self.rivals.forget()
            if place is ours and (ours.folder / "store").exists():
                remove(ours.folder / "store")
            if place is places.get(BUILDAH):
                self.rivals.forget_buildah()

        yield table(
            "Build context, nothing built yet", f"The daemon's cache is empty. {self.about}", forget
        )
        for name in others[1:]:  # the last `forget` took their caches
            runs[name](places[name].context)
        del places[OCI]
        yield self._unchanged("Build context, nothing changed", what, ours, places, runs)
        yield table(
            "Build context, one file changed", "`app/main.py` changed.",
            lambda place: place.edit("app/main.py"),
        )  # fmt: skip

        def label(place: Place) -> None:
            place.edits += 1
            place.dockerfile("COPY data /data", "COPY app /app", f"LABEL edit={place.edits}")

        yield table(
            "Build context, unchanged, with another label",
            "The Dockerfile's last line changed: every file is as it was.", label,
        )  # fmt: skip
        yield table(
            "Build context, one file of the large folder changed",
            "One file below `data/`: a layer of everything in it is made anew.",
            lambda place: place.edit("data/d0/f0"),
        )

    def _unchanged(
        self,
        title: str,
        about: str,
        ours: Place,
        places: dict[str, Place],
        runs: dict[str, Callable[[Path], Sample]],
    ) -> Table:
        """Plan and apply with nothing to do. The snapshot is written by the plan before."""
        self.ours.run(ours, "plan", "--offline")
        contenders = [
            Contender(PLAN, lambda: self.ours.run(ours, "plan", "--offline"), os.sync),
            Contender(ENVGRAPH, lambda: self.ours.apply(ours), os.sync),
        ]
        for name in places:
            if name not in (ENVGRAPH, BY_BUILDAH):
                contenders.append(
                    Contender(name, lambda name=name: runs[name](places[name].context), os.sync)
                )
        table = Table(title, f"{about}Everything was built before.", BUILDX)
        found = self._race(table, contenders, max(self.bench.rounds, 3))
        self._note(found, ENVGRAPH, ours, "apply", "--auto-approve", "--offline")
        self._note(found, PLAN, ours, "plan", "--offline", "--no-memo")
        return found

    def _race(self, table: Table, contenders: list[Contender], rounds: int) -> Table:
        """The race, with the CPU of command and daemon."""
        table.cpu = True
        for contender in contenders:
            contender.run = _with_daemon(self.session, contender.run)
        return race(table, contenders, rounds)

    def _note(self, table: Table, name: str, place: Place, *words: str) -> None:
        """Say below the question what one more run asked of the daemon."""
        table.about += f" {name}: {self.ours.counted(place, *words)}."

    # -- steps -----------------------------------------------------------

    def steps(self) -> Iterator[Table]:
        names = [ENVGRAPH, BUILDX]
        if self.rivals.buildah:
            names += [BY_BUILDAH, BUILDAH]
        places = make_places(self.bench, names, self.files)
        steps = {name: [text.format(name) for text in STEPS] for name in names}
        storage = self.bench.folder("builders-storage")
        for name in (ENVGRAPH, BY_BUILDAH):
            if name in places:
                builder = {"type": "buildah", "storage": str(storage)}
                self.ours.settle(places[name], builder if name == BY_BUILDAH else None)

        def write(name: str) -> None:
            place = places[name]
            if name in (ENVGRAPH, BY_BUILDAH):
                local = [s.replace("COPY data", "COPY context/data") for s in steps[name]]
                self.ours.write_steps(place, "steps", local)
                return
            apart = "RUN --network=none" if name == BUILDX else "RUN"
            place.dockerfile(*(s.replace("RUN", apart, 1) for s in steps[name]), base="base:1")

        def build(name: str) -> Sample:
            place = places[name]
            if name in (ENVGRAPH, BY_BUILDAH):
                return self.ours.apply(place)
            if name == BUILDX:
                return self.rivals.buildx(place.context)
            return self.rivals.bud(place.context)

        def table(title: str, about: str, change: Callable[[str], object]) -> Table:
            contenders = [
                Contender(
                    name, lambda name=name: build(name), lambda name=name: _settled(change, name)
                )
                for name in names
            ]
            found = self._race(Table(title, about, BUILDX), contenders, self.bench.rounds)
            change(ENVGRAPH)
            place = places[ENVGRAPH]
            self._note(found, ENVGRAPH, place, "apply", "--auto-approve", "--offline")
            return found

        def first(name: str) -> None:
            steps[name][0] += "1"
            if name in (ENVGRAPH, BUILDX):
                self.rivals.forget()
            if name == BUILDAH:
                self.rivals.forget_buildah()
            if (places[name].folder / "store").exists():
                remove(places[name].folder / "store")
            write(name)

        def append(name: str) -> None:
            steps[name].append(f"RUN echo {len(steps[name])} > /appended")
            write(name)

        megabytes = self.files * FILE_BYTES / 1e6
        what = f"5 steps on a small base, one of them `COPY` of {megabytes:.0f} MB. "
        yield table(
            "Docker steps, nothing built yet",
            f"{what}The daemon's cache and envgraph's store are empty.",
            first,
        )
        remove(places[ENVGRAPH].folder / "store")  # the last `forget` took everybody's cache
        for name in names:
            build(name)
        runs: dict[str, Callable[[Path], Sample]] = {
            BUILDX: self.rivals.buildx,
            BUILDAH: self.rivals.bud,
        }
        yield self._unchanged("Docker steps, nothing changed", what, places[ENVGRAPH], places, runs)
        yield table("Docker steps, one appended", what, append)

    # -- sharing ---------------------------------------------------------

    def sharing(self) -> Table:
        """Environments with a prefix in common, all at once."""
        names = [ENVGRAPH, BUILDX]
        places = make_places(self.bench, names, 0)
        self.ours.settle(places[ENVGRAPH])
        rounds = dict.fromkeys(names, 0)

        def counted(name: str) -> str:
            return f"--mount=type=cache,id=count-{places[name].seed},target=/count"

        def steps(name: str, number: int) -> list[str]:
            token = f"{name.replace(' ', '-')}-{rounds[name]}"
            return [
                f"RUN {counted(name)} echo {token} >> /count/prefix; sleep 1; echo a > /a",
                "RUN sleep 1; cat /a > /b",
                "ENV SHARED=1",
                f"RUN echo {number} > /own",
            ]

        def write(name: str) -> None:
            rounds[name] += 1
            for number in range(SHARING):
                if name == ENVGRAPH:
                    self.ours.write_steps(places[name], f"e{number}", steps(name, number))
                    continue
                folder = places[name].folder / f"e{number}"
                folder.mkdir(exist_ok=True)
                text = "\n".join(
                    s.replace("RUN", "RUN --network=none", 1) for s in steps(name, number)
                )
                (folder / "Dockerfile").write_text(f"FROM base:1\n{text}\n")

        def all_at_once() -> Sample:
            docker = " ".join(map(str, self.rivals.words("buildx", "build", "-q")))
            one = f'{docker} -t bench-$n {places[BUILDX].folder}/e$n & pids="$pids $!";'
            script = (
                f"pids=; for n in {' '.join(map(str, range(SHARING)))}; do {one} done; "
                "for p in $pids; do wait $p || exit 1; done"
            )
            return process(["sh", "-c", script], env=self.rivals.environment())

        contenders = [
            Contender(
                ENVGRAPH,
                lambda: self.ours.apply(places[ENVGRAPH], "--parallelism", str(SHARING)),
                lambda: write(ENVGRAPH),
                f"one, --parallelism {SHARING}",
            ),
            Contender(BUILDX, all_at_once, lambda: write(BUILDX), f"{SHARING} processes at once"),
        ]
        about = (
            f"{SHARING} environments of four steps, of which the first three are shared; two of "
            "them sleep for a second each, so two seconds are the least."
        )
        table = Table(f"{SHARING} environments with a shared prefix", about, BUILDX)
        self._race(table, contenders, self.bench.rounds)
        write(ENVGRAPH)
        words = ("apply", "--auto-approve", "--offline", "--parallelism", str(SHARING))
        self._note(table, ENVGRAPH, places[ENVGRAPH], *words)
        return table
