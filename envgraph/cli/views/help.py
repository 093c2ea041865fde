"""Help: the overview of all verbs, and what one verb takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from envgraph.cli.arguments import COMMON
from envgraph.cli.options import Flag, Signature
from envgraph.cli.verbs import GROUPS, VERBS
from envgraph.cli.views.console import Console, Piece, Styled, wrap

Print = Callable[..., None]


def overview(show: Print) -> None:
    """All verbs, in the order in which a newcomer needs them."""
    show("envgraph: the environment that trained your model, the same tomorrow")
    show()
    show("Usage: envgraph [FLAGS] VERB …")
    column = max(len(verb) for verb in VERBS) + 2
    for title, verbs in GROUPS:
        show()
        show(Styled(title, "bold"))
        for verb, summary in verbs:
            show("  ", Styled(verb.ljust(column), "cyan"), summary)
    show()
    show(Styled("For every verb", "bold"), ", before or after it")
    _flags(show, COMMON, 80)
    show()
    show("`envgraph VERB --help` shows what a verb takes. To begin: envgraph init")


def verb_help(console: Console, verb: str, signature: Signature) -> None:
    """One verb: usage, operands, flags, notes, examples."""
    show = console.out
    show(f"envgraph {verb}: {VERBS[verb]}")
    show()
    words = ["envgraph", verb, *(o.usage for o in signature.operands)]
    if signature.flags:
        words.append("[FLAGS]")
    if signature.rest:
        words += ["--", signature.rest]
    show("Usage: ", " ".join(words))
    if signature.operands or signature.rest:
        show()
        rows = [(o.name, _with_choices(o.help, o.choices)) for o in signature.operands]
        if signature.rest:
            rows.append((signature.rest, signature.rest_help))
        _table(show, rows, console.width)
    visible = [flag for flag in signature.flags if not flag.hidden]
    if visible:
        show()
        show(Styled("Flags", "bold"))
        _flags(show, visible, console.width)
    for note in signature.notes:
        show()
        for line in wrap(note, console.width):
            show(line)
    if signature.examples:
        show()
        show(Styled("Examples", "bold"))
        for line, meaning in signature.examples:
            show("  ", line)
            show("      ", Styled(meaning, "dim"))
    show()
    show("Flags of every verb (-C, --store, --json, …): envgraph --help")


def _flags(show: Print, flags: Sequence[Flag], width: int) -> None:
    rows = []
    for flag in flags:
        short = [s for s in flag.spellings if len(s) == 2]
        long = [s for s in flag.spellings if s.startswith("--")]
        name = ", ".join(short + long) + (f" {flag.value}" if flag.value else "")
        if flag.many == "list":
            name += "…"
        text = _with_choices(flag.help, flag.choices)
        rows.append((name, text + (f"; default: {flag.default}" if flag.default else "")))
    _table(show, rows, width)


def _with_choices(text: str, choices: Sequence[str]) -> str:
    return f"{text}: {', '.join(choices)}" if choices else text


def _table(show: Print, rows: Sequence[tuple[str, str]], width: int) -> None:
    column = max((len(name) for name, _ in rows if len(name) <= 26), default=0)
    for name, text in rows:
        lines = wrap(text, width - column - 4)
        first: list[Piece] = ["  ", Styled(name.ljust(column), "cyan")]
        if len(name) > column:
            show(*first)
            show(" " * (column + 4), lines[0])
        else:
            show(*first, "  ", lines[0])
        for line in lines[1:]:
            show(" " * (column + 4), line)
