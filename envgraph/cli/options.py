"""Flags and operands as data, and the small parser that reads them.

Every verb says in a :class:`Signature` what it takes. The parser takes flags and
operands in any order, ``--flag VALUE`` and ``--flag=VALUE``, ``-oVALUE``, and
leaves alone what follows ``--``. It never guesses: an abbreviated flag is an
error that names the nearest one. (argparse was not taken: it reads ``a --flag b``
wrongly where operands repeat, its messages and help differ between versions of
Python, and importing it costs as much as a whole answer may.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from envgraph.errors import UsageError


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. ``value`` names what it takes, empty for a switch.

    ``many``: ``repeat`` collects one value for each time it is given; ``list``
    also takes the words that follow, up to the next flag or existing file.
    ``check`` raises ValueError with a short reason.
    """

    name: str
    help: str
    value: str = ""
    aliases: tuple[str, ...] = ()
    many: Literal["", "repeat", "list"] = ""
    choices: tuple[str, ...] = ()
    check: Callable[[str], object] | None = None
    default: str = ""
    hidden: bool = False

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every way to write it."""
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True)
class Operand:
    """A word that is not a flag; ``count`` says how many of them."""

    name: str
    help: str
    count: Literal["one", "optional", "many"] = "one"
    choices: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """``FILE``, ``[FILE]`` or ``[FILE…]``."""
        if self.count == "one":
            return self.name
        return f"[{self.name}]" if self.count == "optional" else f"[{self.name}…]"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a verb takes. ``rest`` names the words after ``--``, if it takes them."""

    operands: tuple[Operand, ...] = ()
    flags: tuple[Flag, ...] = ()
    rest: str = ""
    rest_help: str = ""
    notes: tuple[str, ...] = ()
    """Paragraphs below the flags in the verb's help."""

    examples: tuple[tuple[str, str], ...] = ()
    """(command line, what it does)."""


@dataclass(slots=True)
class Values:
    """What was given, by flag name and operand name."""

    flags: dict[str, list[str]] = field(default_factory=dict)
    operands: dict[str, list[str]] = field(default_factory=dict)
    rest: tuple[str, ...] = ()
    has_rest: bool = False

    def on(self, flag: str) -> bool:
        """The switch was given."""
        return flag in self.flags

    def text(self, flag: str) -> str | None:
        """The flag's value, the last one when it was given twice."""
        given = self.flags.get(flag)
        return given[-1] if given else None

    def texts(self, flag: str) -> tuple[str, ...]:
        """All values of a flag that repeats."""
        return tuple(self.flags.get(flag, ()))

    def words(self, operand: str) -> tuple[str, ...]:
        """All words of an operand."""
        return tuple(self.operands.get(operand, ()))

    def word(self, operand: str) -> str | None:
        """The one word of an operand, if it was given."""
        words = self.operands.get(operand)
        return words[0] if words else None


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or an empty string."""
    import difflib

    bare = {name.lstrip("-"): name for name in known}
    close = difflib.get_close_matches(word.lstrip("-"), list(bare), n=1, cutoff=0.6)
    return bare[close[0]] if close else ""


def unknown_flag(word: str, flags: Iterable[Flag], where: str) -> UsageError:
    """The error for a flag that nobody knows, with the nearest one as a hint."""
    name = word.partition("=")[0]
    spellings = [s for flag in flags if not flag.hidden for s in flag.spellings if s[:2] == "--"]
    guess = nearest(name, spellings)
    hint = f"did you mean {guess}?" if guess else f"`{where} --help` lists the flags"
    return UsageError(f"unknown flag {name!r}", code="unknown-flag", hint=hint)


class _Reader:
    """Reads words once, left to right, into Values."""

    def __init__(
        self, words: Sequence[str], signature: Signature, flags: Sequence[Flag], where: str
    ) -> None:
        self.words = list(words)
        self.signature = signature
        self.flags = flags
        self.by_spelling = {s: flag for flag in flags for s in flag.spellings}
        self.where = where
        self.loose: list[str] = []
        self.values = Values()

    def read(self, is_file: Callable[[str], bool]) -> Values:
        while self.words:
            word = self.words.pop(0)
            if word == "--":
                self._rest()
                break
            if word.startswith("-") and word != "-":
                self._flag(word, is_file)
            else:
                self.loose.append(word)
        self._operands()
        return self.values

    def _rest(self) -> None:
        if self.signature.rest:
            self.values.rest = tuple(self.words)
            self.values.has_rest = True
        else:
            self.loose.extend(self.words)
        self.words = []

    def _flag(self, word: str, is_file: Callable[[str], bool]) -> None:
        name, equals, value = word.partition("=")
        flag = self.by_spelling.get(name)
        if flag is None and len(word) > 2 and word[1] != "-":
            flag = self.by_spelling.get(word[:2])
            if flag is not None and flag.value:
                name, equals, value = word[:2], "=", word[2:]
            elif flag is not None and all("-" + c in self.by_spelling for c in word[1:]):
                self.words[:0] = ["-" + letter for letter in word[1:]]
                return
            else:
                flag = None
        if flag is None:
            raise unknown_flag(word, self.flags, self.where)
        given = self.values.flags.setdefault(flag.name, [])
        if not flag.value:
            if equals:
                raise UsageError(f"{name} takes no value")
            return
        if not equals:
            if not self.words or (self.words[0].startswith("-") and self.words[0] != "-"):
                raise UsageError(f"{name} needs a value: {name} {flag.value}")
            value = self.words.pop(0)
        self._take(flag, name, value, given)
        while flag.many == "list" and self.words and not equals:
            if self.words[0].startswith("-") or is_file(self.words[0]):
                break
            self._take(flag, name, self.words.pop(0), given)

    def _take(self, flag: Flag, name: str, value: str, given: list[str]) -> None:
        if not value:
            raise UsageError(f"{name} needs a value: {name} {flag.value}")
        if flag.choices and value not in flag.choices:
            guess = nearest(value, flag.choices)
            raise UsageError(
                f"{name} takes {_either(flag.choices)}, not {value!r}",
                hint=f"did you mean {guess}?" if guess else "",
            )
        if flag.check is not None:
            try:
                flag.check(value)
            except ValueError as error:
                raise UsageError(f"{name} {value!r}: {error}") from None
        if given and not flag.many and given[-1] != value:
            raise UsageError(f"{name} is given twice: {given[-1]!r} and {value!r}")
        given.append(value)

    def _operands(self) -> None:
        words = list(self.loose)
        for operand in self.signature.operands:
            if operand.count == "many":
                self.values.operands[operand.name] = words
                words = []
                continue
            if not words:
                if operand.count == "one":
                    raise UsageError(
                        f"{self.where} needs {operand.name}: {operand.help}",
                        hint=f"`{self.where} --help` shows how",
                    )
                continue
            word = words.pop(0)
            if operand.choices and word not in operand.choices:
                guess = nearest(word, operand.choices)
                raise UsageError(
                    f"{self.where} takes {_either(operand.choices)}, not {word!r}",
                    hint=f"did you mean {guess}?" if guess else "",
                )
            self.values.operands[operand.name] = [word]
        if words:
            hint = f"`{self.where} --help` shows what it takes"
            if self.signature.rest:
                hint = f"put the command after `--`: {self.where} REF -- {' '.join(words)}"
            raise UsageError(f"unexpected argument {words[0]!r}", hint=hint)


def _either(choices: Sequence[str]) -> str:
    return ", ".join(choices[:-1]) + " or " + choices[-1]


def read_words(
    words: Sequence[str],
    signature: Signature,
    common: Sequence[Flag],
    where: str,
    is_file: Callable[[str], bool],
) -> Values:
    """Read a verb's words; UsageError for anything that its signature does not take."""
    return _Reader(words, signature, (*signature.flags, *common), where).read(is_file)
