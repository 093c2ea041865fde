"""The image of a scientific environment: cold, unchanged, one package changed, recombined."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.bench import rivals
from tests.bench.bench import Bench, envgraph, remove
from tests.bench.measure import Contender, Sample, Table, race
from tests.bench.science import Science, clone_store, science_of, set_bytecode

TAR = "tar | zstd -3 -T2"
DOCKER = "docker build, one COPY"


def run(bench: Bench) -> Iterator[Table]:
    """Four tables; each envgraph line is a whole `envgraph apply` in a new process."""
    science = science_of(bench)
    dockerfile = bench.work / "Dockerfile"
    dockerfile.write_text(rivals.DOCKERFILE)
    docker = rivals.docker(bench)
    if docker is None:
        yield from _tables(bench, science, dockerfile, None)
        return
    with docker.running() as works:
        if not works:
            bench.missing.append("docker build: dockerd does not start here")
        yield from _tables(bench, science, dockerfile, docker if works else None)


def _tables(
    bench: Bench, science: Science, dockerfile: Path, docker: rivals.Docker | None
) -> Iterator[Table]:
    yield _cold(bench, science, dockerfile, docker)
    set_bytecode(science.workspace, "none")
    for workspace in (science.changed, science.combined):
        set_bytecode(workspace, "none")
    store = bench.folder("without") / "store"
    clone_store(science.full, store, archives_only=True)
    envgraph("apply", "--auto-approve", store=store, cwd=science.workspace)
    yield _unchanged(bench, science, store, dockerfile, docker)
    yield _changed(bench, science, store, dockerfile, docker)
    yield _combined(bench, science, store)


def _apply(bench: Bench, name: str, workspace: Path, source: Path, *, cold: bool) -> Contender:
    """``envgraph apply`` in a copy of a store, made anew each round."""
    home = bench.work / f"apply-{name.replace(' ', '-').replace(',', '')}"
    store = home / "store"

    def prepare() -> None:
        if home.exists():
            remove(home)
        clone_store(source, store, archives_only=cold)

    def run() -> Sample:
        return envgraph("apply", "--auto-approve", store=store, cwd=workspace)

    return Contender(name, run, prepare)


def _cold(bench: Bench, science: Science, dockerfile: Path, docker: rivals.Docker | None) -> Table:
    plain = bench.work / "plain"
    shutil.copytree(science.workspace, plain)
    set_bytecode(plain, "none")
    output = bench.work / "tree.tar.zst"
    tree = science.tree
    contenders = [
        Contender(TAR, lambda: rivals.tar_zstd(tree, output)),
        _apply(bench, "envgraph apply, no bytecode", plain, science.full, cold=True),
        _apply(bench, "envgraph apply, bytecode", science.workspace, science.full, cold=True),
    ]
    if docker is not None:
        contenders.append(Contender(DOCKER, lambda: docker.build(tree, dockerfile)))
    if program := bench.find("buildah", "buildah bud"):
        folder = bench.work / "buildah"
        contenders.append(
            Contender(
                "buildah bud, one COPY",
                lambda: rivals.buildah(program, tree, dockerfile, folder),
                lambda: rivals.clean(folder),
            )
        )
    if inserter := bench.find("umoci", "umoci insert"):
        place = bench.folder("umoci")
        contenders.append(
            Contender(
                "umoci insert",
                lambda: rivals.umoci(inserter, tree, place),
                lambda: shutil.rmtree(place / "layout", ignore_errors=True),
                "gzip",
            )
        )
    about = f"{science.about} envgraph starts from archives, the others from the installed tree."
    return race(Table("Image, nothing built yet", about, TAR), contenders, bench.rounds)


def _unchanged(
    bench: Bench, science: Science, store: Path, dockerfile: Path, docker: rivals.Docker | None
) -> Table:
    name = "envgraph apply"
    contenders = [
        Contender(
            name,
            lambda: envgraph("apply", "--auto-approve", store=store, cwd=science.workspace),
        )
    ]
    if docker is not None:
        contenders.append(
            Contender(DOCKER, lambda: docker.build(science.tree, dockerfile, cached=True))
        )
    table = Table("Image, nothing changed", "Everything was built before.", name)
    return race(table, contenders, bench.rounds)


def _changed(
    bench: Bench, science: Science, store: Path, dockerfile: Path, docker: rivals.Docker | None
) -> Table:
    name = "envgraph apply"
    contenders = [_apply(bench, name, science.changed, store, cold=False)]
    if docker is not None:
        marker = science.tree / "changed"
        contenders.append(
            Contender(
                DOCKER,
                lambda: docker.build(science.tree, dockerfile, cached=True),
                lambda: marker.write_text(marker.read_text() + "x" if marker.exists() else "x"),
            )
        )
    about = "tqdm has another version, locked and downloaded before."
    table = race(Table("Image, one package changed", about, name), contenders, bench.rounds)
    (science.tree / "changed").unlink(missing_ok=True)
    return table


def _combined(bench: Bench, science: Science, store: Path) -> Table:
    name = "envgraph apply"
    about = (
        "An environment that leaves packages out; every package was seen before, locked and "
        "downloaded. No rival knows packages, so there is none: they do what they did cold."
    )
    contenders = [_apply(bench, name, science.combined, store, cold=False)]
    return race(Table("Image, a new combination", about, name), contenders, bench.rounds)
