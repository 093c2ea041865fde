"""The user's editor: which one it is, and letting it have the terminal."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from envgraph.errors import EnvgraphError, PlatformError

USUAL: Final = ("sensible-editor", "editor", "nano", "vim", "vi")


def find_editor(environment: Mapping[str, str]) -> list[str]:
    """``$VISUAL``, else ``$EDITOR``, else one that is there; PlatformError without any."""
    for name in ("VISUAL", "EDITOR"):
        text = environment.get(name, "").strip()
        if not text:
            continue
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise PlatformError(
                f"${name} is no command: {error}", code="no-editor", detail=text
            ) from error
        if shutil.which(words[0], path=environment.get("PATH")) is None:
            raise PlatformError(
                f"${name} names {words[0]!r}, which is not installed", code="no-editor",
                hint="set it to an editor that is: VISUAL=nano envgraph edit …",
            )  # fmt: skip
        return words
    for word in USUAL:
        if shutil.which(word, path=environment.get("PATH")) is not None:
            return [word]
    raise PlatformError(
        "there is no editor", code="no-editor", hint="set VISUAL or EDITOR to the command of one"
    )


def open_editor(command: list[str], path: Path) -> None:
    """Run the editor on a file until it ends; EnvgraphError when it fails."""
    import subprocess

    try:
        done = subprocess.run([*command, str(path)], check=False)
    except OSError as error:
        raise PlatformError(
            f"{command[0]} cannot be started: {error.strerror}", code="no-editor"
        ) from error
    if done.returncode != 0:
        raise EnvgraphError(
            f"the editor {command[0]!r} ended with exit code {done.returncode}",
            code="editor-failed",
        )
