"""Completion in real shells: what a person gets who presses Tab."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from envgraph.cli.completion.words import all_verbs, value_of
from envgraph.cli.verbs import VERBS
from tests.cli.conftest import Cli

Complete = Callable[[str], list[str]]


@pytest.fixture
def applied(demo: Cli) -> Cli:
    """A workspace where ``train`` and a name with a space are registered."""
    demo.write("environments/other.yml", "name: two words\nchannels: [conda-forge]\n"
               "dependencies: [alpha]\n")  # fmt: skip
    assert demo("apply --auto-approve").code == 0
    command = demo.folder.parent / "bin/envgraph"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m envgraph "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{demo.environment['PATH']}"
    demo.environment["PATH"] = path
    return demo


def shell(cli: Cli, words: Sequence[str]) -> str:
    """What a shell prints; nothing on stderr."""
    done = subprocess.run(
        words, cwd=cli.folder, env=cli.environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


@pytest.fixture
def bash(applied: Cli, need: Callable[[str], str]) -> Complete:
    """``bash("envgraph pl")``: the words that bash would offer for the last one."""
    program = need("bash")
    script = applied.folder.parent / "completion.bash"
    script.write_text(applied("completion bash").out)

    def complete(line: str) -> list[str]:
        words = re.split(r"(?:(?<==)|(?==)| )", line)  # as readline does: = is a word
        code = (
            f"source {shlex.quote(str(script))}; COMP_WORDS=({' '.join(map(shlex.quote, words))})\n"
            f"COMP_CWORD={len(words) - 1}; COMP_LINE={shlex.quote(line)}; _envgraph 2>/dev/null\n"
            'printf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        out = shell(applied, [program, "--norc", "--noprofile", "-c", code])
        return [word for word in out.splitlines() if word]

    return complete


def test_bash_offers_verbs_flags_choices_and_names(bash: Complete, applied: Cli) -> None:
    assert bash("envgraph pl") == ["plan", "plugin"]
    assert set(bash("envgraph ")) == set(VERBS)
    assert bash("envgraph plan --de") == ["--detailed-exitcode"]
    assert bash("envgraph plan --off") == ["--offline"]
    assert bash("envgraph --js") == ["--json"]
    assert bash("envgraph store ") == ["verify", "gc", "usage"]
    assert bash("envgraph --json store --offline v") == ["verify"]
    assert bash("envgraph graph --format s") == ["svg"]
    assert bash("envgraph graph --format=s") == ["svg"]
    assert bash("envgraph graph --format=") == ["dot", "mermaid", "json", "svg"]
    assert bash("envgraph show ") == ["train", "two\\ words"]
    assert bash("envgraph show t") == ["train", "two\\ words"]
    assert bash("envgraph show tr") == ["train"]
    assert bash("envgraph plan --target tr") == ["train"]
    assert bash("envgraph graph train tr") == ["train"]
    # Left to the shell: files, and what nobody knows.
    assert bash("envgraph plan --out ") == bash("envgraph apply ") == []
    assert bash("envgraph apply --parallelism ") == bash("envgraph nonsense ") == []
    assert bash("envgraph show train tr") == []
    assert applied("archive train:1").code == 0
    assert bash("envgraph show ") == ["two\\ words"]


def test_bash_asks_the_workspace_and_store_of_the_line(
    bash: Complete, applied: Cli, tmp_path: Path
) -> None:
    folder = applied.folder
    (folder / "sub").mkdir()
    assert bash(f"envgraph -C {folder} show tr") == ["train"]
    assert bash("envgraph -C sub show ") == []
    assert bash("envgraph show -C sub ") == []
    assert bash(f"envgraph --store={tmp_path}/none show ") == []
    assert not (tmp_path / "none").exists()
    assert bash("envgraph -C su") == ["sub"]
    applied.write("sub/envgraph.yaml", "nonsense: [")
    assert bash("envgraph -C sub show ") == []
    assert bash("envgraph -C sub sh") == ["show", "shell", "share"]
    assert sorted(bash("envgraph init ")) == ["environments", "locks", "sub"]


def test_bash_completes_the_command_that_follows_two_dashes(bash: Complete) -> None:
    assert "printf" in bash("envgraph run train -- print")
    assert bash("envgraph run train -- python --off") == []


class Terminal:
    """A shell on a terminal of its own; waits for what it shows, never for a time."""

    def __init__(self, cli: Cli, command: Sequence[str]) -> None:
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cli.folder)
            os.execvpe(command[0], list(command), {**cli.environment, "TERM": "vt100"})

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, wanted: str) -> str:
        """Read until ``wanted`` was shown; the test fails when nothing comes for a minute."""
        deadline = time.monotonic() + 60
        while wanted not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"never saw {wanted!r} in {self.seen!r}"
            self.seen += os.read(self.fd, 4096).decode(errors="replace")
        before, _, self.seen = self.seen.partition(wanted)
        return before + wanted

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def test_tab_in_a_real_bash(applied: Cli, need: Callable[[str], str]) -> None:
    script = applied.folder.parent / "completion.bash"
    script.write_text(applied("completion bash").out)
    terminal = Terminal(applied, [need("bash"), "--norc", "--noprofile", "-i"])
    terminal.type(
        f"PS1='READY'; source {script}; bind 'set bell-style none'; echo LOADED$((1+1))\n"
    )
    terminal.until("LOADED2")
    terminal.type("envgraph val\t")
    terminal.until("validate ")
    terminal.type("environments/tr\t")
    terminal.until("train.yml")
    terminal.type("\x15envgraph show two\t")
    terminal.until("two\\ words")
    terminal.type("--json\n")
    terminal.until('"name": "two words"')
    terminal.close()


def test_tab_in_a_real_zsh(applied: Cli, need: Callable[[str], str]) -> None:
    script = applied.folder.parent / "completion.zsh"
    script.write_text(applied("completion zsh").out)
    terminal = Terminal(applied, [need("zsh"), "-f", "-i"])
    terminal.type("PS1=READY; unsetopt beep; autoload -Uz compinit; compinit -u -D\n")
    terminal.type(f"source {script}; print LOADED$((1+1))\n")
    terminal.until("LOADED2")
    for typed, line in (
        ("val\t", "validate"),
        ("plan --det\t", "plan --detailed-exitcode"),
        ("store ver\t", "store verify"),
        ("graph --format=s\t", "graph --format=svg"),
        ("show tr\t", "show train"),
        ("plan --target two\t", "plan --target two words"),
        ("-C . show tr\t", "-C . show train"),
        ("-C environments show tr\t", "-C environments show tr"),
    ):
        # To the line's beginning, so that the shell prints what the line has become.
        terminal.type(f"envgraph {typed}\x01print -r -- R$((1+1)) \n")
        terminal.until(f"R2 envgraph {line}\r\n")
    terminal.close()


def test_fish_offers_the_same(applied: Cli, need: Callable[[str], str]) -> None:
    program = need("fish")
    script = applied.folder.parent / "completion.fish"
    script.write_text(applied("completion fish").out)

    def fish(line: str) -> list[str]:
        code = f"source {shlex.quote(str(script))}; complete -C {shlex.quote(line)}"
        out = shell(applied, [program, "--no-config", "-c", code])
        return [text.partition("\t")[0] for text in out.splitlines()]

    assert set(fish("envgraph ")) == set(VERBS)
    assert fish("envgraph pl") == ["plan", "plugin"]
    assert fish("envgraph plan --det") == ["--detailed-exitcode"]
    assert fish("envgraph --js") == ["--json"]
    assert fish("envgraph store v") == ["verify"]
    assert fish("envgraph store verify v") == []
    assert fish("envgraph graph --format s") == ["svg"]
    assert fish("envgraph show tr") == ["train"]
    assert fish("envgraph -C . show t") == ["train", "two words"]
    assert fish("envgraph plan --target tr") == ["train"]
    assert "environments/train.yml" in fish("envgraph plan environments/tr")


def test_every_flag_and_operand_can_be_completed() -> None:
    verbs = all_verbs()
    assert [verb.name for verb in verbs] == list(VERBS)
    for verb in verbs:
        for operand in verb.operands:
            assert value_of(operand) is not None


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_help_texts_cannot_break_a_script(
    name: str, cli: Cli, need: Callable[[str], str], tmp_path: Path
) -> None:
    """Quotes, brackets, colons and commands in a help text stand for themselves."""
    import importlib

    from envgraph.cli.completion.words import Verb
    from envgraph.cli.options import Flag, Operand

    text = f'it\'s [a] "b": $(touch {tmp_path}/made) `touch {tmp_path}/made` \\'
    flags = (Flag("--odd", text, "VALUE", ("-x",)), Flag("--many", text, "A", many="repeat"))
    verb = Verb("odd", text, flags, (Operand("TASK", text, choices=("one", "two")),), True)
    script = importlib.import_module(f"envgraph.cli.completion.{name}").script([verb])
    file = tmp_path / "script"
    file.write_text(script)
    start = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    begin = "autoload -Uz compinit; compinit -u -D; " if name == "zsh" else ""
    shell(cli, [need(name), *start, "-c", f"{begin}source {file}"])
    assert not (tmp_path / "made").exists()


def test_completion_says_what_it_needs(cli: Cli) -> None:
    assert cli("completion").code == 1
    assert cli("completion tcsh").code == 1
    assert cli("completion bash --json").json["script"].startswith("# Completion")
    assert cli("completion names --json").json["names"] == []
    assert not (cli.folder.parent / "store").exists()
