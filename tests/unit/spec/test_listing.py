"""A tree read from a listing is the tree that a folder on disk would be."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envgraph.errors import InputError, IntegrityError
from envgraph.spec.ignore import docker_rules, fetched_rules
from envgraph.spec.listing import check_path, chosen_entries, read_tree_text, tree_text
from envgraph.spec.tree import TreeEntry, context_tree, read_tree, tree_digest
from envgraph_store.digest import Digest

NAMES = st.sampled_from(["a", "b", "Dockerfile", ".git", "n.log", "ü", "x y", "0:1"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
RULES = st.lists(
    st.sampled_from(["a", "*.log", "!a/b", "b/**", "**/n.log", "*", "!Dockerfile", "a/*"]),
    max_size=4,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(PATHS, st.sampled_from(["f", "x", "l", "d"]), max_size=8), RULES)
def test_a_listing_is_chosen_as_a_folder_is_read(kinds: dict[str, str], rules: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path, kind in kinds.items():
            place = root / path
            if any(p.is_symlink() or p.is_file() for p in place.parents) or place.exists():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "d":
                place.mkdir()
            elif kind == "l":
                place.symlink_to("target")
            else:
                place.write_text(path)
                place.chmod(0o755 if kind == "x" else 0o644)
        (root / ".dockerignore").unlink(missing_ok=True)
        (root / ".dockerignore").write_text("\n".join(rules))
        whole = read_tree(root)
        entries = {entry.path: entry for entry in whole.entries}

        def read(path: str) -> bytes | None:
            place = root / path
            return place.read_bytes() if place.is_file() else None

        expected = context_tree(root)
        chosen = chosen_entries(
            entries, fetched_rules(read, "Dockerfile", "it:"), {"Dockerfile"}, "it"
        )
        assert tree_digest(chosen) == expected.digest
        text = tree_text(chosen)
        assert Digest.of(text) == expected.digest
        back = read_tree_text(text)
        assert {replace(e, size=0) for e in chosen} == set(back)


def test_names_that_are_no_text_survive() -> None:
    odd = os.fsdecode(b"\xff\n 12:x sha256:" + b"a" * 64)
    entries = [
        TreeEntry("file", odd, True, Digest.of(b"x")),
        TreeEntry("link", "l", target=odd),
        TreeEntry("folder", "d" * 200),
    ]
    assert set(read_tree_text(tree_text(entries))) == set(entries)


@pytest.mark.parametrize(
    "data",
    [b"", b"envgraph.tree/2\n", b"envgraph.tree/1\nf 5:a", b"envgraph.tree/1\nq 1:a\n",
     b"envgraph.tree/1\nf 1:a sha256:zz\n", b"envgraph.tree/1\nl 1:a 9:b\n",
     b"envgraph.tree/1\nd 1:a", b"envgraph.tree/1\nf 99999999:a\n"],
)  # fmt: skip
def test_a_damaged_listing_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        read_tree_text(data)


@pytest.mark.parametrize("path", ["", ".", "/", "/x", "..", "a/../b", "a\0b", "n" * 256])
def test_a_path_that_leaves_is_refused(path: str) -> None:
    with pytest.raises(InputError):
        check_path(path, "it")


def test_nothing_lies_below_a_link() -> None:
    entries = {
        "way": TreeEntry("link", "way", target="deep"),
        "way/x": TreeEntry("file", "way/x", digest=Digest.of(b"")),
    }
    with pytest.raises(InputError, match="no folder"):
        chosen_entries(entries, [docker_rules(["way"])], (), "it")
