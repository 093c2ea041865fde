"""Caches that others left, and how builds were made: a real worker and a real registry."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from envgraph.api import BuilderError, BuildRequest, Event, Platform
from envgraph.testing.base import Base, make_base
from envgraph.testing.builder.contract_base import whole
from envgraph.testing.builder.material import EPOCH, base_of_layout, steps
from envgraph_buildkit import (
    BuildkitClient,
    Image,
    InlineCache,
    LocalCache,
    Oci,
    OtherCache,
    Provenance,
    RegistryCache,
    llb,
)
from tests.buildkit import forget, opened
from tests.daemons import Daemon
from tests.registries import RunningRegistry, docker_registry

pytestmark = [pytest.mark.services, pytest.mark.slow]

CANARY = b"canary-4f1c77"


@pytest.fixture(scope="module")
def address(current_dockerd: Daemon) -> str:
    return os.environ.get("ENVGRAPH_BUILDKITD") or current_dockerd.address


@pytest.fixture
def client(address: str) -> Iterator[BuildkitClient]:
    with BuildkitClient(address) as made:
        yield made


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base") / "layout")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


Build = Callable[..., list[str]]


@pytest.fixture
def build(client: BuildkitClient, layout: Base, tmp_path: Path) -> Build:
    """Builds two stages of a Dockerfile, and says which `RUN` ran."""

    text = (
        f"FROM base AS one\nRUN --network=none echo {tmp_path.name} > /one\n"
        "FROM base\nCOPY --from=one /one /one\nRUN --network=none echo two > /two\n"
    )

    def call(**settings: Any) -> list[str]:
        events: list[Event] = []
        client.build_dockerfile(
            tmp_path, dockerfile=text.encode(), on_event=events.append,
            contexts={"base": f"oci-layout://base@{layout.manifest}"},
            oci_layouts={"base": layout.layout}, **settings,
        )  # fmt: skip
        return sorted(
            word
            for event in events
            for word in ("one", "two")
            if event.kind == "done" and "RUN" in event.name and f"> /{word}" in event.name
        )

    return call


def test_an_image_carries_its_cache(
    build: Build, client: BuildkitClient, registry: RunningRegistry
) -> None:
    image = f"{registry.host}/inline:1"
    pushed = [Image(image, push=True)]
    assert build(exporters=pushed, cache_exports=[InlineCache()]) == ["one", "two"]
    client.prune(everything=True)
    assert build(cache_imports=[RegistryCache(image)]) == []


def test_an_image_without_one_does_not(
    build: Build, client: BuildkitClient, registry: RunningRegistry
) -> None:
    image = f"{registry.host}/plain:1"
    build(exporters=[Image(image, push=True)])
    client.prune(everything=True)
    assert build(cache_imports=[RegistryCache(image)]) == ["one", "two"]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_cache_in_a_registry(
    build: Build, client: BuildkitClient, registry: RunningRegistry, mode: str
) -> None:
    ref = f"{registry.host}/cache:{mode}"
    build(cache_exports=[RegistryCache(ref, mode=mode)])
    client.prune(everything=True)
    assert build(cache_imports=[RegistryCache(ref)]) == []


def test_a_cache_in_a_folder(build: Build, client: BuildkitClient, tmp_path: Path) -> None:
    cache = LocalCache(tmp_path / "cache", mode="max")
    assert build(cache_imports=[cache], cache_exports=[cache]) == ["one", "two"]
    client.prune(everything=True)
    assert build(cache_imports=[cache], cache_exports=[cache]) == []
    index = json.loads((tmp_path / "cache/index.json").read_text())
    assert len(index["manifests"]) == 1
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_cache_for_a_graph(
    client: BuildkitClient, layout: Base, registry: RunningRegistry, tmp_path: Path
) -> None:
    ref = f"{registry.host}/graph:1"
    state = llb.oci_layout("base", layout.manifest).run("echo g > /g", network="none", name="ours")
    settings: dict[str, Any] = {"oci_layouts": {"base": layout.layout}}
    client.solve(state, cache_exports=[RegistryCache(ref, mode="max")], **settings)
    client.prune(everything=True)
    events: list[Event] = []
    client.solve(
        state, cache_imports=[RegistryCache(ref)], on_event=events.append,
        exporters=[Oci(tmp_path / "x.tar")], **settings,
    )  # fmt: skip
    assert [event.kind for event in events if event.name == "ours"] == ["start", "skipped"]


def test_the_builder_takes_steps_out_of_an_image_that_was_pushed_with_its_cache(
    address: str, client: BuildkitClient, layout: Base, registry: RunningRegistry
) -> None:
    image = f"{registry.host}/for-the-builder:1"
    client.build_dockerfile(
        layout.layout, dockerfile=b"FROM envgraph-base\nRUN echo shared > /shared\n",
        contexts={"envgraph-base": f"oci-layout://envgraph@{layout.manifest}"},
        oci_layouts={"envgraph": layout.layout}, network="host", allow=["network.host"],
        exporters=[Image(image, push=True)], cache_exports=[InlineCache()],
    )  # fmt: skip
    base = base_of_layout(layout.layout, layout.name)
    request = BuildRequest(
        Platform("linux", "amd64"), steps(base, "RUN echo shared > /shared"), epoch=EPOCH
    )
    for cache_from, state in ((), "done"), ((image,), "skipped"):
        with opened(address, cache_from=cache_from, network="host") as builder:
            forget(builder)
            built = whole(builder, request)
            assert built.read("shared") == b"shared\n"
            ended = [each.kind for each in built.events if "RUN echo shared" in each.name]
            assert ended[-1] == state


def test_the_builder_keeps_a_cache_in_a_folder(address: str, layout: Base, tmp_path: Path) -> None:
    base = base_of_layout(layout.layout, layout.name)
    text = f"RUN echo {tmp_path.name} > /kept"
    request = BuildRequest(Platform("linux", "amd64"), steps(base, text), epoch=EPOCH)
    folder = tmp_path / "cache"
    layers = []
    for options, state in (
        ({"cache_to": f"type=local,dest={folder}"}, "done"),
        ({"cache_from": (f"type=local,src={folder}",)}, "skipped"),
    ):
        with opened(address, network="host", **options) as builder:
            forget(builder)
            built = whole(builder, request)
        layers.append(built.result.layers)
        ended = [each.kind for each in built.events if "RUN echo" in each.name]
        assert ended[-1] == state
    assert layers[0] == layers[1]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"cache_exports": [InlineCache()]}, "builder-options"),
        ({"cache_exports": [OtherCache("floppy", {})]}, "builder-options"),
        ({"cache_imports": [OtherCache("floppy", {})]}, "builder-options"),
        ({"cache_exports": [LocalCache("/tmp/a", mode="all")]}, "builder-options"),
        ({"cache_exports": [LocalCache("/tmp/a"), LocalCache("/tmp/b")]}, "builder-options"),
    ],
)
def test_what_makes_no_sense(build: Build, settings: dict[str, Any], code: str) -> None:
    with pytest.raises(BuilderError) as caught:
        build(**settings)
    assert caught.value.code == code


def test_a_folder_that_is_no_cache(build: Build, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(BuilderError) as caught:
        build(cache_imports=[LocalCache(tmp_path)])
    assert caught.value.code == "builder-options"


# How it was built


def statements(found: Sequence[Provenance]) -> str:
    return json.dumps([each.predicate for each in found])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_provenance_stands_beside_the_image_and_is_returned(
    client: BuildkitClient, layout: Base, tmp_path: Path, mode: Any
) -> None:
    settings: dict[str, Any] = {
        "contexts": {"base": f"oci-layout://base@{layout.manifest}"},
        "oci_layouts": {"base": layout.layout}, "secrets": {"s": CANARY},
        "dockerfile": b"FROM base\nRUN --network=none --mount=type=secret,id=s"
        b" cat /run/secrets/s | tr a-z A-Z > /dev/null\n",
    }  # fmt: skip
    done = client.build_dockerfile(
        tmp_path, exporters=[Oci(tmp_path / "image.tar")], provenance=mode, **settings
    )
    (found,) = done.provenance
    assert found.predicate_type.startswith("https://slsa.dev/provenance/")
    assert layout.manifest.removeprefix("sha256:") in statements(done.provenance)
    blobs = {}
    with tarfile.open(tmp_path / "image.tar") as archive:
        for name in archive.getnames():
            if name.startswith("blobs/sha256/"):
                blobs[name.rpartition("/")[2]] = archive.extractfile(name).read()  # type: ignore[union-attr]
    index = json.loads(blobs[done.digest.removeprefix("sha256:")])
    kind = "vnd.docker.reference.type"
    (attestation,) = [
        each for each in index["manifests"] if kind in (each.get("annotations") or {})
    ]
    manifest = json.loads(blobs[attestation["digest"].removeprefix("sha256:")])
    statement = json.loads(blobs[manifest["layers"][0]["digest"].removeprefix("sha256:")])
    assert statement["predicateType"].startswith("https://slsa.dev/provenance/")
    everything = b"".join(blobs.values()) + statements(done.provenance).encode()
    assert CANARY not in everything


def test_the_history_tells_it_of_every_build_and_changes_no_image(
    client: BuildkitClient, layout: Base, tmp_path: Path
) -> None:
    state = llb.oci_layout("base", layout.manifest).run(
        "cat /run/secrets/s | tr a-z A-Z > /dev/null", network="none", mounts=[llb.Secret("s")]
    )
    settings: dict[str, Any] = {
        "oci_layouts": {"base": layout.layout}, "secrets": {"s": CANARY},
        "exporters": [Oci(tmp_path / "image.tar")], "epoch": EPOCH,
    }  # fmt: skip
    first = client.solve(state, **settings)
    found = client.provenance(first.ref)
    assert CANARY.decode() not in statements(found)
    assert layout.manifest.removeprefix("sha256:") in statements(found)
    second = client.solve(state, **settings)
    assert client.provenance(second.ref)
    assert first.digest == second.digest
    assert first.provenance == ()


def test_a_build_that_nobody_did(client: BuildkitClient) -> None:
    with pytest.raises(BuilderError) as caught:
        client.provenance("0" * 32)
    assert caught.value.code == "builder-lacks"
