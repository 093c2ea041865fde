"""Docker steps and build contexts from the command line, with a current BuildKit.

The daemons of tests have no bridge, so that steps run without network: ``--offline``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from envgraph_buildkit import BuildkitClient
from tests.built import BuiltDesk, names_in
from tests.daemons import Daemon
from tests.services import make_demo_channel

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture
def built(tmp_path: Path, current_dockerd: Daemon) -> BuiltDesk:
    channel = make_demo_channel(tmp_path / "channel")
    make_base(tmp_path / "base")
    desk = BuiltDesk.make(tmp_path / "desk", channel.url, tmp_path / "base", tmp_path / "none")
    desk.settings(builder={"type": "buildkit", "address": current_dockerd.address})
    return desk


@pytest.mark.parametrize("age", ["current", "old"])
def test_steps_below_packages(built: BuiltDesk, age: str, request: pytest.FixtureRequest) -> None:
    desk = built.desk
    daemon: Daemon = request.getfixturevalue(f"{age}_dockerd")
    built.settings(builder={"type": "buildkit", "address": daemon.address})
    (desk.folder / "environments" / "settings.txt").write_text("blue\n")
    built.steps(
        "train", "RUN echo hi > /made.txt", "ENV SHADE=blue", "COPY settings.txt /etc/s",
        "RUN cat /made.txt /etc/s > /both", conda="alpha=1.0",
    )  # fmt: skip
    plan = desk.plan("--offline")
    assert "buildkit" in next(d for d in plan["diagnostics"] if d["code"] == "builder")["summary"]
    desk.apply("--offline")
    config, layers = built.image("train")
    assert "SHADE=blue" in config["config"]["Env"]
    assert any(line.startswith("CONDA_PREFIX=") for line in config["config"]["Env"])
    # the old one puts its resolv.conf in place while a step runs, which touches /etc
    assert set(names_in(layers[1])) - ({"", "etc"} if age == "old" else {""}) == {"made.txt"}
    assert names_in(layers[3])["both"].size == len("hi\nblue\n")
    assert len(config["rootfs"]["diff_ids"]) == len(layers)
    assert not desk.plan("--offline")["changes"]


def test_a_failed_step_and_a_secret(built: BuiltDesk, current_dockerd: Daemon) -> None:
    desk = built.desk
    builder = {"type": "buildkit", "address": current_dockerd.address}
    built.settings(builder=builder, secrets={"token": "env:TOKEN"})
    mount = "RUN --mount=type=secret,id=token"
    built.steps("good", f"{mount} wc -c < /run/secrets/token > /count")
    built.steps("bad", "RUN echo kept > /kept", f"{mount} cat /run/secrets/token; exit 7")
    answer = desk.run(
        "apply", "--json", "--auto-approve", "--offline", environ={"TOKEN": "hunter2-e3b0c442"}
    )
    assert answer.code == 1
    errors = [d for line in answer.err.splitlines() for d in json.loads(line)["diagnostics"]]
    [error] = [d for d in errors if d["severity"] == "error"]
    assert (error["code"], error["source"]["line"]) == ("step-failed", 5)
    assert "exit code 7" in error["summary"]
    assert "***" in error["detail"]
    assert "hunter2" not in answer.out + answer.err
    assert names_in(built.image("good")[1][1])["count"].size == len("16\n")


def test_a_build_context(built: BuiltDesk) -> None:
    dockerfile = (
        "FROM scratch AS files\nCOPY src /src\n\nFROM scratch\n"
        "COPY --from=files /src/main.py /app/\nCOPY run.sh /\nLABEL kind=context\n"
    )
    files = {"src/main.py": "print()\n", "run.sh": "#!/bin/sh\n", "junk.tmp": "x",
             ".dockerignore": "*.tmp\n"}  # fmt: skip
    built.context("ctx", dockerfile, files)
    built.desk.apply("--offline")
    config, layers = built.image("ctx")
    found = {name for layer in layers for name in names_in(layer)}
    assert {"app/main.py", "run.sh"} <= found
    assert config["config"]["Labels"]["kind"] == "context"


def test_auto_finds_it_by_docker_host(built: BuiltDesk, current_dockerd: Daemon) -> None:
    built.settings(builder={"type": "auto"})
    built.steps("train", "RUN echo auto > /auto")
    answer = built.desk.run(
        "plan", "--json", "--offline", environ={"DOCKER_HOST": current_dockerd.address}
    )
    [remark] = [d for d in answer.json["diagnostics"] if d["code"] == "builder"]
    assert f"buildkit at {current_dockerd.address}" in remark["summary"]


def test_provenance_is_kept_and_changes_no_image(
    built: BuiltDesk, current_dockerd: Daemon, tmp_path: Path
) -> None:
    desk = built.desk
    builder = {"type": "buildkit", "address": current_dockerd.address}
    environ = {"TOKEN": "canary-77b1"}
    built.settings(builder=builder, secrets={"token": "env:TOKEN"})
    command = ("apply", "--json", "--auto-approve", "--offline")
    built.steps(
        "train", "ENV SHADE=blue",
        "RUN --mount=type=secret,id=token tr a-z A-Z < /run/secrets/token > /dev/null; echo p > /p",
        conda="alpha=1.0",
    )  # fmt: skip
    assert desk.run(*command, environ=environ).code == 0
    image = desk.ok("show", "train", "--json").json["image"]
    answer = desk.run("export", "train", "--format", "provenance")
    assert (answer.code, "provenance: max" in answer.err) == (1, True)

    built.settings(builder=builder | {"provenance": "max"}, secrets={"token": "env:TOKEN"})
    with BuildkitClient(current_dockerd.address) as client:
        client.prune(everything=True)
    desk.store = tmp_path / "second"  # built again, in a store that knows nothing of it
    assert desk.run(*command, environ=environ).code == 0
    assert desk.ok("show", "train", "--json").json["image"] == image
    exported = json.loads(desk.ok("export", "train", "--format", "provenance").out)
    assert [step["step"] for step in exported["steps"]] == [0, 1]
    for step in exported["steps"]:
        statement = step["statement"]
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["predicateType"].startswith("https://slsa.dev/provenance/")
        assert statement["subject"]
    found = b"".join(path.read_bytes() for path in desk.store.rglob("*") if path.is_file())
    assert b"canary-77b1" not in found
    desk.ok("store", "gc")
    assert json.loads(desk.ok("export", "train", "--format", "provenance").out) == exported
    assert desk.ok("store", "verify", "--json").json["bad"] == []
    assert not desk.plan("--offline")["changes"]


def test_an_old_worker_keeps_no_provenance(built: BuiltDesk, old_dockerd: Daemon) -> None:
    built.settings(
        builder={"type": "buildkit", "address": old_dockerd.address, "provenance": "max"}
    )
    built.steps("train", "RUN echo x > /x")
    answer = built.desk.run("apply", "--auto-approve", "--offline")
    assert answer.code == 1
    assert "keeps no provenance" in answer.err
