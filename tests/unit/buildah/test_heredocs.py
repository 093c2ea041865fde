"""Heredocs of steps, for a buildah that knows none: held to what a shell makes of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

import pytest

from envgraph_buildah.heredocs import has_heredoc, shell_of, without_heredoc


def words(instruction: str, shell: Sequence[str] = ("/bin/sh", "-c")) -> list[str]:
    """The exec form's words, after what stands before them."""
    made = without_heredoc(instruction, shell)
    assert made is not None
    assert made.startswith("RUN ")
    assert "\n" not in made
    found: list[str] = json.loads(made[made.index("[") :])
    return found


def said(instruction: str) -> str:
    return subprocess.run(words(instruction), capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("instruction", "output"),
    [
        ("RUN <<EOF\necho one\necho two\nEOF", "one\ntwo\n"),
        ("RUN <<EOF\necho one\nEOF\n", "one\n"),
        ("RUN <<'END'\nA=1; echo $A\nEND", "1\n"),
        ("RUN <<-EOF\n\techo tabs\n\tEOF", "tabs\n"),
        ("RUN cat <<EOF\nhello $((1+1))\nEOF", "hello 2\n"),
        ("RUN cat <<'EOF'\nhello $X\nEOF", "hello $X\n"),
        ("RUN cat <<A && cat <<B\none\nA\ntwo\nB", "one\ntwo\n"),
        ("RUN cat <<EOF | tr a-z A-Z\nloud\nEOF", "LOUD\n"),
        ("run <<EOF\necho 'quote\"s' \\\\\nEOF", 'quote"s \\\n'),
    ],
)
def test_the_shell_does_what_the_step_says(instruction: str, output: str) -> None:
    assert has_heredoc(instruction)
    assert said(instruction) == output


def test_flags_and_the_shell_stay() -> None:
    flags = "--mount=type=secret,id=a --network=none"
    made = without_heredoc(f"RUN {flags} \\\n  <<EOF\nls\nEOF", ["/bin/bash", "-ec"])
    assert made == f'RUN {flags} ["/bin/bash", "-ec", "ls\\n"]'


@pytest.mark.parametrize(
    "instruction",
    [
        "RUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF",  # BuildKit mounts a program
        "RUN <<EOF\nls",
        "RUN <<EOF\nls\nEOF\nand more",
        "COPY <<EOF /x\nhello\nEOF",
    ],
)
def test_what_cannot_be_written_so(instruction: str) -> None:
    assert has_heredoc(instruction)
    assert without_heredoc(instruction) is None


@pytest.mark.parametrize(
    "instruction",
    ["RUN echo 1", "ENV A=<<EOF", 'RUN ["a", "b"]', "RUN cat < a", "RUN a && \\\n  b"],
)
def test_what_is_none(instruction: str) -> None:
    assert not has_heredoc(instruction)


def test_the_shell_in_force() -> None:
    assert shell_of([], None) == ("/bin/sh", "-c")
    assert shell_of(["ENV A=b"], ["/bin/bash", "-c"]) == ("/bin/bash", "-c")
    assert shell_of(['SHELL ["/bin/a"]', 'shell ["/bin/b", "-x"]'], None) == ("/bin/b", "-x")
    assert shell_of(["SHELL nonsense"], None) == ("/bin/sh", "-c")
