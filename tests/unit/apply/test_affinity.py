"""Which environments go to the same server."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from envgraph.apply.affinity import affinity_of
from envgraph.model.config import WorkspaceConfig
from envgraph.model.locked import LockedEnvironment
from envgraph.model.spec import BuildSpec, CopiedInput, DockerStep, EnvironmentSpec
from envgraph_store import Digest


def workspace(root: str = "/w", id: str = "id") -> WorkspaceConfig:
    return WorkspaceConfig("w", id, root)


def steps(*instructions: str, folder: str = "", content: str = "") -> EnvironmentSpec:
    found = []
    for text in instructions:
        copies = text.startswith("COPY")
        inputs = (CopiedInput("a", Digest.of(content.encode())),) if copies else ()
        found.append(DockerStep(text, inputs, folder=folder))
    return EnvironmentSpec("e", image="python", docker_steps=tuple(found))


def of(spec: EnvironmentSpec, base: str = "python", config: WorkspaceConfig | None = None) -> str:
    return affinity_of(config or workspace(), spec, lock(base))


def lock(base: str, platform: str = "linux-64") -> LockedEnvironment:
    found = SimpleNamespace(platform=platform, base=SimpleNamespace(reference=base))
    return cast("LockedEnvironment", found)


def test_a_shared_first_step_is_shared() -> None:
    one = steps("RUN apt-get update", "RUN a")
    assert of(one) == of(steps("RUN apt-get update", "RUN b"))
    assert of(one) != of(steps("RUN other", "RUN a"))
    assert of(one) != of(one, "debian")
    assert of(one) != affinity_of(workspace(), one, lock("python", "linux-aarch64"))


def test_what_takes_no_time_does_not_bind() -> None:
    start = ("ARG V=1", "ENV A=1", "WORKDIR /w", "USER root")
    assert of(steps(*start, "RUN a")) != of(steps(*start, "RUN b"))
    assert of(steps(*start, "RUN a", "RUN b")) == of(steps(*start, "RUN a", "RUN c"))
    assert of(steps("ENV A=1")) != of(steps("ENV A=2"))


def test_the_files_folder_counts_and_their_bytes_do_not() -> None:
    copy = "COPY a /a"
    one = of(steps(copy, folder="/w/environments", content="1"))
    assert one == of(steps(copy, folder="/w/environments", content="2"))
    assert one != of(steps(copy, folder="/w/other", content="1"))
    run = "RUN true"
    assert of(steps(run, copy, folder="/w/x")) == of(steps(run, copy, folder="/w/y"))


def test_a_context_is_known_by_its_folder_on_every_machine(tmp_path: Path) -> None:
    def context(root: str, path: str, dockerfile: str = "Dockerfile", id: str = "id") -> str:
        build = BuildSpec(path, dockerfile, folder=f"{root}/{path}")
        return of(EnvironmentSpec("e", build=build), "python", workspace(root, id))

    assert context("/home/ann/w", "train") == context("/home/bob/w", "train")
    assert context("/w", "train") != context("/w", "serve")
    assert context("/w", "train") != context("/w", "train", "gpu.Dockerfile")
    assert context("/w", "train") != context("/w", "train", id="other")


def test_a_context_in_git_is_known_by_its_repository() -> None:
    def context(address: str) -> str:
        return of(EnvironmentSpec("e", build=BuildSpec(address)))

    repository = "https://git.example.org/team/images.git"
    assert context(f"{repository}#v1:train") == context(f"{repository}#v2:train")
    assert context(f"{repository}#v1:train") != context(f"{repository}#v1:serve")
    assert context(f"{repository}#v1") != context("https://git.example.org/other.git#v1")
