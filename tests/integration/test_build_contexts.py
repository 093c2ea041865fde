"""Docker build contexts end to end: a loopback registry, the real buildah."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envgraph.testing.base import make_base
from envgraph_store import Digest
from tests.built import BuiltDesk, names_in, push_base
from tests.registries import docker_registry
from tests.services import make_demo_channel

pytestmark = pytest.mark.services

DOCKERFILE = """\
ARG TAG=1
FROM {host}/tools:${{TAG}} AS maker
COPY source.txt /made/
RUN tr a-z A-Z < /made/source.txt > /made/loud.txt
FROM {host}/python:1
COPY --from=maker /made/loud.txt /loud.txt
COPY --from={host}/tools:1 /etc/passwd /passwd-of-tools
ENV SHADE=blue
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contexts")
    make_base(folder / "base")
    return folder


@pytest.fixture
def host(tmp_path: Path, shared: Path) -> Iterator[str]:
    with docker_registry(tmp_path / "registry") as registry:
        for name in ("python", "tools"):
            push_base(shared / "base", registry.host, name)
        yield registry.host


@pytest.fixture
def built(tmp_path: Path, shared: Path) -> BuiltDesk:
    channel = make_demo_channel(tmp_path / "channel")
    return BuiltDesk.make(tmp_path / "desk", channel.url, shared / "base", shared / "storage")


def lockfile(built: BuiltDesk, name: str) -> str:
    return (built.desk.folder / "locks" / f"{name}.conda-lock.yml").read_text()


def test_a_context_is_built_as_it_is(built: BuiltDesk, host: str) -> None:
    desk = built.desk
    built.context("app", DOCKERFILE.format(host=host), {"source.txt": "hello\n"})
    plan = desk.plan()
    kinds = [(s["kind"], s["action"]) for s in plan["steps"]]
    assert ("build-context", "build") in kinds
    assert plan["environments"][0]["image"] is None
    assert plan["environments"][0]["base"]["reference"] == f"{host}/python:1"
    desk.apply()
    config, layers = built.image("app")
    assert "SHADE=blue" in config["config"]["Env"]
    assert not any(line.startswith("CONDA") for line in config["config"]["Env"])
    own = [name for layer in layers if layer.exists() for name in names_in(layer)]
    assert {"loud.txt", "passwd-of-tools"} <= set(own)
    assert not any(name.startswith("opt/env") for name in own)
    assert f"{host}/tools:1" in lockfile(built, "app")
    for base in ("python", "tools"):
        impact = desk.ok("impact", f"{host}/{base}:1", "--json").json
        assert "app" in json.dumps(impact), base
    assert not desk.plan()["changes"]


def test_what_the_dockerfile_does_not_see_changes_nothing(built: BuiltDesk, host: str) -> None:
    desk = built.desk
    folder = built.context(
        "app", f"FROM {host}/python:1\nCOPY . /app\n", {"a.txt": "a", ".dockerignore": "*.log\n"}
    )
    desk.apply()
    (folder / "run.log").write_text("noise")
    assert not desk.plan()["changes"]
    (folder / "a.txt").write_text("b")
    assert [s["action"] for s in desk.plan()["steps"] if s["kind"] == "build-context"] == ["build"]
    desk.apply()
    _, layers = built.image("app")
    names = {name for layer in layers if layer.exists() for name in names_in(layer)}
    assert "app/a.txt" in names
    assert "app/run.log" not in names


def test_two_contexts_of_one_tree_are_built_once(built: BuiltDesk, host: str) -> None:
    text = f"FROM {host}/python:1\nRUN echo once > /once\n"
    built.context("one", text)
    built.context("two", text)
    steps = [s for s in built.desk.plan()["steps"] if s["kind"] == "build-context"]
    assert [s["environments"] for s in steps] == [["one", "two"]]
    result = built.desk.apply()
    assert result["built"] == 1


def move(folder: Path, host: str, name: str) -> str:
    """Give a tag another image; its digest."""
    make_base(folder, name="base")
    index = json.loads((folder / "index.json").read_text())
    entry: dict[str, Any] = index["manifests"][0]
    manifest_path = folder / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")
    manifest = json.loads(manifest_path.read_text())
    manifest["annotations"] = {"moved": folder.name}
    data = json.dumps(manifest).encode()
    digest = Digest.of(data)
    (folder / "blobs" / "sha256" / digest.hex).write_bytes(data)
    entry |= {"digest": str(digest), "size": len(data)}
    (folder / "index.json").write_text(json.dumps(index))
    push_base(folder, host, name)
    return str(digest)


def test_a_base_that_moves_is_followed_only_when_asked(
    built: BuiltDesk, host: str, tmp_path: Path
) -> None:
    desk = built.desk
    built.context("app", f"FROM {host}/python:1\nRUN echo > /x\n")
    desk.apply()
    digest = move(tmp_path / "marked", host, "python")
    assert not desk.plan()["changes"]
    drift = desk.run("drift", "--json").json
    assert [f["code"] for f in drift["findings"]] == ["base-moved"]
    built.settings(base_images="follow")
    followed = desk.plan()
    assert followed["environments"][0]["base"]["digest"] == digest
    assert [s["action"] for s in followed["steps"] if s["kind"] == "build-context"] == ["build"]


def test_ask_names_the_images_that_moved_and_no_others(
    built: BuiltDesk, host: str, tmp_path: Path
) -> None:
    desk = built.desk
    built.settings(base_images="ask")
    text = f"FROM {host}/tools:1 AS m\nRUN echo > /x\nFROM {host}/python:1\nCOPY --from=m /x /\n"
    built.context("app", text)
    desk.apply()
    assert [d for d in desk.plan()["diagnostics"] if d["code"] == "base-moved"] == []
    digest = move(tmp_path / "marked", host, "tools")
    plan = desk.plan()
    assert not plan["changes"]
    [remark] = [d for d in plan["diagnostics"] if d["code"] == "base-moved"]
    assert f"{host}/tools:1 has moved from" in remark["summary"]
    assert f"{host}/python" not in remark["summary"]
    assert "packages" not in remark["hint"]
    assert plan["environments"][0]["base"]["available"] is None
    assert not desk.apply("--json")["built"]  # nobody said yes
    before = desk.lockfile("app").read_text()

    desk.ok("plan", "--follow-base", "--out", "saved.plan")
    followed = desk.plan("--follow-base")
    [pulled] = [s for s in followed["steps"] if s["action"] == "pull"]
    assert pulled["reason"].startswith("moved: ")
    [lock] = [s for s in followed["steps"] if s["action"] == "resolve"]
    assert f"{host}/tools:1" in lock["reason"]
    assert lock["reason"].count("→") == 1
    desk.ok("apply", "saved.plan", "--auto-approve")
    assert digest in desk.lockfile("app").read_text()
    assert digest not in before
    assert not desk.plan()["changes"]
    assert [d for d in desk.plan()["diagnostics"] if d["code"] == "base-moved"] == []
    diff = desk.ok("diff", "app:1", "app:2", "--json").json
    assert [item["name"] for item in diff["images"]] == [f"{host}/tools:1"]

    move(tmp_path / "again", host, "tools")
    move(tmp_path / "python", host, "python")
    [remark] = [d for d in desk.plan()["diagnostics"] if d["code"] == "base-moved"]
    assert remark["summary"].count("has moved") == 2
    [entry] = desk.ok("lock", "--update-base", "--json").json["locks"]
    assert {item["reference"] for item in entry["bases"]} == {
        f"{host}/tools:1", f"{host}/python:1",
    }  # fmt: skip


def test_an_argument_in_from_says_which_image_is_meant(built: BuiltDesk, host: str) -> None:
    desk = built.desk
    built.context("app", f"ARG NAME=nothing\nFROM {host}/$NAME:1\nENV A=b\n")
    file = desk.folder / "environments" / "app.yml"
    document = json.loads(file.read_text())
    document["build"]["args"] = {"NAME": "tools"}
    file.write_text(json.dumps(document))
    desk.apply()
    assert desk.ok("show", "app", "--json").json["base"]["reference"] == f"{host}/tools:1"
    assert "app" in json.dumps(desk.ok("impact", f"{host}/tools:1", "--json").json)
    document["build"]["args"] = {"NAME": "python"}
    file.write_text(json.dumps(document))
    assert desk.plan()["environments"][0]["base"]["reference"] == f"{host}/python:1"


def test_a_failed_instruction_is_shown_with_its_line(built: BuiltDesk, host: str) -> None:
    built.context("app", f"FROM {host}/python:1\nRUN true\nRUN echo words && \\\n  exit 9\n")
    answer = built.desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    errors = [d for line in answer.err.splitlines() for d in json.loads(line)["diagnostics"]]
    [error] = [d for d in errors if d["severity"] == "error"]
    assert error["code"] == "step-failed"
    assert "exit code 9" in error["summary"]
    assert "words" in error["detail"]
    assert error["source"]["file"].endswith("app-context/Dockerfile")
    assert error["source"]["line"] == 3


def test_an_image_that_does_not_exist_is_named_with_its_line(built: BuiltDesk, host: str) -> None:
    built.context("app", f"FROM {host}/python:1\nCOPY --from={host}/nothing:1 /a /a\n")
    answer = built.desk.run("plan", "--json")
    errors = [d for d in answer.json["diagnostics"] if d["severity"] == "error"]
    assert f"{host}/nothing has no tag" in errors[0]["summary"]
    assert errors[0]["source"]["line"] == 2


def test_a_foreign_frontend_is_never_run(built: BuiltDesk) -> None:
    built.context("app", "# syntax=h.example/frontend:1\nFROM scratch\nCOPY a /a\n", {"a": "a"})
    answer = built.desk.run("plan", "--json", "--offline")
    errors = [d for d in answer.json["diagnostics"] if d["severity"] == "error"]
    assert [d["code"] for d in errors] == ["frontend-unpinned"]


def test_a_dockerfile_on_scratch_needs_no_registry(built: BuiltDesk) -> None:
    built.context("app", "FROM scratch\nCOPY a /a\nENV A=b\n", {"a": "a"})
    built.desk.apply("--offline")
    config, layers = built.image("app")
    assert "A=b" in config["config"]["Env"]
    assert [set(names_in(layer)) for layer in layers] == [{"a"}]


def test_a_context_is_no_dockerfile_to_export(built: BuiltDesk) -> None:
    built.context("app", "FROM scratch\nCOPY a /a\n", {"a": "a"})
    built.desk.apply("--offline")
    answer = built.desk.run("export", "app", "--format", "dockerfile", "--json")
    assert answer.errors() == ["export-context"]


def test_names_of_any_bytes_and_a_lockfile_that_does_not_list_them(
    built: BuiltDesk, host: str
) -> None:
    folder = built.context("app", f"FROM {host}/python:1\nCOPY . /app\n", {"new\nline": "1"})
    Path(os.fsdecode(os.fsencode(folder) + b"/latin\xe9")).write_text("2")
    built.desk.apply()
    _, layers = built.image("app")
    names = {os.fsencode(name) for layer in layers if layer.exists() for name in names_in(layer)}
    assert {b"app/new\nline", b"app/latin\xe9"} <= names
    listed = lockfile(built, "app").partition("sources:\n")[2].partition("time_metadata")[0]
    assert [line.strip(" -") for line in listed.splitlines()][:3] == [
        "../environments/app.yml",
        "../environments/app-context",
        "../environments/app-context/Dockerfile",
    ]
    assert "latin" not in listed


def test_a_heredoc_for_an_old_buildah_is_refused_with_its_line(built: BuiltDesk, host: str) -> None:
    folder = built.context("app", f"FROM {host}/python:1\n\nRUN cat <<EOF > /x\nhello\nEOF\n")
    answer = built.desk.run("apply", "--json", "--auto-approve")
    if answer.code == 0:  # a buildah of 1.33 or newer
        return
    errors = [d for line in answer.err.splitlines() for d in json.loads(line)["diagnostics"]]
    [error] = [d for d in errors if d["severity"] == "error"]
    assert error["code"] == "builder-lacks"
    assert error["source"] == {"file": f"{folder}/Dockerfile", "line": 3, "column": None}
    assert "BuildKit" in error["hint"]


@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_windows_line_ends_and_a_byte_order_mark(built: BuiltDesk, host: str, begin: str) -> None:
    """Kept as they are: the Dockerfile is the user's, and buildah reads it itself."""
    lines = [f"{begin}FROM {host}/python:1", "COPY a.txt /", "RUN true \\", " && echo x > /y", ""]
    folder = built.context("app", "", {"a.txt": "a"})
    (folder / "Dockerfile").write_bytes("\r\n".join(lines).encode())
    built.desk.apply()
    _, layers = built.image("app")
    names = {name for layer in layers if layer.exists() for name in names_in(layer)}
    assert {"a.txt", "y"} <= names
