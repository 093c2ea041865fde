"""Build contexts in git and archives, and build arguments: the whole way, with real builders."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from envgraph import BuildContext, Environment, Workspace
from envgraph.testing.base import make_base
from envgraph.testing.http import ChannelServer
from tests.built import BuiltDesk, names_in
from tests.canaries import Canaries
from tests.daemons import Daemon
from tests.desk import Desk
from tests.repositories import GitServer, Repository
from tests.services import Channel

pytestmark = pytest.mark.services

DOCKERFILE = """\
FROM scratch
ARG FLAVOUR=plain
COPY . /app/
ENV SHADE=$FLAVOUR
"""
FILES: dict[str, str | bytes | Path] = {
    "docker/Dockerfile": DOCKERFILE, "docker/a.txt": "one\n", "docker/n.log": "n\n",
    "docker/run*": "#!/bin/sh\n", "docker/.dockerignore": "*.log\n",
}  # fmt: skip


@pytest.fixture
def built(tmp_path: Path, demo_channel: Channel, monkeypatch: pytest.MonkeyPatch) -> BuiltDesk:
    monkeypatch.chdir(tmp_path)
    make_base(tmp_path / "base")
    return BuiltDesk.make(
        tmp_path / "desk", demo_channel.url, tmp_path / "base", tmp_path / "storage"
    )


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "served" / "env.git", FILES)


def write(desk: Desk, path: str, name: str = "far", **more: object) -> Path:
    file = desk.folder / "environments" / f"{name}.yml"
    file.write_text(json.dumps({"name": name, "build": {"path": path, **more}}))
    return file


def origin(desk: Desk, name: str = "far") -> dict[str, str]:
    found: dict[str, str] = desk.ok("show", name, "--json").json["context"]["origin"]
    return found


def codes(desk: Desk, *words: str) -> list[str]:
    return [finding["code"] for finding in desk.run("drift", "--json", *words).json["findings"]]


def errors(answer_json: dict[str, Any]) -> list[dict[str, Any]]:
    return [d for d in answer_json["diagnostics"] if d["severity"] == "error"]


def test_a_branch_is_frozen_until_it_is_updated(built: BuiltDesk, repository: Repository) -> None:
    desk = built.desk
    write(desk, f"{repository.url}#main:docker")
    first = repository.git("rev-parse", "HEAD")
    plan = desk.plan("--offline")
    assert plan["environments"][0]["image"] is None
    desk.apply("--offline")
    assert origin(desk)["pinned"] == first
    assert first in desk.lockfile("far").read_text()
    _, layers = built.image("far")
    assert {"app/a.txt", "app/run"} <= set(names_in(layers[0]))
    assert "app/n.log" not in names_in(layers[0])
    assert codes(desk) == []

    second = repository.commit({"docker/a.txt": "two\n"})
    assert not desk.plan()["changes"]
    findings = desk.run("drift", "--json").json["findings"]
    assert [(f["code"], f["old"], f["new"]) for f in findings] == [("context-moved", first, second)]
    assert findings[0]["subject"] == f"{repository.url}#main:docker"
    assert desk.ok("lock", "--json").json["locks"][0]["status"] == "unchanged"

    [entry] = desk.ok("lock", "--update-context", "--json").json["locks"]
    assert entry["context"] == {
        "address": f"{repository.url}#main:docker", "from": first, "to": second,
    }  # fmt: skip
    steps = [s for s in desk.plan()["steps"] if s["kind"] == "build-context"]
    assert [s["action"] for s in steps] == ["build"]
    desk.apply()
    assert codes(desk) == []
    diff = desk.ok("diff", "far:1", "far:2", "--json").json
    assert (diff["same_definition"], diff["same_lock"]) == (True, False)
    assert (diff["context"]["from"], diff["context"]["to"]) == (first, second)
    why = desk.ok("why", "far:1", "far:2", "--json").json
    assert [item["name"] for item in why["lock"]["inputs"]] == ["build context"]


def test_what_is_pinned_needs_no_repository(built: BuiltDesk, repository: Repository) -> None:
    desk = built.desk
    write(desk, f"{repository.url}#main:docker")
    assert desk.ok("lock", "--json").json["locks"][0]["status"] == "written"
    gone = repository.folder.with_name("away")
    repository.folder.rename(gone)
    desk.apply("--offline")
    assert codes(desk) == ["context-gone"]
    assert not desk.plan("--offline")["changes"]

    # another machine has the lockfile alone: it needs the repository once
    other = desk.root / "other"
    words = ("--store", str(other), "apply", "--json", "--auto-approve", "--offline")
    answer = desk.run(*words)
    assert answer.code == 1
    assert "context-repository" in answer.err
    gone.rename(repository.folder)
    repository.commit({"docker/a.txt": "later\n"})
    made = desk.ok(*words).json["environments"][0]
    assert made["image"] == desk.ok("show", "far", "--json").json["image"]


def test_a_context_survives_garbage_collection(built: BuiltDesk, repository: Repository) -> None:
    desk = built.desk
    write(desk, f"{repository.url}#main:docker")
    desk.ok("lock")
    shutil.rmtree(repository.folder)
    desk.ok("store", "gc", "--grace-days", "0")
    desk.apply("--offline")
    assert desk.ok("store", "verify", "--json").json["bad"] == []


def test_a_change_of_arguments_keeps_the_commit(built: BuiltDesk, repository: Repository) -> None:
    desk = built.desk
    write(desk, f"{repository.url}#main:docker", args={"FLAVOUR": "mint"})
    desk.apply()
    first = origin(desk)
    repository.commit({"docker/a.txt": "two\n"})
    write(desk, f"{repository.url}#main:docker", args={"FLAVOUR": "lime", "OTHER": 1})
    plan = desk.plan()
    warned = [d for d in plan["diagnostics"] if d["code"] == "unused-argument"]
    assert [d["severity"] for d in warned] == ["warning"]
    desk.apply()
    assert origin(desk) == first
    config, _ = built.image("far")
    assert "SHADE=lime" in config["config"]["Env"]
    diff = desk.ok("diff", "far:1", "far:2", "--json").json
    assert diff["build_arguments"] == [
        {"name": "FLAVOUR", "from": "mint", "to": "lime"},
        {"name": "OTHER", "from": None, "to": "1"},
    ]
    why = desk.ok("why", "far:1", "far:2", "--json").json
    for identity in ("definition", "lock"):
        names = {item["name"] for item in why[identity]["inputs"]}
        assert names == {"build argument FLAVOUR", "build argument OTHER"}, identity


def test_a_context_and_its_clone_are_one_image(built: BuiltDesk, repository: Repository) -> None:
    desk = built.desk
    write(desk, f"{repository.url}#main:docker")
    write(desk, str(repository.folder / "docker"), "near")
    steps = [s for s in desk.plan()["steps"] if s["kind"] == "build-context"]
    assert [sorted(s["environments"]) for s in steps] == [["far", "near"]]


def test_bases_of_a_dockerfile_elsewhere_are_known(
    built: BuiltDesk, repository: Repository
) -> None:
    desk = built.desk
    repository.commit(
        {"Other": "ARG FROM=gone\nFROM $FROM\nFROM 127.0.0.1:1/none:1\nCOPY --from=x.test/y /a /\n"}
    )
    write(desk, f"{repository.url}#main", dockerfile_path="Other", args={"FROM": "up/per:Case"})
    found = errors(desk.run("plan", "--json", "--offline").json)
    assert len(found) == 3
    places = [(d["source"]["file"], d["source"]["line"]) for d in found]
    assert places == [(f"{repository.url}#main:Other", line) for line in (2, 3, 4)]
    assert "up/per:Case" in found[0]["summary"]


def test_what_is_wrong_is_said_at_its_place(built: BuiltDesk, repository: Repository) -> None:
    desk = built.desk
    expected = {
        f"{repository.url}#nothing": "context-ref",
        f"{repository.url}#main:nowhere": "context-folder",
        f"{repository.url}#main": "missing-dockerfile",
        f"{repository.url}.not": "context-repository",
        "https://h.example/x.git#main": "offline",
        "git@h.example:x.git": "offline",
        "git+ssh://h.example/x": "offline",
        "https://h.example/context.tar.gz": "offline",
        "https://h.example/x.git#main:../up": "context-address",
        "ext::sh -c x": "context-address",
    }
    for address, code in expected.items():
        file = write(desk, address)
        answer = desk.run("plan", "--json", "--offline")
        [problem] = errors(answer.json)
        assert problem["code"] == code, address
        assert problem["hint"], address
        assert problem["source"]["file"].endswith(file.name), address
        assert problem["source"]["line"] == 1, address


def test_a_failed_instruction_of_a_context_elsewhere_has_its_line(
    built: BuiltDesk, repository: Repository
) -> None:
    desk = built.desk
    repository.commit({"docker/Dockerfile": "FROM scratch\nCOPY a.txt /\nCOPY missing /\n"})
    write(desk, f"{repository.url}#main:docker")
    answer = desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    found = [d for line in answer.err.splitlines() for d in json.loads(line)["diagnostics"]]
    [error] = [d for d in found if d["severity"] == "error"]
    assert error["source"]["file"] == f"{repository.url}#main:docker/Dockerfile"
    assert error["source"]["line"] == 3


def test_secrets_of_an_address_are_nowhere(
    built: BuiltDesk, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = built.desk
    canaries = Canaries(tmp_path)
    written, named, proxy = canaries.new(), canaries.new(), canaries.new()
    login = written
    with (
        GitServer(tmp_path / "served", f"me:{login}").running() as server,
        ChannelServer(tmp_path / "archives") as archives,
    ):
        host = server.url.removeprefix("http://")
        (tmp_path / "archives").mkdir()
        (tmp_path / "archives" / "c.tgz").write_bytes(packed({"Dockerfile": "FROM scratch\n"
                                                              "COPY Dockerfile /\n"}))  # fmt: skip
        file = write(desk, f"http://me:{written}@{host}/env.git#main:docker",
                     args={"http_proxy": f"http://u:{proxy}@127.0.0.1:1"})  # fmt: skip
        more = write(desk, f"{archives.url}/c.tgz?sig={named}", "packed")
        for words in (
            ("validate", "--json"), ("plan", "--json"), ("plan", "--out", str(tmp_path / "p.plan")),
            ("apply", "--json", "--auto-approve"), ("show", "far", "--json"),
            ("drift", "--json", "-v"), ("lock", "--update-context", "--json"),
            ("history", "far", "--json"), ("export", "far", "--format", "cyclonedx"),
        ):  # fmt: skip
            answer = desk.run(*words)
            canaries.listen(answer.out, answer.err)
        assert server.authorizations
        assert desk.ok("show", "far", "--json").json["image"]
        assert desk.ok("show", "packed", "--json").json["image"]
        server.login = "me:other"
        answer = desk.run("drift", "--json", "-v")
        canaries.listen(answer.out, answer.err)
        [skipped] = answer.json["skipped"]
        assert skipped["code"] == "context-credentials"
    assert canaries.search(desk.root, but=frozenset({file, more})) == []
    assert canaries.search(tmp_path, but=frozenset({file, more})) == []


def packed(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(out.getvalue())


def test_an_archive_is_pinned_by_its_bytes(built: BuiltDesk, tmp_path: Path) -> None:
    desk = built.desk
    served = tmp_path / "archives"
    served.mkdir()
    with ChannelServer(served) as server:
        (served / "c.tar.gz").write_bytes(packed({"Dockerfile": DOCKERFILE, "a": "1"}))
        write(desk, f"{server.url}/c.tar.gz")
        desk.apply()
        assert codes(desk) == []
        server.forget()
        assert not desk.plan()["changes"]
        assert server.count() == 0
        (served / "c.tar.gz").write_bytes(packed({"Dockerfile": DOCKERFILE, "a": "22"}))
        assert codes(desk) == ["context-moved"]
        assert server.count(method="GET") == 0
        assert desk.ok("lock", "--update-context", "--json").json["locks"][0]["context"]
        assert codes(desk) == ["context-moved"]  # of the version; the lock is newer
        desk.apply()
        assert codes(desk) == []
        (served / "c.tar.gz").unlink()
        assert codes(desk) == ["context-gone"]
    assert not desk.plan("--offline")["changes"]


def test_a_saved_plan_keeps_what_it_pinned(built: BuiltDesk, repository: Repository) -> None:
    desk = built.desk
    write(desk, f"{repository.url}#main:docker")
    first = repository.git("rev-parse", "HEAD")
    desk.ok("plan", "--out", "saved.plan")
    repository.commit({"docker/a.txt": "two\n"})
    desk.ok("apply", "saved.plan", "--auto-approve")
    assert origin(desk)["pinned"] == first


def test_several_platforms_have_one_commit(built: BuiltDesk, repository: Repository) -> None:
    desk = built.desk
    file = write(desk, f"{repository.url}#main:docker")
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"platforms": ["linux-64"]}))
    desk.ok("lock")
    repository.commit({"docker/a.txt": "two\n"})
    file.write_text(json.dumps(document | {"platforms": ["linux-64", "linux-aarch64"]}))
    desk.ok("lock")
    text = desk.lockfile("far").read_text()
    assert text.count(repository.git("rev-parse", "HEAD~")) == 2


def test_the_sdk_takes_addresses_and_arguments(built: BuiltDesk, repository: Repository) -> None:
    ws = Workspace.open(built.desk.folder, store=built.desk.store)
    context = BuildContext(path=f"{repository.url}#main:docker", args={"FLAVOUR": "sdk"})
    made = ws.environments.create_or_update(Environment(name="far", build=context))
    assert made.version == "1"
    config, _ = built.image("far")
    assert "SHADE=sdk" in config["config"]["Env"]


def test_a_clone_keeps_address_arguments_and_commit(
    built: BuiltDesk, repository: Repository
) -> None:
    desk = built.desk
    write(desk, f"{repository.url}#main:docker", args={"FLAVOUR": "mint"})
    desk.apply()
    repository.commit({"docker/a.txt": "two\n"})
    desk.ok("clone", "far", "near")
    desk.apply()
    assert origin(desk, "near") == origin(desk)
    images = {desk.ok("show", name, "--json").json["image"] for name in ("far", "near")}
    assert len(images) == 1


@pytest.mark.slow
@pytest.mark.parametrize("age", ["current", "old"])
def test_buildkit_builds_them_the_same(
    built: BuiltDesk, repository: Repository, age: str, request: pytest.FixtureRequest
) -> None:
    desk = built.desk
    daemon: Daemon = request.getfixturevalue(f"{age}_dockerd")
    built.settings(builder={"type": "buildkit", "address": daemon.address})
    args = {"FLAVOUR": "mint", "HTTP_PROXY": "http://user:canary-proxy@127.0.0.1:9"}
    write(desk, f"{repository.url}#main:docker", args=args)
    desk.apply("--offline")
    config, layers = built.image("far")
    assert "SHADE=mint" in config["config"]["Env"]
    assert {"app/a.txt", "app/run"} <= set(names_in(layers[0]))
    assert "canary" not in json.dumps(config)
    for path in (desk.root / "store").rglob("*"):
        if path.is_file():
            assert b"canary-proxy" not in path.read_bytes()
    assert os.environ.get("HTTP_PROXY", "") != args["HTTP_PROXY"]
