"""``envgraph run``: the locked packages on this machine, and no way back into the store."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envgraph.testing.base import make_base
from tests.services import Channel


class Desk:
    """A workspace with one small environment, its store and its cache."""

    def __init__(self, folder: Path, channel: Channel) -> None:
        self.workspace = folder / "workspace"
        self.cache = folder / "cache"
        self.workspace.mkdir()
        base = make_base(folder / "base").reference
        (self.workspace / "environment.yml").write_text(
            f"name: small\nimage: {base}\nenvironment_variables: {{OWN: own value}}\n"
            f"conda_file:\n  channels: ['{channel.url}']\n"
            "  dependencies: [beta, settings]\n  variables: {FROM_CONDA_FILE: conda value}\n"
        )
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(self.cache),
            "ENVGRAPH_STORE": str(folder / "store"),
            "CONDA_PREFIX": "/leak",
        }

    def with_cache(self, cache: Path) -> Desk:
        other = copy.copy(self)
        other.cache = cache
        other.env = {**self.env, "XDG_CACHE_HOME": str(cache)}
        return other

    def command(self, *words: str) -> list[str]:
        return [sys.executable, str(Path(sys.executable).with_name("envgraph")), *words]

    def envgraph(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), cwd=self.workspace, env=self.env, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    @property
    def prefix(self) -> Path:
        (found,) = [p for p in (self.cache / "envgraph/prefixes").iterdir() if p.is_dir()]
        return found


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory, demo_channel: Channel) -> Desk:
    made = Desk(tmp_path_factory.mktemp("run"), demo_channel)
    done = made.envgraph("apply", "environment.yml", "--auto-approve")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def desk(applied: Desk, tmp_path: Path) -> Desk:
    """The applied environment, with an empty cache folder for each test's prefix."""
    return applied.with_cache(tmp_path / "cache")


def test_the_command_sees_packages_variables_and_activation(desk: Desk) -> None:
    script = 'beta; echo "$SETTINGS_MODE $SETTINGS_ACTIVE $OWN $FROM_CONDA_FILE $CONDA_PREFIX"'
    done = desk.envgraph("run", "small", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    program, variables = done.stdout.splitlines()
    assert program == f"{desk.prefix}/bin/beta"
    assert variables == f"fast 1 own value conda value {desk.prefix}"


@pytest.mark.parametrize("code", [0, 3, 11, 70])
def test_the_exit_code_is_the_commands(desk: Desk, code: int) -> None:
    assert desk.envgraph("run", "small", "--", "sh", "-c", f"exit {code}").returncode == code


def test_a_signal_reaches_the_command(desk: Desk) -> None:
    words = ["sh", "-c", "trap 'echo saved; exit 9' TERM; echo ready; read line"]
    with subprocess.Popen(
        desk.command("run", "small", "--", *words), cwd=desk.workspace, env=desk.env,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "saved\n"
        assert process.wait() == 9


def test_an_unknown_command_and_another_prefix_are_plain_errors(desk: Desk) -> None:
    done = desk.envgraph("run", "small", "--", "no-such-command")
    assert done.returncode == 1
    assert "no-such-command" in done.stderr
    assert "Traceback" not in done.stderr


def test_editing_the_prefix_harms_neither_the_store_nor_another_prefix(desk: Desk) -> None:
    assert desk.envgraph("run", "small", "--", "true").returncode == 0
    edited = 0
    for path in desk.prefix.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o644)
            with path.open("r+b") as stream:
                stream.write(b"EDITED IN PLACE")
            assert path.stat().st_nlink == 1, path
            edited += 1
    assert edited > 5
    verified = desk.envgraph("store", "verify", "--json")
    assert verified.returncode == 0, verified.stdout
    planned = desk.envgraph("plan", "environment.yml", "--no-memo")
    assert "No changes" in planned.stdout
    other = desk.with_cache(desk.cache.with_name("other"))
    again = other.envgraph("run", "small", "--", "beta")
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith("/bin/beta\n")


def test_a_second_run_makes_nothing(desk: Desk) -> None:
    desk.envgraph("run", "small", "--", "true")
    (desk.prefix / "still-there").touch()
    desk.envgraph("run", "small", "--", "true")
    assert (desk.prefix / "still-there").exists()
