"""The script for bash; it needs no bash-completion package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Final

from envgraph.cli.completion.words import COMMON_FLAGS, Value, Verb, offered, value_of
from envgraph.cli.options import Flag

TEMPLATE: Final = """\
# Completion of envgraph for bash. Made by `envgraph completion bash`; keep it, for example, in
# ~/.local/share/bash-completion/completions/envgraph

_envgraph_flag() {  # VERB FLAG: kind is what the flag takes, empty for a switch
    kind=
    case $2 in
@COMMON@    esac
    [ -z "$kind" ] || return 0
    case "$1 $2" in
@FLAGS@    esac
}

_envgraph_operand() {  # VERB N: kind is what the N-th operand is
    kind=other
    case "$1 $2" in
@OPERANDS@    esac
}

_envgraph_flags() {  # VERB: the flags it takes
    flags=@COMMON_WORDS@
    case $1 in
@FLAG_WORDS@    esac
}

_envgraph_fill() {  # KIND: what begins like the current word
    local line
    case $1 in
        words:*)
            COMPREPLY=( $(compgen -W "${1#words:}" -- "$cur") )
            ;;
        folder)
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$cur")
            ;;
        environment)
            while IFS= read -r line; do
                [[ $line != "$cur"* ]] || COMPREPLY+=("$(printf '%q' "$line")")
            done < <("${COMP_WORDS[0]/#\\~/$HOME}" "${place[@]}" completion names 2>/dev/null)
            ;;
        other)
            compopt +o default 2>/dev/null
            ;;
    esac  # a file is what the shell offers where there is nothing else
}

_envgraph() {
    local cur=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]}
    local verb= kind= flags= word= before= i=0 count=0
    local -a place=(--quiet)
    COMPREPLY=()
    if [[ $cur == = ]]; then
        cur=
    elif [[ $last == = && $COMP_CWORD -gt 1 ]]; then
        last=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
            --)
                # What follows is a command of its own.
                [[ $i -lt $((COMP_CWORD - 1)) ]] || COMPREPLY=( $(compgen -c -- "$cur") )
                return 0
                ;;
            -*)
                _envgraph_flag "$verb" "$word"
                [[ -n $kind ]] || continue
                before=$word
                [[ ${COMP_WORDS[i+1]} != = ]] || ((i++))
                ((i++))
                [[ $before != -C && $before != --store ]] || place+=("$before" "${COMP_WORDS[i]}")
                ;;
            *)
                if [[ -z $verb ]]; then verb=$word; else ((count++)); fi
                ;;
        esac
    done
    if [[ $last == -* ]]; then
        _envgraph_flag "$verb" "$last"
        if [[ -n $kind ]]; then
            _envgraph_fill "$kind"
            return 0
        fi
    fi
    if [[ $cur == -* ]]; then
        _envgraph_flags "$verb"
        COMPREPLY=( $(compgen -W "$flags" -- "$cur") )
    elif [[ -z $verb ]]; then
        COMPREPLY=( $(compgen -W @VERBS@ -- "$cur") )
    else
        _envgraph_operand "$verb" "$count"
        _envgraph_fill "$kind"
    fi
}

complete -o bashdefault -o default -F _envgraph envgraph
"""


def script(verbs: Sequence[Verb]) -> str:
    """The whole script."""
    flags: list[str] = []
    operands: list[str] = []
    words: list[str] = []
    for verb in verbs:
        flags += _flag_cases(verb.flags, f"{verb.name} ")
        operands += _operand_cases(verb)
        if verb.flags:
            words.append(_case(verb.name, f'flags="$flags {" ".join(offered(verb.flags))}"'))
    parts = {
        "@COMMON@": "".join(_flag_cases(COMMON_FLAGS, "")),
        "@FLAGS@": "".join(flags),
        "@OPERANDS@": "".join(operands),
        "@COMMON_WORDS@": quote(" ".join(offered(COMMON_FLAGS))),
        "@FLAG_WORDS@": "".join(words),
        "@VERBS@": quote(" ".join(verb.name for verb in verbs)),
    }
    text = TEMPLATE
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def _flag_cases(flags: Iterable[Flag], prefix: str) -> list[str]:
    found = []
    for flag in flags:
        value = value_of(flag)
        if value is not None:
            pattern = "|".join(quote(prefix + spelling) for spelling in flag.spellings)
            found.append(_case(pattern, f"kind={_kind(value)}", ready=True))
    return found


def _operand_cases(verb: Verb) -> list[str]:
    found = []
    for number, operand in enumerate(verb.operands):
        value = value_of(operand)
        assert value is not None
        pattern = f"'{verb.name} '*" if operand.count == "many" else quote(f"{verb.name} {number}")
        found.append(_case(pattern, f"kind={_kind(value)}", ready=True))
    return found


def _kind(value: Value) -> str:
    return quote("words:" + " ".join(value.words)) if value.kind == "words" else value.kind


def _case(pattern: str, action: str, *, ready: bool = False) -> str:
    return f"        {pattern if ready else quote(pattern)}) {action} ;;\n"
