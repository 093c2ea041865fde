"""Environments without steps never need a builder, and what is said where steps have none."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.built import BuiltDesk
from tests.desk import Desk
from tests.services import make_demo_channel, require_tool

HEAVY = ("grpc", "google.protobuf", "envgraph_buildkit.builder", "envgraph_buildah.builder")


@contextmanager
def listening() -> Iterator[tuple[str, socket.socket]]:
    """A unix socket that nobody answers at; whoever connects waits in its queue."""
    with (
        tempfile.TemporaryDirectory(prefix="eg-", dir="/tmp") as short,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{short}/d.sock")
        listener.listen()
        listener.setblocking(False)
        yield f"unix://{short}/d.sock", listener


def connections(listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def imported(err: str) -> set[str]:
    """The modules of a run with ``PYTHONPROFILEIMPORTTIME``."""
    lines = [line for line in err.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("verb", ["validate", "lock", "plan", "apply", "plan --no-memo", "doctor"])
def test_conda_alone_asks_no_builder(tmp_path: Path, verb: str) -> None:
    channel = make_demo_channel(tmp_path / "channel")
    desk = Desk(tmp_path / "desk", channel.url)
    desk.environment("train", "alpha")
    if verb != "validate":
        desk.ok("apply", "--auto-approve")
        desk.environment("train", "alpha", "beta")
    with listening() as (address, listener):
        variables = {
            "DOCKER_HOST": address, "BUILDKIT_HOST": address, "PYTHONPROFILEIMPORTTIME": "1",
        }  # fmt: skip
        answer = desk.run(*verb.split(), environ=variables)
        assert answer.code == 0, answer.err
        assert connections(listener) == 0
    names = imported(answer.err)
    assert "envgraph.cli.main" in names
    assert not [name for name in names if name.startswith(HEAVY)]


def test_a_builder_is_asked_once_where_a_step_needs_one(tmp_path: Path) -> None:
    """The same measure finds what it looks for."""
    channel = make_demo_channel(tmp_path / "channel")
    desk = Desk(tmp_path / "desk", channel.url)
    make_base(desk.folder / "base")
    path = desk.folder / "environments" / "train.yml"
    path.write_text("name: train\nimage: oci:../base\ndocker_steps:\n  - RUN true\n")
    with listening() as (address, listener):
        listener.close()  # a socket that is there and refuses
        answer = desk.run("plan", environ={"BUILDKIT_HOST": address, "PATH": "/nowhere"})
    assert answer.code == 0
    assert "no builder is there for docker steps and build contexts" in " ".join(answer.err.split())
    assert "The address is from BUILDKIT_HOST" in answer.err


def test_a_shell_s_variable_does_not_lead_out_of_reach(tmp_path: Path) -> None:
    """End to end: ``auto`` passes over BUILDKIT_HOST, plan and apply say why, nothing is sent."""
    channel = make_demo_channel(tmp_path / "channel")
    desk = Desk(tmp_path / "desk", channel.url)
    make_base(desk.folder / "base")
    built = BuiltDesk(desk, tmp_path / "storage")
    built.steps("train", "RUN echo done > /done")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        outside = {"BUILDKIT_HOST": address, "PATH": "/nowhere"}
        desk.settings(builder={"type": "auto", "reach": "local"})
        for verb in (("plan",), ("apply", "--auto-approve"), ("doctor",)):
            answer = desk.run(*verb, environ=outside)
            assert answer.code == (1 if verb[0] == "apply" else 0)
            said = " ".join((answer.err + answer.out).split())
            assert address in said
            assert "outside of" in said
        desk.settings(builder={"type": "buildkit", "reach": "local"})
        answer = desk.run("apply", "--json", "--auto-approve", environ={"BUILDKIT_HOST": address})
        assert answer.code == 1
        for hint in ("unset BUILDKIT_HOST", f"add {address} to `builder.reach`"):
            assert hint in answer.err
        assert connections(listener) == 0


def test_a_platform_that_the_builder_lacks_is_said_by_plan(tmp_path: Path) -> None:
    require_tool("buildah")
    channel = make_demo_channel(tmp_path / "channel")
    desk = Desk(tmp_path / "desk", channel.url)
    own = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[os.uname().machine]
    [other] = {"linux-64", "linux-aarch64"} - {own}
    builder = {"type": "buildah", "storage": str(tmp_path / "storage")}
    path = desk.folder / "environments" / "train.yml"
    path.write_text("name: train\nimage: scratch\ndocker_steps:\n  - ENV A=b\n")
    for platforms, severity in (([own], "info"), ([own, other], "warning")):
        desk.settings(builder=builder, platforms=platforms)
        found = desk.ok("plan", "--json").json["diagnostics"]
        [remark] = [each for each in found if each["code"] == "builder"]
        assert remark["severity"] == severity
        assert ("does not build for" in remark["detail"]) == (severity == "warning")
