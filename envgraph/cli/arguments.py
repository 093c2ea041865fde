"""From ``sys.argv`` to values: the common flags, the verb, and what the verb takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from envgraph.cli import verbs
from envgraph.cli.options import Flag, Signature, Values, nearest, read_words, unknown_flag
from envgraph.errors import UsageError

STORE_VARIABLE: Final = "ENVGRAPH_STORE"
DEFAULT_LOCK_TIMEOUT: Final = 60.0


def seconds(text: str) -> float:
    """A number of seconds, zero or more."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number of seconds") from None
    if not 0 <= value < 10**9:
        raise ValueError("not a number of seconds from 0 to a billion")
    return value


COMMON: Final[tuple[Flag, ...]] = (
    Flag("-C", "the workspace folder; default: this one", value="DIR"),
    Flag("--store", f"the store; default: ${STORE_VARIABLE} or your data folder", value="DIR"),
    Flag("--json", "answer in JSON on stdout, errors in JSON on stderr"),
    Flag("--quiet", "no progress and no notes", aliases=("-q",)),
    Flag("--verbose", "more detail; a traceback where envgraph has a bug", aliases=("-v",)),
    Flag("--no-color", "no colours (NO_COLOR does the same)"),
    Flag("--offline", "open no connection, not even to this machine"),
    Flag(
        "--lock-timeout",
        "how long to wait for another envgraph; default 60",
        value="SECONDS",
        check=seconds,
    ),
    Flag("--help", "this text", aliases=("-h",)),
    Flag("--version", "the version of envgraph", aliases=("-V",)),
)


@dataclass(frozen=True, slots=True)
class Common:
    """The flags that every verb takes. ``store`` is None for the default store."""

    folder: Path = Path()
    store: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    offline: bool = False
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command line. ``verb`` is empty for ``--help`` and ``--version`` alone."""

    verb: str
    words: tuple[str, ...]
    """Everything but the verb, common flags from before it included."""


def split_verb(argv: Sequence[str]) -> Invocation:
    """Find the verb: the first word that is neither a common flag nor its value.

    UsageError for a verb or flag that does not exist, with the nearest one.
    """
    by_spelling = {s: flag for flag in COMMON for s in flag.spellings}
    position = 0
    while position < len(argv):
        word = argv[position]
        if word == "--" or not word.startswith("-") or word == "-":
            break
        name, equals, _ = word.partition("=")
        flag = by_spelling.get(name) or by_spelling.get(word[:2] if word[1] != "-" else name)
        if flag is None:
            raise _misplaced_flag(name, argv[position + 1 :])
        position += 2 if flag.value and not equals and word in flag.spellings else 1
    if position >= len(argv):
        return Invocation("", tuple(argv))
    verb = argv[position]
    words = (*argv[:position], *argv[position + 1 :])
    if verb == "help":
        return _help_of(words)
    if verb not in verbs.VERBS:
        raise unknown_verb(verb)
    return Invocation(verb, words)


def _help_of(words: tuple[str, ...]) -> Invocation:
    for word in words:
        if word in verbs.VERBS:
            return Invocation(word, (*(w for w in words if w != word), "--help"))
        if not word.startswith("-"):
            raise unknown_verb(word)
    return Invocation("", (*words, "--help"))


def _misplaced_flag(name: str, following: Sequence[str]) -> UsageError:
    verb = next((word for word in following if word in verbs.VERBS), "")
    error = unknown_flag(name, COMMON, "envgraph")
    if verb and "did you mean" not in error.diagnostics[0].hint:
        return UsageError(
            f"{name!r} is not a flag of every verb",
            code="unknown-flag",
            hint=f"put it after the verb: envgraph {verb} {name}",
        )
    return error


def unknown_verb(verb: str) -> UsageError:
    """The error for a verb that does not exist, or does not exist yet."""
    if verb in verbs.LATER:
        return UsageError(
            f"this version of envgraph does not have `{verb}` yet",
            code="verb-not-here",
            hint="`envgraph --help` lists what it has",
        )
    guess = nearest(verb, [*verbs.VERBS, *verbs.LATER])
    hint = f"did you mean `{guess}`?" if guess else "`envgraph --help` lists the verbs"
    if not guess and verb.endswith((".yml", ".yaml")):
        hint = f"a verb comes first: envgraph plan {verb}"
    return UsageError(f"unknown verb {verb!r}", code="unknown-verb", hint=hint)


def read_values(invocation: Invocation, signature: Signature) -> Values:
    """The verb's flags and operands, and the common flags among them."""
    where = f"envgraph {invocation.verb}".strip()
    return read_words(invocation.words, signature, COMMON, where, _is_file)


def _is_file(word: str) -> bool:
    return "/" in word or os.path.isfile(word)  # noqa: PTH113  pathlib costs more than this


def common_of(values: Values, environment: dict[str, str]) -> Common:
    """The common flags as one value; UsageError where two of them exclude each other."""
    if values.on("--quiet") and values.on("--verbose"):
        raise UsageError("--quiet and -v exclude each other")
    try:
        os.getcwd()  # noqa: PTH109  what is asked is whether there is one
    except OSError:
        raise UsageError("the folder that this was started in is gone", code="no-folder") from None
    folder = Path(values.text("-C") or ".")
    if not folder.is_dir():
        raise UsageError(f"-C {folder}: no such folder", code="no-folder")
    store = values.text("--store") or environment.get(STORE_VARIABLE)
    timeout = values.text("--lock-timeout")
    return Common(
        folder=folder,
        store=Path(store) if store else None,
        json=values.on("--json"),
        quiet=values.on("--quiet"),
        verbose=values.on("--verbose"),
        no_color=values.on("--no-color"),
        offline=values.on("--offline"),
        lock_timeout=DEFAULT_LOCK_TIMEOUT if timeout is None else seconds(timeout),
    )


def asked_before_parsing(argv: Sequence[str], *flags: str) -> bool:
    """One of the flags stands before ``--``: for errors of the command line itself."""
    for word in argv:
        if word == "--":
            return False
        if word in flags:
            return True
    return False
