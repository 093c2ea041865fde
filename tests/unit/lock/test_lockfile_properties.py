"""Whatever text a channel puts into its records, a lockfile gives it back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from envgraph.lock.lockfile import read_lockfile, write_lockfile
from envgraph.lock.yamlread import load_yaml
from envgraph.model.locked import LockedBase, LockedEnvironment, LockedPackage
from envgraph_store.digest import Digest

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
# NFC makes identities equal for equal text; a version is ASCII in every channel.
WORD = st.text("abcxyz0123456789._-+~!:#'\"%{}[]&*?|>@` ", min_size=1, max_size=12)
PACKAGES = st.builds(
    LockedPackage,
    manager=st.just("conda"),
    name=st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,10}", fullmatch=True),
    version=WORD,
    build=WORD,
    subdir=st.sampled_from(["linux-64", "noarch"]),
    sha256=st.binary(max_size=4).map(Digest.of),
    channel=WORD,
    file_name=WORD,
    url=WORD.map(lambda text: "https://host/" + text),
    size=st.integers(1, 2**50),
    md5=st.just("0" * 32),
    build_number=st.integers(0, 10**6),
    noarch=st.sampled_from(["", "python", "generic"]),
    depends=st.lists(WORD, max_size=3).map(tuple),
    constrains=st.lists(TEXT, max_size=3).map(tuple),
    timestamp_ms=st.integers(0, 2**45),
    license=TEXT,
    direct=st.booleans(),
    reproducible=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PACKAGES, max_size=4, unique_by=lambda p: p.name), TEXT)
def test_round_trip(packages: list[LockedPackage], step: str) -> None:
    lock = LockedEnvironment(
        definition=Digest.of(b"d"),
        pin_key=Digest.of(b"p"),
        platform="linux-64",
        base=LockedBase("scratch"),
        packages=tuple(sorted(packages, key=lambda p: p.name)),
        steps=(step,),
        created="2026-11-23T04:25:00Z",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lock.yml"
        write_lockfile(path, [lock])
        content = read_lockfile(path)
    assert content.locks["linux-64"] == lock
    assert not content.edited


# PyYAML itself does not give U+0085 and its like back.
PLAIN = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(PLAIN, VALUES, max_size=4))
def test_the_event_reader_agrees_with_yaml(document: dict[str, object]) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    assert load_yaml(text, "x") == yaml.safe_load(text) == document


@pytest.mark.parametrize("text", ["-.0", "1.0e5", "+.5", "-.nan", ".Inf", "1e5", "-.INF", "1_0.0"])
def test_what_yaml_writes_plainly_is_read_as_it_was(text: str) -> None:
    """Readers of YAML disagree about these; a build string may be one."""
    written = yaml.safe_dump({"key": text})
    assert load_yaml(written, "file") == {"key": text}
