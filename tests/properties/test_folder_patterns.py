"""The client's patterns of .dockerignore and envgraph's own say the same of every path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envgraph.spec.ignore import docker_rules
from envgraph_buildkit.folders import chosen

NAMES = ("a", "b", "a.c", "d")
PARTS = st.sampled_from([*NAMES, "*", "**", "?", "*.c", "[ab]", "a*", "..", "."])
PATTERNS = st.lists(
    st.builds(
        lambda back, parts, end: ("!" if back else "") + "/".join(parts) + end,
        st.booleans(),
        st.lists(PARTS, min_size=1, max_size=3),
        st.sampled_from(["", "/"]),
    ),
    max_size=4,
)
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


@given(PATTERNS, PATHS)
def test_both_say_the_same(patterns: list[str], path: str) -> None:
    kept = path in chosen([path], [], patterns)
    assert kept is not docker_rules(patterns).ignored(path, False)
