"""``RUN <<EOF`` for a buildah that knows no heredocs: the same script, given to the shell.

As BuildKit does it: where the line is the heredoc alone, its text is the script; else the
shell gets the line and the heredoc as they are. Only steps of our own are written so: a user's
Dockerfile is built as it is, or refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

DEFAULT_SHELL: Final = ("/bin/sh", "-c")
HEREDOC: Final = re.compile(r"<<-?\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\1")
_FLAGS: Final = re.compile(r"(?:--[a-z-]+(?:=\S*)?(?:\s|\\\n)+)*")
_ALONE: Final = re.compile(r"<<(-?)\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2[ \t]*\n")


def has_heredoc(instruction: str) -> bool:
    """Whether the first line of a RUN, COPY or ADD begins a heredoc."""
    word, _, rest = instruction.strip().partition(" ")
    line = rest.replace("\\\n", " ").partition("\n")[0]
    return word.upper() in ("RUN", "COPY", "ADD") and HEREDOC.search(line) is not None


def without_heredoc(instruction: str, shell: Sequence[str] = DEFAULT_SHELL) -> str | None:
    """A RUN whose script is an argument of the shell; None where it cannot be written so."""
    word, _, rest = instruction.strip().partition(" ")
    if word.upper() != "RUN":
        return None
    match = _FLAGS.match(rest.lstrip())
    assert match is not None
    flags, script = match[0], rest.lstrip()[match.end() :]
    if alone := _ALONE.match(script):
        script, end = script[alone.end() :], alone[3]
        lines = script.split("\n")
        if alone[1]:
            lines = [line.lstrip("\t") for line in lines]
        if end not in lines:
            return None
        place = lines.index(end)
        if any(line.strip() for line in lines[place + 1 :]):
            return None
        script = "\n".join(lines[:place]) + "\n"
        if script.startswith("#!"):
            return None  # a program of another kind, which BuildKit mounts
    words = json.dumps([*shell, script], ensure_ascii=False)
    return f"RUN {' '.join(flags.replace(chr(92) + chr(10), ' ').split())} {words}"


def shell_of(instructions: Sequence[str], before: Sequence[str] | None) -> Sequence[str]:
    """The shell in force after instructions; ``before`` is the base's."""
    shell = tuple(before or DEFAULT_SHELL)
    for text in instructions:
        word, _, rest = text.strip().partition(" ")
        if word.upper() == "SHELL":
            try:
                found = json.loads(rest)
            except ValueError:
                continue
            if isinstance(found, list) and all(isinstance(each, str) for each in found):
                shell = tuple(found)
    return shell
