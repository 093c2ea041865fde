"""Patterns of .dockerignore: the quick regular expression says what the plain one says."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envgraph.spec.globs import docker_regex

PATTERNS = st.lists(
    st.sampled_from(("*", "**", "**/", "/", "a", "b", "a*b", "?", "[ab]", "[!a]")), max_size=8
).map("".join)
PATHS = st.lists(st.sampled_from(("/", "a", "b", "ab", "ba")), max_size=10).map("".join)


def plain(pattern: str) -> str:
    """Moby's translation as it stands there: every wildcard may be tried everywhere."""
    out, i = "", 0
    while i < len(pattern):
        stars = re.match(r"\*\*+(/?)", pattern[i:])
        brackets = re.match(r"\[(!?)([^\]]*)\]", pattern[i:])
        if stars:
            out, i = out + ("(?:.*/)?" if stars[1] else ".*"), i + len(stars[0])
        elif brackets:
            negation = "^" if brackets[1] else ""
            out, i = out + f"(?!/)[{negation}{brackets[2]}]", i + len(brackets[0])
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(pattern[i], re.escape(pattern[i]))
            i += 1
    return out


@settings(max_examples=500)
@given(PATTERNS, PATHS)
def test_it_means_what_moby_means(pattern: str, path: str) -> None:
    quick = re.compile(docker_regex(pattern), re.DOTALL)
    slow = re.compile(plain(pattern), re.DOTALL)
    assert bool(quick.fullmatch(path)) == bool(slow.fullmatch(path))


@pytest.mark.parametrize("pattern", ["*a" * 40 + "b", "**/a/" * 20 + "b", "**a" * 20 + "b"])
def test_no_pattern_takes_long_to_say_no(pattern: str) -> None:
    """Each of these would take longer than the test run, tried at every place."""
    assert not re.fullmatch(docker_regex(pattern), "a" * 250)
    assert not re.fullmatch(docker_regex(pattern), "a/" * 120 + "a")
