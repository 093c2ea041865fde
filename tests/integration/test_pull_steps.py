"""One machine with a builder, others without: real registries, the real buildah and BuildKit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.built import BuiltDesk, push_base
from tests.daemons import Daemon
from tests.desk import Desk
from tests.registries import docker_registry
from tests.repositories import Repository
from tests.services import make_demo_channel
from tests.stepped import recorded

pytestmark = pytest.mark.services

STEPS = ("RUN echo hi > /made.txt", "COPY settings.txt /etc/settings.txt", "ENV SHADE=blue")
NOBODY = {"type": "buildah", "program": "/nowhere/buildah"}
SHOWN = "cat /made.txt /etc/settings.txt; echo $SHADE; cat /opt/env/share/alpha/version"


@pytest.fixture(params=["dirs", "oci"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, object]]:
    """What envgraph.yaml says of it."""
    if request.param == "dirs":
        yield {"type": "dirs", "path": str(tmp_path / "shelf")}
        return
    with docker_registry(tmp_path / "registry") as running:
        yield {"type": "oci", "url": f"{running.host}/team", "insecure": True}


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and one storage of buildah for all tests."""
    folder = tmp_path_factory.mktemp("pull-steps")
    make_base(folder / "base")
    return folder


@pytest.fixture
def built(tmp_path: Path, shared: Path) -> BuiltDesk:
    channel = make_demo_channel(tmp_path / "channel")
    return BuiltDesk.make(tmp_path / "desk", channel.url, shared / "base", shared / "storage")


def again(first: Desk, root: Path, **settings: object) -> BuiltDesk:
    """A machine with the committed files, an empty store and no builder; the base is not there."""
    desk = Desk(root, first.channel)
    shutil.rmtree(desk.folder)
    shutil.copytree(first.folder, desk.folder)
    shutil.rmtree(desk.folder / "base")
    other = BuiltDesk(desk, root / "none")
    other.settings(**({"builder": NOBODY} | settings))
    return other


def same(desks: list[Desk], name: str) -> None:
    """Both have the same version, layer by layer, and what each step made."""
    shown = [desk.ok("show", name, "--json").json for desk in desks]
    for key in ("image", "lock", "definition", "layers"):
        assert shown[0][key] == shown[1][key]


def test_a_team_with_one_builder(
    built: BuiltDesk, registry: dict[str, object], tmp_path: Path
) -> None:
    desk = built.desk
    (desk.folder / "environments" / "settings.txt").write_text("blue\n")
    built.settings(registry=registry)
    built.steps("train", *STEPS, conda="alpha=1.0")
    built.context("ctx", "FROM scratch\nCOPY a.txt /a.txt\nENV X=1\n", {"a.txt": "hello"})
    made = desk.apply()
    other = again(desk, tmp_path / "second", registry=registry)
    plan = other.desk.plan()
    assert (plan["summary"]["build"], plan["summary"]["pull"]) == (0, 2)
    assert "no-builder" not in [d["code"] for d in plan["diagnostics"]]
    text = other.desk.ok("plan").out
    assert text.count("its image comes out of the registry") == 2
    result = other.desk.apply()
    assert (result["built"], result["pulled"], result["pushed"]) == (0, 2, 0)
    assert result["environments"] == made["environments"]
    for name in ("train", "ctx"):
        same([desk, other.desk], name)
    ran = other.desk.ok("run", "train", "--container", "--", "sh", "-c", SHOWN)
    assert ran.out == "hi\nblue\nblue\n1.0"
    assert not other.desk.plan()["changes"]
    assert other.desk.run("store", "verify").code == 0

    # the same steps below other packages: nothing to build but layers, which need no builder
    other.steps("score", *STEPS, conda="gamma")
    shutil.copytree(built.desk.folder / "base", other.desk.folder / "base")
    assert not [s for s in other.desk.plan()["steps"] if s["kind"] == "docker-step"]
    other.desk.apply()
    # another machine, which has nothing: only those steps come
    third = again(other.desk, tmp_path / "third", registry=registry)
    (third.desk.folder / "environments" / "train.yml").unlink()
    (third.desk.folder / "environments" / "ctx.yml").unlink()
    shutil.copytree(built.desk.folder / "base", third.desk.folder / "base")
    third.steps("score", *STEPS, conda="beta")
    third.steps("own", *STEPS[:2], "RUN echo own > /own")
    planned = {s["name"]: s for s in third.desk.plan()["steps"] if s["kind"] == "docker-step"}
    assert {name: step["action"] for name, step in planned.items()} == {
        STEPS[1]: "pull", STEPS[2]: "pull", "RUN echo own > /own": "build",
    }  # fmt: skip
    answer = third.desk.run("apply", "--json", "--auto-approve")
    assert (answer.code, answer.errors().count("no-builder")) == (1, 1)
    assert [item["name"] for item in answer.json["environments"]] == ["score"]
    third.settings(registry=registry, builder={"type": "buildah", "storage": str(built.storage)})
    assert third.desk.apply()["built"] == 1
    ran = third.desk.ok("run", "own", "--container", "--", "cat", "/own", "/made.txt")
    assert ran.out == "own\nhi\n"


def test_on_a_base_in_a_registry_that_is_gone(built: BuiltDesk, tmp_path: Path) -> None:
    desk = built.desk
    own = {"type": "dirs", "path": str(tmp_path / "shelf")}
    with docker_registry(tmp_path / "bases") as running:
        image = push_base(desk.folder / "base", running.host, "team/base")
        bases = {"bases": {"type": "oci", "url": running.host, "insecure": True}}
        built.settings(registry=own, registries=bases)
        built.steps("train", "RUN echo hi > /made.txt", conda="alpha=1.0", image=image)
        made = desk.apply()
    other = again(desk, tmp_path / "second", registry=own, registries=bases)
    result = other.desk.apply()
    assert (result["built"], result["environments"]) == (0, made["environments"])
    other.steps("train", "RUN echo hi > /made.txt", conda="gamma", image=image)
    third = again(desk, tmp_path / "third", registry=own, registries=bases)
    assert [s["kind"] for s in third.desk.plan()["steps"] if s["action"] == "pull"] == ["image"]


def test_share_pull_push_and_bundle(built: BuiltDesk, tmp_path: Path) -> None:
    desk = built.desk
    shelf = {"type": "dirs", "path": str(tmp_path / "shelf")}
    both = {"shared": {"type": "dirs", "path": str(tmp_path / "shared")}}
    built.settings(registry=shelf, registries=both)
    built.steps("train", "RUN echo hi > /made.txt", "ENV SHADE=blue", conda="alpha=1.0")
    image = desk.apply()["environments"][0]["image"]
    desk.ok("push", "train")
    desk.ok("share", "train", "--to", "shared", "--claim")
    desk.ok("bundle", "create", "train", "-o", str(tmp_path / "train.tar"))
    taker = Desk(tmp_path / "taker", "file:///nowhere")
    taker.settings(workspace="taker", id="bbbb0002", builder=NOBODY, registries=both)
    taker.ok("pull", "train", "--from", "shared")
    importer = Desk(tmp_path / "importer", "file:///nowhere")
    importer.settings(workspace="importer", id="cccc0003", builder=NOBODY)
    importer.ok("bundle", "import", str(tmp_path / "train.tar"), "--offline")
    address = "azureml://registries/shared/environments/train"
    for machine, name in ((taker, address), (importer, "train")):
        shown = machine.ok("show", name, "--json").json
        assert shown["image"] == image
        assert "RUN echo hi > /made.txt" in {layer.get("step") for layer in shown["layers"]}
        ran = machine.ok("run", name, "--offline", "--container", "--", "cat", "/made.txt")
        assert ran.out == "hi\n"
        assert machine.run("store", "verify").code == 0
    both["shared"] |= {"trust_steps": False}
    distrusting = Desk(tmp_path / "distrusting", "file:///nowhere")
    distrusting.settings(workspace="d", id="dddd0004", builder=NOBODY, registries=both)
    answer = distrusting.run("pull", "train", "--from", "shared", "--json")
    assert (answer.code, answer.errors()) == (1, ["pull-built"])


@pytest.mark.slow
@pytest.mark.parametrize("age", ["current", "old"])
def test_what_buildkit_made_goes_on_with_buildah(
    built: BuiltDesk, tmp_path: Path, age: str, request: pytest.FixtureRequest
) -> None:
    daemon: Daemon = request.getfixturevalue(f"{age}_dockerd")
    desk = built.desk
    shelf = {"type": "dirs", "path": str(tmp_path / "shelf")}
    (desk.folder / "environments" / "settings.txt").write_text("blue\n")
    built.settings(registry=shelf, builder={"type": "buildkit", "address": daemon.address})
    built.steps("train", *STEPS, conda="alpha=1.0")
    # the daemons of tests have no bridge, so that steps run without network
    image = desk.apply("--offline")["environments"][0]["image"]
    other = again(desk, tmp_path / "second", registry=shelf)
    assert other.desk.apply()["environments"][0]["image"] == image
    same([desk, other.desk], "train")
    third = again(desk, tmp_path / "third", registry=shelf)
    shutil.copytree(built.desk.folder / "base", third.desk.folder / "base")
    third.settings(registry=shelf, builder={"type": "buildah", "storage": str(built.storage)})
    third.steps("train", *STEPS, "RUN cat /made.txt /etc/settings.txt > /both", conda="alpha=1.0")
    assert third.desk.apply()["built"] >= 1
    records = recorded(third.desk.store).values()
    makers = {str(record["builder"]) for record in records if "builder" in record}
    assert any("buildah" in maker for maker in makers)
    assert len(makers) == 2
    ran = third.desk.ok("run", "train", "--container", "--", "cat", "/both")
    assert ran.out == "hi\nblue\n"


def test_a_context_in_git_comes_without_git(built: BuiltDesk, tmp_path: Path) -> None:
    desk = built.desk
    shelf = {"type": "dirs", "path": str(tmp_path / "shelf")}
    files: dict[str, str | bytes | Path] = {
        "Dockerfile": "FROM scratch\nCOPY a.txt /a.txt\n", "a.txt": "one\n",
    }  # fmt: skip
    repository = Repository.make(tmp_path / "served" / "env.git", files)
    built.settings(registry=shelf)
    (desk.folder / "environments" / "far.yml").write_text(
        json.dumps({"name": "far", "build": {"path": f"{repository.url}#main"}})
    )
    made = desk.apply()
    shutil.rmtree(tmp_path / "served")
    other = again(desk, tmp_path / "second", registry=shelf)
    result = other.desk.apply()
    assert (result["built"], result["environments"]) == (0, made["environments"])
    same([desk, other.desk], "far")
    assert not other.desk.plan("--offline")["changes"]
