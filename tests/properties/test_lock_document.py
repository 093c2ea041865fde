"""What is written to a lockfile is what conda-lock's own models write, key for key."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envgraph.lock.condalock import check_document, written_again
from envgraph.lock.lockdocument import build_document
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
some = words.filter(bool)
digests = st.binary(max_size=4).map(Digest.of)
depends = st.lists(st.sampled_from(["a", "a >=1", "a *", "a <2 h1_*", " b  >=1", "b"]) | words)
packages = st.builds(
    LockedPackage,
    manager=st.sampled_from(["conda", "pip"]),
    name=some,
    version=words,
    build=words,
    subdir=words,
    sha256=digests,
    channel=words,
    url=some,
    md5=st.text("0123456789abcdef", min_size=32, max_size=32),
    depends=depends.map(tuple),
)
locks = st.builds(
    LockedEnvironment,
    definition=digests,
    pin_key=digests,
    platform=some,
    base=st.just(LockedBase("scratch")),
    packages=st.lists(packages, max_size=3).map(tuple),
    created=st.sampled_from(["", "2026-11-23T04:25:00Z"]),
)


@given(
    st.lists(locks, min_size=1, max_size=3),
    st.lists(words, max_size=3),
    st.lists(words, max_size=2),
    st.dictionaries(words, words, max_size=3),
)
def test_conda_locks_models_write_the_same(
    some_locks: list[LockedEnvironment],
    channels: list[str],
    sources: list[str],
    custom: dict[str, str],
) -> None:
    document = build_document(some_locks, channels, sources, custom)
    assert check_document(document) == []
    # as text: the order of the keys is what is written
    assert json.dumps(written_again(document)) == json.dumps(document)


@given(packages, st.sampled_from(["", "2026-11-23T04:25:00Z"]))
def test_the_models_would_see_another_document(package: LockedPackage, created: str) -> None:
    """The test above can fail: a key that is missing, spare, misplaced or of another type."""
    lock = LockedEnvironment(
        Digest.of(b"d"), Digest.of(b"p"), "linux-64", LockedBase("scratch"), (package,), (), created
    )
    document = build_document([lock], ["c"], [], {})
    (entry,) = document["package"]
    wrong = [
        {name: value for name, value in entry.items() if name != "optional"},
        {**entry, "spare": "x"},
        {**entry, "version": 1},
        {"url": entry["url"], **entry},
    ]
    for item in wrong:
        changed = {**document, "package": [item]}
        assert check_document(changed) or json.dumps(written_again(changed)) != json.dumps(changed)


def test_a_package_without_an_address_cannot_be_written() -> None:
    package = LockedPackage("pip", "a", "1", "", "", Digest.of(b"a"), "", url="https://x/a.whl")
    lock = LockedEnvironment(
        Digest.of(b"d"), Digest.of(b"p"), "linux-64", LockedBase("scratch"), (package,)
    )
    document = build_document([lock], [], [], {})
    document["package"][0]["url"] = ""
    assert check_document(document)
    with pytest.raises(ValueError, match="no address"):
        build_document([replace(lock, packages=(replace(package, url=""),))], [], [], {})
