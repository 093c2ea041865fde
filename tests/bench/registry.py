"""A registry on loopback: an image pushed and pulled, first and again, beside skopeo."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from envgraph.testing.base import make_base
from tests.bench.bench import Bench, envgraph, remove
from tests.bench.measure import Contender, Sample, Table, process_alone, race
from tests.bench.plan import make_workspace
from tests.bench.science import Science, clone_store, science_of
from tests.registries import RunningRegistry, docker_registry
from tests.services import make_demo_channel

SKOPEO = "skopeo copy"
OURS = "envgraph"
LAYERS = 60
STEPS = ("first push", "second push", "first pull", "second pull")


@dataclass(slots=True)
class _Trips:
    """Each tool's samples by step, one a round: a round trip is one registry's life."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)

    def take(self, tool: str, step: str) -> Callable[[], Sample]:
        waiting = iter(self.samples[tool, step])
        return lambda: next(waiting)

    def note(self, tool: str, found: list[Sample]) -> None:
        for step, sample in zip(STEPS, found, strict=True):
            self.samples.setdefault((tool, step), []).append(sample)


def run(bench: Bench) -> Iterator[Table]:
    """Four tables of one image, then the questions that a plan of many environments asks."""
    if bench.find("docker-registry", "registry") is None:
        return
    skopeo = bench.find("skopeo", "registry: skopeo copy")
    if skopeo is None:
        return
    place = _Image(bench, science_of(bench))
    trips = _Trips()
    for number in range(bench.rounds):
        tools: list[tuple[str, Callable[[RunningRegistry], list[Sample]]]] = [
            (SKOPEO, lambda registry: place.by_skopeo(skopeo, registry)),
            (OURS, place.by_envgraph),
        ]
        for tool, work in tools if number % 2 == 0 else tools[::-1]:
            with docker_registry(bench.folder("docker-registry")) as registry:
                trips.note(tool, work(registry))
    for step in STEPS:
        table = Table(f"Registry, {step}", f"{place.about} {ABOUT[step]}", SKOPEO, memory=True)
        yield race(
            table, [Contender(tool, trips.take(tool, step)) for tool in (SKOPEO, OURS)],
            bench.rounds,
        )  # fmt: skip
    yield _many(bench)


ABOUT = {
    "first push": "To an empty docker-registry on loopback, a new one each round.",
    "second push": "The same image again: nothing is missing there.",
    "first pull": "Into an empty store, by `envgraph apply` of the committed lock; skopeo into an "
    "empty OCI layout.",
    "second pull": "Into where it lies already.",
}


class _Image:
    """The scientific environment with 60 layers, built in a store of its own."""

    def __init__(self, bench: Bench, science: Science) -> None:
        self._bench = bench
        home = bench.folder("registry")
        self._home = home
        self._workspace = home / "workspace"
        shutil.copytree(science.workspace, self._workspace)
        self._settings("")
        self._store = home / "store"
        clone_store(science.full, self._store, archives_only=True)
        envgraph("apply", "--auto-approve", store=self._store, cwd=self._workspace)
        blobs = list((self._store / "blobs/sha256").iterdir())
        text = (self._store / "index.json").read_text()
        found = re.search(r'"org\.opencontainers\.image\.ref\.name":\s*"([^"]+)"', text)
        assert found is not None
        self._name = found[1]
        size = sum(path.stat().st_size for path in blobs)
        self.about = f"{LAYERS} layers at most; {size / 1e6:.0f} MB in the store."

    def _settings(self, registry: str) -> None:
        (self._workspace / "envgraph.yaml").write_text(
            "workspace: workspace\nid: be9c0002\n"
            f"image: {{bytecode: none, max_layers: {LAYERS}}}\n{registry}"
        )

    def by_skopeo(self, skopeo: str, registry: RunningRegistry) -> list[Sample]:
        target = self._bench.folder("skopeo")
        there = f"docker://{registry.host}/bench/science:1"
        here, layout = f"oci:{self._store}:{self._name}", f"oci:{target}/layout:science"
        push = [skopeo, "copy", "-q", "--dest-tls-verify=false", here, there]
        pull = [skopeo, "copy", "-q", "--src-tls-verify=false", there, layout]
        env = {"HOME": str(target), "PATH": "/usr/bin:/bin"}
        return [process_alone(words, env=env) for words in (push, push, pull, pull)]

    def by_envgraph(self, registry: RunningRegistry) -> list[Sample]:
        self._settings(f"registry: {{type: oci, url: '{registry.host}/bench', insecure: true}}\n")
        pusher, puller = self._home / "pusher", self._home / "puller"
        for folder in (pusher, puller):
            if folder.exists():
                remove(folder)
        clone_store(self._store, pusher / "store")
        found = []
        for words, home in (
            (["push", "science"], pusher),
            (["push", "science"], pusher),
            (["apply", "--auto-approve"], puller),
            (["apply", "--auto-approve"], puller),
        ):
            store = home / "store"
            found.append(envgraph(*words, store=store, cwd=self._workspace, alone=True))
        return found


def _many(bench: Bench) -> Table:
    """What a plan asks a registry that has every environment."""
    count = 20 if bench.quick else 1_000
    home = bench.folder("registry-many")
    channel = make_demo_channel(home / "channel")
    base = make_base(home / "base")
    workspace, store = home / "workspace", home / "store"
    make_workspace(workspace, count, channel.url, base.reference)
    with docker_registry(home / "docker-registry") as registry:
        settings = workspace / "envgraph.yaml"
        text = settings.read_text()
        line = f"registry: {{type: oci, url: '{registry.host}/many', insecure: true}}\n"
        settings.write_text(text + line)
        first = _asked(registry)
        envgraph("apply", "--auto-approve", store=store, cwd=workspace)
        pushed = _asked(registry) - first
        empty = home / "second" / "store"
        notes: dict[str, str] = {}

        def counted(name: str, *words: str, where: Path) -> Contender:
            def run() -> Sample:
                before = _asked(registry)
                sample = envgraph(*words, store=where, cwd=workspace)
                notes[name] = f"{_asked(registry) - before:,} requests"
                return sample

            return Contender(name, run)

        table = Table(
            f"Registry, plan of {count:,} environments",
            f"All were pushed by the first apply ({pushed:,} requests). Each line is a new "
            "process; requests are counted in docker-registry's own log.",
            "envgraph plan, no memo",
        )
        contenders = [
            counted("envgraph plan", "plan", where=store),
            counted("envgraph plan, no memo", "plan", "--no-memo", where=store),
            counted("envgraph plan, empty store", "plan", "--no-memo", where=empty),
        ]
        race(table, contenders, 1 if bench.quick else bench.rounds)
    table.about += " " + "; ".join(f"{name}: {said}" for name, said in notes.items()) + "."
    return table


def _asked(registry: RunningRegistry) -> int:
    """How many requests docker-registry has logged."""
    text = registry.log.read_text(errors="replace")
    return len(re.findall(r'"(?:GET|HEAD|PUT|POST|PATCH|DELETE) /v2/', text))
