"""The script for zsh: what each verb takes, with the help beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Final

from envgraph.cli.completion.words import COMMON_FLAGS, Value, Verb, value_of
from envgraph.cli.options import Flag, Operand

TEMPLATE: Final = """\
#compdef envgraph
# Completion of envgraph for zsh. Made by `envgraph completion zsh`; keep it as _envgraph in a
# folder of $fpath, or source it after compinit.

_envgraph_environments() {
    local -a names
    names=("${(@f)$(_call_program environments $_envgraph_command --quiet "${_envgraph_place[@]}" \\
        completion names 2>/dev/null)}")
    compadd -a names
}

_envgraph() {
    local curcontext=$curcontext state line ret=1
    local -A opt_args
    local _envgraph_command=${words[1]}
    local -a _envgraph_place common verbs
    common=(
@COMMON@    )
    verbs=(
@VERBS@    )
    _arguments -C -S $common '1: :->verb' '*:: :->rest' && ret=0
    _envgraph_place=(${opt_args[-C]:+-C} ${(Q)opt_args[-C]} ${opt_args[--store]:+--store} \\
        ${(Q)opt_args[--store]})
    case $state in
        verb) _describe -t verbs verb verbs && ret=0 ;;
        rest)
            curcontext=${curcontext%:*}-$line[1]:
            case $line[1] in
@CASES@                *) _default && ret=0 ;;
            esac
            ;;
    esac
    return ret
}

if [ "$funcstack[1]" = _envgraph ]; then
    _envgraph "$@"
else
    compdef _envgraph envgraph
fi
"""


def script(verbs: Sequence[Verb]) -> str:
    """The whole script."""
    listed = "".join(
        f"        {quote(verb.name + ':' + _described(verb.help, ':'))}\n" for verb in verbs
    )
    cases = "".join(_case(verb) for verb in verbs)
    common = "".join(f"        {spec}\n" for spec in _flags(COMMON_FLAGS))
    text = TEMPLATE
    for mark, part in {"@COMMON@": common, "@VERBS@": listed, "@CASES@": cases}.items():
        text = text.replace(mark, part)
    return text


def _case(verb: Verb) -> str:
    specs = [*_flags(verb.flags), *_operands(verb.operands)]
    if verb.rest:
        specs.append("'*::command: _normal'")
    lines = "".join(f" \\\n                        {spec}" for spec in specs)
    return (
        f"                {verb.name})\n"
        f"                    _arguments -S $common{lines} && ret=0\n"
        "                    ;;\n"
    )


def _flags(flags: Iterable[Flag]) -> list[str]:
    found = []
    for flag in flags:
        spellings = [s for s in flag.spellings if s.startswith("--") or len(s) == 2]
        value = value_of(flag)
        excluded = "" if flag.many else f"({' '.join(spellings)})"
        for spelling in spellings:
            mark = "" if value is None else "=" if spelling.startswith("--") else "+"
            spec = f"{'*' if flag.many else excluded}{spelling}{mark}"
            spec += f"[{_described(flag.help, '[]')}]"
            if value is not None:
                spec += f":{_described(flag.value, ':')}:{_action(value)}"
            found.append(quote(spec))
    return found


def _operands(operands: Iterable[Operand]) -> list[str]:
    found = []
    for number, operand in enumerate(operands, 1):
        value = value_of(operand)
        assert value is not None
        place = {"one": f"{number}:", "optional": f"{number}::", "many": "*:"}[operand.count]
        found.append(quote(f"{place}{_described(operand.name, ':')}:{_action(value)}"))
    return found


def _action(value: Value) -> str:
    if value.kind == "words":
        return f"({' '.join(value.words)})"
    return {
        "file": "_files",
        "folder": "_files -/",
        "environment": "_envgraph_environments",
        "other": " ",
    }[value.kind]


def _described(text: str, special: str) -> str:
    """Text in which what means something to zsh stands for itself."""
    text = text.replace("\\", "\\\\")
    for character in special:
        text = text.replace(character, "\\" + character)
    return text
