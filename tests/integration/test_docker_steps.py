"""Docker steps end to end: the real command line, a small base, the real buildah."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.built import BuiltDesk, names_in
from tests.services import make_demo_channel

pytestmark = pytest.mark.services


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and one storage of buildah for all tests: what it has of bases is reused."""
    folder = tmp_path_factory.mktemp("steps")
    make_base(folder / "base")
    return folder


@pytest.fixture
def built(tmp_path: Path, shared: Path) -> BuiltDesk:
    channel = make_demo_channel(tmp_path / "channel")
    return BuiltDesk.make(tmp_path / "desk", channel.url, shared / "base", shared / "storage")


def test_steps_are_built_below_the_packages(built: BuiltDesk) -> None:
    desk = built.desk
    (desk.folder / "environments" / "settings.txt").write_text("blue\n")
    steps = ("RUN echo hi > /made.txt", "COPY settings.txt /etc/settings.txt", "ENV SHADE=blue")
    built.steps("train", *steps, conda="alpha=1.0")
    plan = desk.plan()
    planned = [step for step in plan["steps"] if step["kind"] == "docker-step"]
    assert [(step["name"], step["action"]) for step in planned] == [(s, "build") for s in steps]
    assert plan["environments"][0]["image"] is None
    assert "buildah" in next(d for d in plan["diagnostics"] if d["code"] == "builder")["summary"]

    desk.apply()
    config, layers = built.image("train")
    assert "SHADE=blue" in config["config"]["Env"]
    assert any(line.startswith("CONDA_PREFIX=") for line in config["config"]["Env"])
    assert "made.txt" in names_in(layers[1])
    copied = names_in(layers[2])["etc/settings.txt"]
    assert (copied.mode & 0o777, copied.uid, copied.size) == (0o644, 0, 5)
    assert copied.mtime <= 315_532_800
    assert "etc/resolv.conf" not in names_in(layers[1])
    assert len(config["rootfs"]["diff_ids"]) == len(layers)

    again = desk.plan()
    assert not again["changes"]
    assert again["environments"][0]["image"] is not None


def test_a_prefix_that_was_built_is_not_built_again(built: BuiltDesk) -> None:
    desk = built.desk
    built.steps("one", "RUN echo a > /a", "RUN echo b > /b")
    desk.apply()
    built.steps("two", "RUN echo a > /a", "RUN echo b > /b", "RUN echo c > /c")
    built.steps("three", "RUN echo a > /a", "RUN echo d > /d")
    plan = desk.plan()
    todo = [(s["name"], s["environments"]) for s in plan["steps"] if s["kind"] == "docker-step"]
    assert sorted(todo) == [("RUN echo c > /c", ["two"]), ("RUN echo d > /d", ["three"])]
    desk.apply()
    one, two = built.image("one")[0], built.image("two")[0]
    assert one["rootfs"]["diff_ids"] == two["rootfs"]["diff_ids"][:-1]


def test_the_same_steps_give_the_same_bytes_in_another_store(
    built: BuiltDesk, tmp_path: Path
) -> None:
    steps = ("RUN mkdir /d && echo a > /d/x", "WORKDIR /work", "RUN pwd > here", "LABEL a=b")
    built.steps("train", *steps)
    built.desk.apply()
    first, _ = built.image("train")
    built.desk.store = tmp_path / "other-store"
    built.storage = tmp_path / "other-storage"
    built.settings()
    built.desk.apply()
    second, _ = built.image("train")
    assert first == second


def test_arguments_and_the_shell_reach_the_steps_after_them(built: BuiltDesk) -> None:
    shell = 'SHELL ["/bin/sh", "-e", "-c"]'
    built.steps("train", "ARG SHADE=blue", shell, "RUN echo $SHADE > /shade", "RUN test $SHADE")
    built.desk.apply()
    config, layers = built.image("train")
    assert names_in(layers[1])["shade"].size == len("blue\n")
    said = [entry["created_by"] for entry in config["history"]]
    assert sum("SHELL" in text for text in said) == 1
    assert config["config"]["Shell"] == ["/bin/sh", "-e", "-c"]


def test_a_file_that_is_copied_counts_by_content_and_mode(built: BuiltDesk) -> None:
    desk = built.desk
    script = desk.folder / "environments" / "tool.sh"
    script.write_text("#!/bin/sh\n")
    built.steps("train", "RUN true", "COPY tool.sh /tool.sh", "RUN echo done > /done")
    desk.apply()
    os.utime(script, (1, 1))
    assert not desk.plan()["changes"]
    script.chmod(0o755)
    todo = [s["name"] for s in desk.plan()["steps"] if s["kind"] == "docker-step"]
    assert todo == ["COPY tool.sh /tool.sh", "RUN echo done > /done"]
    desk.apply()
    _, layers = built.image("train")
    assert names_in(layers[2])["tool.sh"].mode & 0o777 == 0o755


def test_a_failed_step_is_shown_and_the_others_go_on(built: BuiltDesk) -> None:
    desk = built.desk
    built.steps("bad", "RUN echo kept > /kept", "RUN echo some words; exit 7", "RUN never")
    built.steps("good", "RUN echo fine > /fine", "RUN echo more > /more")
    answer = desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    assert [env["name"] for env in answer.json["environments"]] == ["good"]
    errors = [d for line in answer.err.splitlines() for d in json.loads(line)["diagnostics"]]
    [error] = [d for d in errors if d["severity"] == "error"]
    assert error["code"] == "step-failed"
    assert "exit code 7" in error["summary"]
    assert "some words" in error["detail"]
    assert "RUN echo some words; exit 7" in error["detail"]
    assert error["source"]["file"].endswith("bad.yml")
    assert error["source"]["line"] == 5
    todo = [s["name"] for s in desk.plan()["steps"] if s["kind"] == "docker-step"]
    assert todo == ["RUN echo some words; exit 7", "RUN never"]


def test_a_secret_reaches_its_step_and_nothing_else(built: BuiltDesk) -> None:
    desk = built.desk
    secret = "hunter2-e3b0c442"
    built.settings(secrets={"token": "env:TOKEN"})
    mount = "RUN --mount=type=secret,id=token"
    checksum = hashlib.sha256(secret.encode()).hexdigest()
    built.steps(
        "train",
        f"{mount} sha256sum /run/secrets/token | grep {checksum} && echo ok > /ok",
        f"{mount} cat /run/secrets/token >&2",
    )
    built.steps("loud", f"{mount} cat /run/secrets/token && exit 3")
    answer = desk.run("apply", "-v", "--auto-approve", environ={"TOKEN": secret})
    assert answer.code == 1
    assert secret not in answer.out + answer.err
    assert "***" in answer.err
    built.image("train")
    whole = secret.encode()
    for folder in (desk.store, desk.root / "home", built.storage):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert whole not in path.read_bytes(), path
    _, layers = built.image("train")
    assert "ok" in names_in(layers[1])
    left = {name: member for layer in layers[1:] for name, member in names_in(layer).items()}
    assert not [name for name, member in left.items() if "secrets" in name and member.size]


def test_a_missing_secret_is_named_before_anything_runs(built: BuiltDesk) -> None:
    built.steps("train", "RUN --mount=type=secret,id=token true")
    answer = built.desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    assert "no-secret" in answer.errors()


def test_without_a_builder_the_others_are_applied(built: BuiltDesk) -> None:
    desk = built.desk
    built.settings(builder={"type": "buildah", "program": "/nowhere/buildah"})
    built.steps("stepped", "RUN true", "RUN false")
    built.steps("stepped-too", "RUN echo")
    desk.environment("plain", "alpha=1.0")
    plan = desk.plan()
    remark = next(d for d in plan["diagnostics"] if d["code"] == "no-builder")
    assert remark["severity"] == "warning"
    assert plan["applyable"]
    answer = desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    assert [env["name"] for env in answer.json["environments"]] == ["plain"]
    assert answer.errors().count("no-builder") == 1
    assert "stepped, stepped-too" in answer.err


def test_offline_steps_have_no_network(built: BuiltDesk) -> None:
    built.steps("train", "RUN test $(grep -c : /proc/net/dev) = 1 && ! grep -q eth /proc/net/dev")
    built.desk.apply("--offline")
    built.image("train")


def test_a_step_that_takes_too_long_is_ended(built: BuiltDesk) -> None:
    builder = {"type": "buildah", "storage": str(built.storage), "timeout": 2}
    built.settings(builder=builder)
    built.steps("train", "RUN sleep 54321")
    answer = built.desk.run("apply", "--json", "--auto-approve")
    assert answer.code == 1
    assert "builder-timeout" in answer.errors()
    left = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [words for words in left if b"54321" in words]


def test_the_image_runs_and_travels(built: BuiltDesk, tmp_path: Path) -> None:
    built.steps("train", "RUN echo hi > /made.txt && rm /etc/hosts", "ENV SHADE=blue")
    built.desk.apply()
    layout = tmp_path / "out"
    built.desk.ok("export", "train", "--format", "oci", "-o", str(layout))
    index = json.loads((layout / "index.json").read_text())
    assert index["manifests"]


def test_what_lies_between_steps_outlives_a_collection(built: BuiltDesk) -> None:
    desk = built.desk
    built.steps("train", "RUN echo a > /a", "ENV A=b", "RUN echo c > /c", conda="alpha=1.0")
    desk.apply()
    desk.ok("store", "gc", "--grace-days", "0", "--json")
    built.steps("train", "RUN echo a > /a", "ENV A=b", "RUN echo d > /d", conda="alpha=1.0")
    todo = [s["name"] for s in desk.plan()["steps"] if s["kind"] == "docker-step"]
    assert todo == ["RUN echo d > /d"]
    desk.apply()
    assert desk.run("store", "verify").code == 0
