"""The user's shell starts with its own files, and the environment is still first."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph.run.shells import shell_command, users_shell


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    text = "export PATH=/from/rc:$PATH FROM_RC=yes\n"
    for name in (".bashrc", ".zshrc"):
        (folder / name).write_text(text)
    return folder


def ask(shell: str, home: Path, tmp_path: Path, question: str) -> str:
    environment = {"PATH": "/the env/bin:" + os.defpath, "HOME": str(home), "TERM": "dumb"}
    made = shell_command(shell, environment, name="my env", start_files=tmp_path / "start")
    done = subprocess.run(
        [*made.command],
        env={**environment, **made.variables},
        input=question + "\nexit 5\n",
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 5, done.stderr
    return done.stdout


def test_bash_reads_the_users_file_and_keeps_the_environment_first(
    home: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    said = ask(need("bash"), home, tmp_path, 'echo "$PATH" "$FROM_RC" "${PS1:0:9}"')
    assert said.strip() == f"/the env/bin:{os.defpath} yes (my env)"


def test_another_shell_starts_as_it_is(
    home: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    assert ask(need("dash"), home, tmp_path, 'echo "$PATH"').strip().startswith("/the env/bin:")


def test_zsh_and_fish_get_what_puts_the_environment_last_in_their_files(tmp_path: Path) -> None:
    environment = {"PATH": "/e/bin:/bin", "HOME": "/h"}
    fish = shell_command("/usr/bin/fish", environment, name="n", start_files=tmp_path)
    assert fish.command == ("/usr/bin/fish", "--init-command", "set -gx PATH /e/bin /bin", "-i")
    zsh = shell_command("/bin/zsh", environment, name="n", start_files=tmp_path)
    folder = Path(zsh.variables["ZDOTDIR"])
    assert "export PATH=/e/bin:/bin" in (folder / ".zshrc").read_text()
    assert "$HOME" in (folder / ".zshenv").read_text()


def test_the_users_shell() -> None:
    assert users_shell({"SHELL": "/bin/sh"}) == "/bin/sh"
    assert users_shell({"SHELL": "/no/such/shell"}) != "/no/such/shell"
