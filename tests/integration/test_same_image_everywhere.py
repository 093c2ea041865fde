"""The same lock gives the same image: elsewhere, through a mirror, for anybody, any day."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from envgraph.testing.http import ChannelServer
from tests.desk import Desk
from tests.services import Channel, require_tool

PACKAGES = ("python", "alpha=1.1", "beta", "gamma", "tool", "settings")


def again(first: Desk, root: Path, channel: str) -> Desk:
    """Another user who has only the committed files."""
    desk = Desk(root, channel)
    shutil.rmtree(desk.folder)
    shutil.copytree(first.folder, desk.folder)
    desk.settings()
    return desk


@pytest.fixture
def first(tmp_path: Path, demo_channel: Channel) -> Desk:
    desk = Desk(tmp_path / "first", demo_channel.url)
    desk.environment("train", *PACKAGES)
    desk.apply()
    return desk


def image(desk: Desk) -> str:
    digest: str = desk.apply()["environments"][0]["image"]
    return digest


def test_in_another_folder_with_other_settings_of_the_machine(
    first: Desk, tmp_path: Path, demo_channel: Channel
) -> None:
    other = again(first, tmp_path / "a folder elsewhere, ünïcode", demo_channel.url)
    environ = {
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "1",
        "LANG": "tr_TR.UTF-8",
    }
    answer = other.ok("apply", "--json", "-y", environ=environ, umask=0o077)
    assert answer.json["environments"][0]["image"] == image(first)
    assert answer.json["built"] == 7
    assert other.blobs() >= {image(first).removeprefix("sha256:")}


def test_through_a_mirror_over_http(first: Desk, tmp_path: Path, demo_channel: Channel) -> None:
    with ChannelServer(demo_channel.folder) as server:
        other = again(first, tmp_path / "mirror", server.url)
        assert image(other) == image(first)
        assert server.requests


def test_on_another_day(first: Desk, tmp_path: Path, demo_channel: Channel) -> None:
    faketime = require_tool("faketime")
    other = again(first, tmp_path / "later", demo_channel.url)
    done = subprocess.run(
        [faketime, "2031-02-03 04:05:06", *other.command("apply", "-y", "--json")],
        cwd=other.folder, env=other.environ(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert image(other) == image(first)


def test_for_another_user(first: Desk, tmp_path: Path, demo_channel: Channel) -> None:
    unshare = require_tool("unshare")
    other = again(first, tmp_path / "user", demo_channel.url)
    words = [unshare, "--user", "--map-user=1234", "--map-group=1234"]
    done = subprocess.run(
        [*words, *other.command("apply", "-y", "--json")],
        cwd=other.folder, env=other.environ(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert image(first).removeprefix("sha256:") in other.blobs()


def test_one_thread_or_many(first: Desk, tmp_path: Path, demo_channel: Channel) -> None:
    other = again(first, tmp_path / "threads", demo_channel.url)
    result = other.apply("--parallelism", "7")
    assert result["environments"][0]["image"] == image(first)


def test_with_real_bytecode(tmp_path: Path, real_channel: Channel) -> None:
    images = []
    for name in ("one", "two"):
        desk = Desk(tmp_path / name, real_channel.url)
        desk.settings(image={"bytecode": "auto"})
        desk.environment("train", "python", "click=8.1", "tqdm")
        result = desk.apply("--parallelism", "1" if name == "one" else "3")
        images.append(result["environments"][0]["image"])
    assert images[0] == images[1]
