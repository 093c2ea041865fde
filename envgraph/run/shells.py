"""The user's own shell in an environment, with the environment first after its start files.

A shell's start files may put something else first on PATH (``conda init`` does). So they
run as always, and then the environment's PATH and prompt are set again.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_BASH = """\
[ -f ~/.bashrc ] && . ~/.bashrc
export PATH={path}
PS1={prompt}"$PS1"
"""
_ZSH = """\
ZDOTDIR={zdotdir}
[ -f "${{ZDOTDIR:-$HOME}}/{name}" ] && . "${{ZDOTDIR:-$HOME}}/{name}"
{after}
"""


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """What to execute, and variables to set on top of the environment's."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def users_shell(outer: Mapping[str, str]) -> str:
    """``$SHELL``, else the shell of the user's account, else ``/bin/sh``."""
    candidates = [outer.get("SHELL", "")]
    with contextlib.suppress(KeyError):
        candidates.append(pwd.getpwuid(os.geteuid()).pw_shell)
    for candidate in candidates:
        if candidate and shutil.which(candidate):
            return candidate
    return "/bin/sh"


def shell_command(
    shell: str, environment: Mapping[str, str], *, name: str, start_files: Path
) -> ShellCommand:
    """How to start ``shell`` interactively so that the environment stays first.

    ``start_files`` is a folder of the prefix's own for the two small files that bash
    and zsh need; fish takes a command; other shells start as they are.
    """
    kind = Path(shell).name
    path = environment.get("PATH", os.defpath)
    prompt = f"({name}) "
    if kind == "bash":
        text = _BASH.format(path=shlex.quote(path), prompt=shlex.quote(prompt))
        file = _save(start_files / "bashrc", text)
        return ShellCommand((shell, "--rcfile", str(file), "-i"))
    if kind == "zsh":
        return _zsh(shell, environment, path, prompt, start_files / "zsh")
    if kind == "fish":
        entries = " ".join(shlex.quote(entry) for entry in path.split(os.pathsep))
        return ShellCommand((shell, "--init-command", f"set -gx PATH {entries}", "-i"))
    return ShellCommand((shell, "-i"))


def _zsh(
    shell: str, environment: Mapping[str, str], path: str, prompt: str, folder: Path
) -> ShellCommand:
    """Zsh reads its files from ZDOTDIR: ours, which read the user's and then come last."""
    own = environment.get("ZDOTDIR", "")
    back = f"ZDOTDIR={shlex.quote(str(folder))}"
    last = f"export PATH={shlex.quote(path)}\nPROMPT={shlex.quote(prompt)}$PROMPT"
    last += "" if own else "\nunset ZDOTDIR"
    for name, after in ((".zshenv", back), (".zshrc", last)):
        text = _ZSH.format(zdotdir=shlex.quote(own), name=name, after=after)
        _save(folder / name, text)
    return ShellCommand((shell, "-i"), {"ZDOTDIR": str(folder)})


def _save(path: Path, text: str) -> Path:
    """Write by rename: another shell may be reading the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
    return path
