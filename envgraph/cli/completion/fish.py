"""The script for fish: one line for each thing that can be offered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from envgraph.cli.completion.words import COMMON_FLAGS, Value, Verb, value_of
from envgraph.cli.options import Flag

TEMPLATE: Final = """\
# Completion of envgraph for fish. Made by `envgraph completion fish`; keep it, for example, in
# ~/.config/fish/completions/envgraph.fish

function __envgraph_verb --description 'The verb of the line, if it is among those given'
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word @VALUED@
            set skip 1
        else if not string match -q -- '-*' $word
            if test (count $argv) = 0
                return 0
            end
            contains -- $word $argv
            return
        end
    end
    return 1
end

function __envgraph_environments
    set -l command (commandline -opc)
    set -l place
    for i in (seq 2 (math (count $command) - 1))
        if contains -- $command[$i] -C --store
            set -a place $command[$i] $command[(math $i + 1)]
        end
    end
    $command[1] --quiet $place completion names 2>/dev/null
end

complete -c envgraph -f
"""


def script(verbs: Sequence[Verb]) -> str:
    """The whole script."""
    valued = [s for flag in COMMON_FLAGS if flag.value for s in flag.spellings]
    lines = [TEMPLATE.replace("@VALUED@", " ".join(valued))]
    lines += _flags(COMMON_FLAGS, "")
    for verb in verbs:
        lines.append(
            f"complete -c envgraph -n 'not __envgraph_verb' -a {verb.name} "
            f"-d {_quoted(verb.help)}\n"
        )
    for verb in verbs:
        condition = f"__envgraph_verb {verb.name}"
        lines += _flags(verb.flags, condition)
        lines += _operands(verb, condition)
    return "".join(lines)


def _flags(flags: Iterable[Flag], condition: str) -> list[str]:
    where = f" -n {_quoted(condition)}" if condition else ""
    found = []
    for flag in flags:
        words = [f"-l {s[2:]}" for s in flag.spellings if s.startswith("--")]
        words += [f"-s {s[1:]}" for s in flag.spellings if len(s) == 2]
        value = value_of(flag)
        if value is not None:
            words.append(_taken(value))
        found.append(f"complete -c envgraph{where} {' '.join(words)} -d {_quoted(flag.help)}\n")
    return found


def _operands(verb: Verb, condition: str) -> list[str]:
    found = []
    for operand in verb.operands:
        value = value_of(operand)
        if value is None or value.kind == "other":
            continue
        where = condition
        if value.kind == "words":
            where += f"; and not __fish_seen_subcommand_from {' '.join(value.words)}"
        if value.kind in ("file", "folder"):
            offer = "-F" if value.kind == "file" else "-a '(__fish_complete_directories)'"
        else:
            offer = _taken(value).removeprefix("-x ")
        found.append(f"complete -c envgraph -n {_quoted(where)} {offer}\n")
    return found


def _taken(value: Value) -> str:
    if value.kind == "words":
        return f"-x -a {_quoted(' '.join(value.words))}"
    return {
        "file": "-r -F",
        "folder": "-x -a '(__fish_complete_directories)'",
        "environment": "-x -a '(__envgraph_environments)'",
        "other": "-x",
    }[value.kind]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
