"""Apply when things go wrong: killed, interrupted, excluded, out of space, refused."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desk import Desk
from tests.services import Channel, missing

PACKAGES = ("python", "alpha=1.1", "beta", "gamma", "tool", "settings")


@pytest.fixture
def desk(tmp_path: Path, demo_channel: Channel) -> Desk:
    desk = Desk(tmp_path / "desk", demo_channel.url)
    desk.environment("train", *PACKAGES)
    return desk


def start(desk: Desk, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        desk.command(*words), cwd=desk.folder, env=desk.environ(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_killed_at_any_moment_the_next_apply_finishes_the_work(
    desk: Desk, tmp_path: Path, demo_channel: Channel
) -> None:
    whole = Desk(tmp_path / "whole", demo_channel.url)
    whole.environment("train", *PACKAGES)
    began = time.monotonic()
    image = whole.apply()["environments"][0]["image"]
    duration = time.monotonic() - began
    moments = random.Random(20261123)
    killed = 0
    for _ in range(40):
        process = start(desk, "apply", "-y")
        try:
            process.wait(timeout=moments.uniform(0.1, 0.8) * duration)
            shutil.rmtree(desk.store)  # it was done before its moment came: begin anew
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate()
        if desk.store.exists():
            assert desk.run("store", "verify").code == 0
        if killed == 8:
            break
    assert killed == 8
    assert desk.apply()["environments"][0]["image"] == image
    assert not desk.plan("--no-memo")["changes"]


def test_killed_at_named_system_calls(desk: Desk, need) -> None:  # type: ignore[no-untyped-def]
    strace = need("strace")
    image = None
    for call, when in [("rename", 1), ("rename", 3), ("link", 1), ("link", 2), ("syncfs", 1),
                       ("fsync", 2), ("fsync", 9), ("unlinkat", 2)]:  # fmt: skip
        shutil.rmtree(desk.store, ignore_errors=True)
        calls = {"rename": "rename,renameat,renameat2", "link": "link,linkat"}.get(call, call)
        subprocess.run(
            [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}",
             "-e", f"inject={calls}:signal=KILL:when={when}", *desk.command("apply", "-y")],
            cwd=desk.folder, env=desk.environ(), capture_output=True, check=False, timeout=300,
        )  # fmt: skip
        if desk.store.exists():
            assert desk.run("store", "verify").code == 0, call
        result = desk.apply()["environments"][0]["image"]
        assert image in (None, result)
        image = result


def test_an_interrupt_ends_with_130_and_the_store_is_whole(desk: Desk) -> None:
    process = start(desk, "apply", "-y", "--json")
    assert process.stdout is not None
    process.stdout.readline()  # something has begun
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode in (0, 130)
    assert desk.run("store", "verify").code == 0
    desk.apply()


def test_terminate_ends_with_143(desk: Desk) -> None:
    process = start(desk, "apply", "-y", "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode in (0, 143)
    assert desk.run("store", "verify").code == 0


def test_two_applies_of_one_workspace_exclude_each_other(desk: Desk) -> None:
    from envgraph_store import Store

    with (
        Store.open(desk.store) as store,
        store.file_lock("workspace-d35c0001", purpose="a test that holds it"),
    ):
        answer = desk.run("apply", "-y", "--json", "--lock-timeout", "0")
    assert answer.code == 11
    assert answer.errors() == ["locked"]
    assert str(os.getpid()) in answer.err
    desk.apply()


def test_two_workspaces_apply_at_once_into_one_store(
    desk: Desk, tmp_path: Path, demo_channel: Channel
) -> None:
    other = Desk(tmp_path / "other", demo_channel.url)
    other.settings(workspace="other", id="0e000002")
    other.environment("score", "alpha=1.1", "gamma", "settings")
    other.store = desk.store
    running = [start(desk, "apply", "-y"), start(other, "apply", "-y")]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert desk.run("store", "verify").code == 0
    assert not desk.plan("--no-memo")["changes"]
    assert not other.plan("--no-memo")["changes"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        missing("mounting a small disk needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k,mode=0755", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        missing("a tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.services
def test_a_full_disk_is_one_clear_error_and_room_is_enough_to_go_on(
    desk: Desk, small_disk: Path
) -> None:
    desk.store = small_disk / "store"
    answer = desk.run("apply", "-y", "--json")
    assert answer.code == 1
    assert "Traceback" not in answer.err
    assert "no-space" in answer.errors() or "No space left" in answer.err
    assert desk.run("store", "verify").code == 0
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    desk.apply()
    assert desk.run("store", "verify").code == 0


def test_a_missing_archive_is_one_error_that_names_the_package(
    tmp_path: Path, demo_channel: Channel
) -> None:
    channel = tmp_path / "channel"
    shutil.copytree(demo_channel.folder, channel)
    desk = Desk(tmp_path / "desk", channel.as_uri())
    desk.environment("train", "alpha=1.1", "gamma")
    (channel / "linux-64" / "alpha-1.1-0.conda").rename(tmp_path / "kept")
    answer = desk.run("apply", "-y", "--json")
    assert answer.code == 1
    assert "alpha" in answer.err
    assert desk.ok("list", "--json").json["environments"] == []
    (tmp_path / "kept").rename(channel / "linux-64" / "alpha-1.1-0.conda")
    desk.apply()


def test_a_changed_archive_is_refused_and_nothing_of_it_is_kept(
    tmp_path: Path, demo_channel: Channel
) -> None:
    channel = tmp_path / "channel"
    shutil.copytree(demo_channel.folder, channel)
    desk = Desk(tmp_path / "desk", channel.as_uri())
    desk.environment("train", "alpha=1.1")
    archive = channel / "linux-64" / "alpha-1.1-0.conda"
    data = bytearray(archive.read_bytes())
    data[-1] ^= 1
    archive.write_bytes(data)
    answer = desk.run("apply", "-y", "--json")
    assert answer.code == 1
    assert "alpha" in answer.err
    assert not list((desk.store / "packages").iterdir())
