"""The common flags, before and after the verb, and the verbs themselves."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from envgraph.cli import verbs
from envgraph.cli.arguments import (
    COMMON,
    Common,
    asked_before_parsing,
    common_of,
    read_values,
    split_verb,
)
from envgraph.cli.options import Signature, Values
from envgraph.errors import UsageError


def common(argv: list[str], environment: dict[str, str] | None = None) -> Common:
    invocation = split_verb(argv)
    module = importlib.import_module(verbs.module_of(invocation.verb))
    signature: Signature = module.SIGNATURE
    return common_of(read_values(invocation, signature), environment or {})


FLAGS = [
    (["-C", "DIR"], {"folder": "DIR"}),
    (["-CDIR"], {"folder": "DIR"}),
    (["-C=DIR"], {"folder": "DIR"}),
    (["--store", "s"], {"store": Path("s")}),
    (["--store=s"], {"store": Path("s")}),
    (["--json"], {"json": True}),
    (["--quiet"], {"quiet": True}),
    (["-q"], {"quiet": True}),
    (["-v"], {"verbose": True}),
    (["--verbose"], {"verbose": True}),
    (["--no-color"], {"no_color": True}),
    (["--offline"], {"offline": True}),
    (["--lock-timeout", "2.5"], {"lock_timeout": 2.5}),
    (["--lock-timeout=0"], {"lock_timeout": 0.0}),
]


@pytest.mark.parametrize(("words", "expected"), FLAGS, ids=[" ".join(w) for w, _ in FLAGS])
@pytest.mark.parametrize("place", ["before", "after", "last"])
def test_every_common_flag_in_both_places(
    words: list[str], expected: dict[str, object], place: str, tmp_path: Path
) -> None:
    words = [word.replace("DIR", str(tmp_path)) for word in words]
    expected = {k: tmp_path if v == "DIR" else v for k, v in expected.items()}
    argv = {
        "before": [*words, "plan", "a.yml"],
        "after": ["plan", *words, "a.yml"],
        "last": ["plan", "a.yml", *words],
    }[place]
    found = common(argv)
    for name, value in expected.items():
        assert getattr(found, name) == value
    assert split_verb(argv).verb == "plan"


def test_every_common_flag_is_tried_above() -> None:
    tried = {word[0].partition("=")[0][: 2 if word[0][1] != "-" else None] for word, _ in FLAGS}
    known = {s for flag in COMMON for s in flag.spellings}
    assert known - tried == {"--help", "-h", "--version", "-V"}


@pytest.mark.parametrize("verb", sorted(verbs.VERBS))
def test_every_verb_has_its_module_and_takes_the_common_flags(verb: str) -> None:
    module = importlib.import_module(verbs.module_of(verb))
    own = {spelling for flag in module.SIGNATURE.flags for spelling in flag.spellings}
    assert not own & {spelling for flag in COMMON for spelling in flag.spellings}
    assert callable(module.run)
    assert callable(module.read)
    assert module.Arguments.__dataclass_params__.frozen


def test_a_verb_is_found_behind_flags_with_values() -> None:
    invocation = split_verb(["-C", "plan", "--store", "apply", "list", "--all"])
    assert invocation.verb == "list"
    assert invocation.words == ("-C", "plan", "--store", "apply", "--all")


def test_help_is_a_verb_too() -> None:
    assert split_verb(["help"]).words == ("--help",)
    assert split_verb(["help", "plan"]) == split_verb(["plan", "--help"])


@pytest.mark.parametrize("verb", sorted(verbs.LATER))
def test_a_verb_of_the_contract_that_is_not_here_says_so(verb: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_verb([verb])
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.code == "verb-not-here"
    assert f"does not have `{verb}` yet" in diagnostic.summary
    assert verb not in verbs.VERBS


@pytest.mark.parametrize(
    ("argv", "code", "hint"),
    [
        (["plam"], "unknown-verb", "did you mean `plan`?"),
        (["env.yml"], "unknown-verb", "a verb comes first: envgraph plan env.yml"),
        (["qqqqqq"], "unknown-verb", "`envgraph --help` lists the verbs"),
        (["--jsn", "plan"], "unknown-flag", "did you mean --json?"),
        (["--check", "lock"], "unknown-flag", "put it after the verb: envgraph lock --check"),
    ],
)
def test_unknown_words_come_with_the_nearest_known_one(
    argv: list[str], code: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        split_verb(argv)
    [diagnostic] = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.hint) == (code, hint)


def test_quiet_and_verbose_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        common(["-q", "plan", "-v"])


def test_a_workspace_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        common(["-C", str(tmp_path / "nowhere"), "plan"])


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf"])
def test_a_lock_timeout_is_a_number_of_seconds(value: str) -> None:
    with pytest.raises(UsageError, match="number of seconds"):
        common(["plan", f"--lock-timeout={value}"])


def test_the_store_comes_from_the_flag_and_then_from_the_environment() -> None:
    environment = {"ENVGRAPH_STORE": "/from/environment"}
    assert common(["plan"], environment).store == Path("/from/environment")
    assert common(["plan", "--store", "x"], environment).store == Path("x")
    assert common(["plan"], {"ENVGRAPH_STORE": ""}).store is None


def test_json_is_seen_before_parsing_but_not_in_the_command_of_run() -> None:
    assert asked_before_parsing(["plan", "--json", "--nonsense"], "--json")
    assert not asked_before_parsing(["run", "train", "--", "x", "--json"], "--json")


def test_values_of_nothing() -> None:
    values = Values()
    assert values.text("--out") is None
    assert values.word("REF") is None
    assert values.words("FILE") == ()
