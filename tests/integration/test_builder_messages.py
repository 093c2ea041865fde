"""What users read when a build goes wrong, the same whoever builds: buildah and BuildKit."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from envgraph.testing.base import make_base
from tests.built import BuiltDesk, names_in
from tests.daemons import Daemon
from tests.services import make_demo_channel

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(params=["buildah", "buildkit"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def built(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> BuiltDesk:
    make_base(tmp_path / "base")
    channel = make_demo_channel(tmp_path / "channel")
    built = BuiltDesk.make(tmp_path / "desk", channel.url, tmp_path / "base", tmp_path / "storage")
    built.settings(builder=settings(kind, built, request))
    return built


def settings(kind: str, built: BuiltDesk, request: pytest.FixtureRequest) -> dict[str, str]:
    if kind == "buildah":
        return {"type": "buildah", "storage": str(built.storage)}
    daemon: Daemon = request.getfixturevalue("current_dockerd")
    return {"type": "buildkit", "address": daemon.address}


def failed(built: BuiltDesk, **environ: str) -> tuple[dict[str, Any], str]:
    """The one error, and all that was said."""
    answer = built.desk.run("apply", "--json", "--auto-approve", "--offline", environ=environ)
    assert answer.code == 1
    errors = [d for line in answer.err.splitlines() for d in json.loads(line)["diagnostics"]]
    [error] = [d for d in errors if d["severity"] == "error"]
    return error, answer.out + answer.err


def test_a_source_that_an_ignore_rule_leaves_out(built: BuiltDesk) -> None:
    files = {"a.txt": "a", "key.pem": "x", ".dockerignore": "*.pem\n"}
    folder = built.context("app", "FROM scratch\nCOPY a.txt /\nCOPY key.pem /x\n", files)
    error, _ = failed(built)
    assert error["code"] == "step-failed"
    assert "COPY key.pem /x" in error["summary"]
    assert error["summary"].endswith("failed: there is no /key.pem to copy")
    assert error["source"] == {"file": f"{folder}/Dockerfile", "line": 3, "column": None}
    assert ".dockerignore" in error["hint"]


def test_a_source_that_another_stage_lacks(built: BuiltDesk) -> None:
    text = "FROM scratch AS one\nCOPY a.txt /\nFROM scratch\nCOPY --from=one /nothing /x\n"
    built.context("app", text, {"a.txt": "a"})
    error, _ = failed(built)
    assert error["summary"].endswith("failed: there is no /nothing to copy")
    assert error["source"]["line"] == 4
    assert error["hint"] == ""


def test_a_failed_step_says_instruction_line_output_and_code(built: BuiltDesk) -> None:
    built.steps("app", "RUN echo kept > /kept", "RUN echo one; echo two >&2; exit 9")
    error, said = failed(built)
    assert "RUN echo one; echo two >&2; exit 9" in error["summary"]
    assert "exit code 9" in error["summary"]
    assert error["source"]["line"] == 5
    assert {"one", "two"} <= set(error["detail"].splitlines())
    events = [json.loads(line) for line in said.splitlines()]
    texts = [event["text"] for event in events if event.get("event") == "message"]
    assert sorted(texts) == ["one", "two"]  # two streams, in any order
    todo = [s["name"] for s in built.desk.plan("--offline")["steps"] if s["kind"] == "docker-step"]
    assert todo == ["RUN echo one; echo two >&2; exit 9"]


def test_a_secret_that_a_step_prints_in_any_form(built: BuiltDesk, kind: str) -> None:
    secret = "hunter2/e3b0+c442 98fc"
    document = json.loads((built.desk.folder / "envgraph.yaml").read_text())
    built.settings(builder=document["builder"], secrets={"token": "env:TOKEN"})
    show = "base64 /run/secrets/token; cat /run/secrets/token; exit 3"
    built.steps("app", f"RUN --mount=type=secret,id=token {show}")
    _, said = failed(built, TOKEN=secret)
    assert "***" in said
    for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")):
        assert form not in said
    places = [built.desk.root, *([built.storage] if kind == "buildah" else [])]
    for path in (path for place in places for path in place.rglob("*") if path.is_file()):
        assert secret.encode() not in path.read_bytes(), path


def test_a_name_that_is_no_utf_8(built: BuiltDesk, kind: str) -> None:
    folder = built.context("app", "FROM scratch\nCOPY . /x\n", {"a.txt": "a"})
    Path(os.fsdecode(os.fsencode(folder) + b"/latin\xe9")).write_text("")
    if kind == "buildah":
        built.desk.apply("--offline")
        return
    error, _ = failed(built)
    assert error["code"] == "builder-lacks"
    assert "latin\\udce9" in error["summary"]


def test_a_heredoc_of_a_step(built: BuiltDesk) -> None:
    script = "RUN <<EOF\nset -e\necho one > /one\necho two; false\nEOF"
    built.steps("app", "RUN cat <<'EOF' > /made\n$HOME\nEOF", script)
    error, said = failed(built)
    assert error["summary"].startswith(("RUN <<EOF failed", "`RUN <<EOF` failed"))
    assert "exit code 1" in error["summary"]
    assert script in error["detail"]
    assert error["detail"].splitlines()[-2] == "two"
    events = [json.loads(line) for line in said.splitlines()]
    assert [e["text"] for e in events if e.get("event") == "message"] == ["two"]
    built.steps("app", "RUN cat <<'EOF' > /made\n$HOME\nEOF")
    built.desk.apply("--offline")
    config, layers = built.image("app")
    assert names_in(layers[-1])["made"].size == len("$HOME\n")
    assert "cat <<'EOF' > /made" in config["history"][-1]["created_by"]


def test_no_core_dump_holds_a_secret(built: BuiltDesk, kind: str) -> None:
    """The step asks for a dump of a shell that knows the secret, and would keep it."""
    document = json.loads((built.desk.folder / "envgraph.yaml").read_text())
    built.settings(builder=document["builder"], secrets={"token": "env:TOKEN"})
    crash = "S=$(cat /run/secrets/token); ulimit -c unlimited; kill -SEGV $$"
    mount = "RUN --mount=type=secret,id=token cd /tmp &&"
    built.steps("app", f"{mount} (sh -c '{crash}' || true); echo kept > /tmp/kept")
    answer = built.desk.run(
        "apply", "--json", "--auto-approve", "--offline", environ={"TOKEN": "canary-5ca1ab1e"}
    )
    assert answer.code == 0, answer.err
    _, layers = built.image("app")
    assert [name for name in names_in(layers[-1]) if name.startswith("tmp/")] == ["tmp/kept"]
