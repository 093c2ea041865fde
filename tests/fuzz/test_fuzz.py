"""What broke a parser once, and seeds that somebody cut, doubled and changed a little."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, run

BROKE = [
    ("headers", b"\x1d1"),
    ("headers", "²".encode("latin-1")),
    ("headers", b"Mon, 1 Jan 0001 00:00:00 +2359"),
    ("conda", b"PK\x06\x07" + b"\xff" * 16 + b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2)),
    ("explicit", b"@EXPLICIT\nhttps://[x/conda-forge/linux-64/a-1-0.conda#sha256:" + b"0" * 64),
    ("conda-lock", TARGETS["conda-lock"].seeds[0].replace(b"  manager: conda\n", b"")),
    ("requirements", b"a==1\n-c a\0b\n"),
    ("dockerfile", b"FROM a\n\\ \n"),
    ("ignores", b"[[a]\n[a--z]\n[a&&b]\n[^"),
]
"""Inputs that fuzzing or a reader found."""

_SLOW = ("conda-lock", "pixi", "pylock", "environment", "requirements", "lockfile")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name: str) -> None:
    """A seed that is refused would start the fuzzer outside the format."""
    for seed in TARGETS[name].seeds:
        assert TARGETS[name].run(seed) != 0, seed


@pytest.mark.parametrize(("name", "data"), BROKE)
def test_what_broke_once_is_read_or_refused(name: str, data: bytes) -> None:
    run(name, data)


@st.composite
def changed(draw: st.DrawFn, name: str) -> bytes:
    """A seed with up to four changes: cut, doubled, overwritten, a word put in."""
    target = TARGETS[name]
    data = bytearray(draw(st.sampled_from(target.seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.sampled_from((1, 4, 32, 512))))
        how = draw(st.sampled_from(("cut", "double", "overwrite", "word", "end")))
        if how == "cut":
            del data[at:to]
        elif how == "double":
            data[at:at] = data[at:to]
        elif how == "overwrite":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=2))
        elif how == "word":
            data[at:at] = draw(st.sampled_from((*target.words, b"\0", b"\xff\xff\xff\xff")))
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_seeds_are_read_or_refused(name: str) -> None:
    @settings(
        max_examples=25 if name in _SLOW else 150,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changed(name))
    def check(data: bytes) -> None:
        run(name, data)

    check()
