"""The parser of flags and operands: any order, every spelling, errors that help."""

from __future__ import annotations

import pytest

from envgraph.cli.options import Flag, Operand, Signature, Values, nearest, read_words
from envgraph.errors import UsageError


def positive(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("not a whole number")
    return int(text)


SIGNATURE = Signature(
    operands=(Operand("FILE", "files", "many"),),
    flags=(
        Flag("--out", "where", "FILE", ("-out", "-o")),
        Flag("--target", "which", "NAME", many="repeat"),
        Flag("--update", "what", "PKG", many="list"),
        Flag("--check", "only look", aliases=("-c",)),
        Flag("--count", "how many", "N", check=positive),
        Flag("--format", "form", "FORMAT", choices=("dot", "mermaid")),
        Flag("--verbose", "more", aliases=("-v",)),
    ),
)
ONE = Signature(operands=(Operand("REF", "which one"),), rest="CMD…")


def read(
    *words: str, signature: Signature = SIGNATURE, files: frozenset[str] = frozenset()
) -> Values:
    return read_words(words, signature, (), "envgraph test", files.__contains__)


def problem(*words: str, signature: Signature = SIGNATURE) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        read(*words, signature=signature)
    [diagnostic] = caught.value.diagnostics
    return diagnostic.summary, diagnostic.hint


@pytest.mark.parametrize(
    "words",
    [
        ("a", "--out", "x", "b"),
        ("--out=x", "a", "b"),
        ("a", "b", "-out", "x"),
        ("-out=x", "a", "b"),
        ("a", "-o", "x", "b"),
        ("a", "-ox", "b"),
        ("--out", "x", "--", "a", "b"),
    ],
    ids=" ".join,
)
def test_operands_and_flags_in_any_order(words: tuple[str, ...]) -> None:
    values = read(*words)
    assert values.words("FILE") == ("a", "b")
    assert values.text("--out") == "x"


def test_a_flag_that_repeats_keeps_all_values_in_order() -> None:
    assert read("--target", "b", "--target=a", "--target", "b").texts("--target") == ("b", "a", "b")


def test_a_flag_that_does_not_repeat_is_refused_twice_unless_it_says_the_same() -> None:
    assert read("--out", "x", "--out", "x").text("--out") == "x"
    assert problem("--out", "x", "-o", "y")[0] == "-o is given twice: 'x' and 'y'"


def test_a_list_ends_at_a_flag_and_at_a_file() -> None:
    values = read("--update", "numpy", "scipy", "env.yml", files=frozenset({"env.yml"}))
    assert values.texts("--update") == ("numpy", "scipy")
    assert values.words("FILE") == ("env.yml",)
    values = read("--update", "numpy", "--check", "scipy")
    assert values.texts("--update") == ("numpy",)
    assert values.words("FILE") == ("scipy",)


def test_short_switches_may_be_joined() -> None:
    values = read("-cv")
    assert values.on("--check")
    assert values.on("--verbose")


def test_a_lone_dash_is_an_operand_and_a_value() -> None:
    assert read("-").words("FILE") == ("-",)
    assert read("-o", "-").text("--out") == "-"


def test_what_follows_the_dashes_is_left_alone() -> None:
    values = read("train", "--", "python", "-v", "--", "x", signature=ONE)
    assert values.word("REF") == "train"
    assert values.rest == ("python", "-v", "--", "x")


@pytest.mark.parametrize(
    ("words", "summary", "hint"),
    [
        (("--chekc",), "unknown flag '--chekc'", "did you mean --check?"),
        (("--zzz",), "unknown flag '--zzz'", "`envgraph test --help` lists the flags"),
        (("--ou", "x"), "unknown flag '--ou'", "did you mean --out?"),
        (("-target", "x"), "unknown flag '-target'", "did you mean --target?"),
        (("-z",), "unknown flag '-z'", "`envgraph test --help` lists the flags"),
        (("--check=yes",), "--check takes no value", ""),
        (("--out",), "--out needs a value: --out FILE", ""),
        (("--out", "--check"), "--out needs a value: --out FILE", ""),
        (("--out=",), "--out needs a value: --out FILE", ""),
        (("--count", "many"), "--count 'many': not a whole number", ""),
        (("--format", "dott"), "--format takes dot or mermaid, not 'dott'", "did you mean dot?"),
    ],
)
def test_errors_say_what_is_wrong_and_what_to_do(
    words: tuple[str, ...], summary: str, hint: str
) -> None:
    assert problem(*words) == (summary, hint)


def test_a_missing_operand_and_one_too_many() -> None:
    assert problem(signature=ONE)[0] == "envgraph test needs REF: which one"
    assert problem("train", "python", "x.py", signature=ONE) == (
        "unexpected argument 'python'",
        "put the command after `--`: envgraph test REF -- python x.py",
    )


def test_nearest_gives_a_known_word_or_nothing() -> None:
    assert nearest("valdate", ["plan", "validate"]) == "validate"
    assert nearest("xyzzy", ["plan", "validate"]) == ""
