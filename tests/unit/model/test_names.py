"""Names, and the escapes that lead back to them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envgraph.model import names

NAMES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/:@"),
    min_size=1,
    max_size=255,
)
ODD = NAMES | st.text("xX_-.%aA0é", min_size=1, max_size=12)
COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@given(ODD)
def test_file_names_lead_back(name: str) -> None:
    escaped = names.escape_name(name)
    assert names.unescape_name(escaped) == name
    *folders, last = escaped.split("/")
    assert re.fullmatch(r"[A-Za-z0-9_.%-]+", last)
    for part in [*folders, last]:
        assert part not in ("", ".", "..")
        assert not part.startswith(".")
        assert len(part) <= 201
    assert all(part.endswith("%") for part in folders)


@given(ODD)
def test_repositories_lead_back(name: str) -> None:
    escaped = names.escape_repository(name)
    assert COMPONENT.fullmatch(escaped)
    assert names.unescape_repository(escaped) == name


@given(ODD)
def test_tags_lead_back(name: str) -> None:
    escaped = names.escape_tag(name)
    assert TAG.fullmatch(escaped)
    if len(escaped) < 124:
        assert names.unescape_tag(escaped) == name


@given(ODD, ODD)
def test_two_names_never_meet(one: str, two: str) -> None:
    for escape in (names.escape_name, names.escape_repository, names.escape_tag):
        assert (escape(one) == escape(two)) is (one == two)


def test_a_long_tag_is_shortened_and_says_so() -> None:
    tag = names.escape_tag("v" * 200)
    assert len(tag) == 124
    assert tag != names.escape_tag("v" * 201)
    with pytest.raises(ValueError, match="does not tell"):
        names.unescape_tag(tag)


@pytest.mark.parametrize("text", ["a b", "%zz", "%", "a%", "%41", "..", "é", ".a", "%C3", ""])
def test_what_was_never_escaped_is_refused(text: str) -> None:
    if text in ("", "..", "é"):
        with pytest.raises((ValueError, UnicodeError)):
            names.unescape_name(text or ".")
        return
    with pytest.raises(ValueError):
        names.unescape_name(text)


@pytest.mark.parametrize("text", ["A", "a__", "a__zz_", "x__61", "__61_b", "a__C3A9"])
def test_what_is_no_escaped_repository_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        names.unescape_repository(text)


@pytest.mark.parametrize(
    "name", ["a", "x" * 255, "my env", "é", "日本", "a.b_c-d", "🐍", "-a", ".a"]
)
def test_good_names(name: str) -> None:
    assert names.name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "x" * 256, "a/b", "a:b", "a@b", "a\n", "a\x00", "a\x7f", "\u202eb", " a", "a ", "\u2028",
     "\ud800", ".", ".."],
)  # fmt: skip
def test_bad_names(name: str) -> None:
    assert names.name_problem(name)


def test_versions_may_hold_colons() -> None:
    assert names.version_problem("18.04:2022") is None
    for version in ("", "a/b", "a@b", "x" * 256, "a\tb"):
        assert names.version_problem(version)


def test_reserved_prefixes_whatever_the_case() -> None:
    prefixes = ("AzureML-", "Microsoft")
    assert names.reserved_prefix("azureml-x", prefixes) == "AzureML-"
    assert names.reserved_prefix("MICROSOFTx", prefixes) == "Microsoft"
    assert names.reserved_prefix("my-AzureML-x", prefixes) is None
    assert names.reserved_prefix("AzureMLx", prefixes) is None
    assert names.reserved_prefix("x", ("",)) is None
