"""Placeholders: conda's rules, and a stream that never sees the whole file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envgraph.image import placeholder
from envgraph.image.archive_errors import ArchiveError, Reason
from envgraph.image.placeholder import BinaryReplacer, replace_binary, replace_text

OLD = b"/opt/" + b"p" * 250
NEW = b"/opt/env"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OLD, NEW),
        (b"a" + OLD + OLD + b"b", b"a" + NEW + NEW + b"b"),
        (b"#!" + OLD + b"/bin/python -u\nx " + OLD, b"#!/opt/env/bin/python -u\nx /opt/env"),
        (b"#!/bin/sh\n" + OLD, b"#!/bin/sh\n/opt/env"),
        (b"#!" + OLD, b"#!/opt/env"),
        (b"", b""),
    ],
)
def test_text(data: bytes, expected: bytes) -> None:
    assert replace_text(data, OLD, NEW) == expected


def test_a_shebang_that_linux_cannot_run_goes_through_env_or_sh() -> None:
    long = b"/opt/" + b"x" * 150
    body = b"\nexec " + OLD
    assert replace_text(b"#!" + OLD + b"/bin/perl -w" + body, OLD, long) == (
        b"#!/usr/bin/env perl -w\nexec " + long
    )
    by_shell = b"#!/bin/sh\n'''exec' \"%s/bin/python3.12\" -E \"$0\" \"$@\" #'''\nexec %s"
    script = b"#!" + OLD + b"/bin/python3.12 -E" + body
    assert replace_text(script, OLD, long) == by_shell % (long, long)
    fits = b"/opt/" + b"x" * 107
    assert replace_text(b"#!" + OLD + b"/bin/python" + body, OLD, fits).startswith(b"#!" + fits)
    spaced = b"/opt/my env"
    assert replace_text(script, OLD, spaced) == by_shell % (spaced, spaced)
    assert replace_text(b"#!/bin/sh" + body, OLD, spaced) == b"#!/bin/sh\nexec " + spaced


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OLD + b"/x\0y", NEW + b"/x" + bytes(247) + b"\0y"),
        (b"\0" + OLD + b":" + OLD + b"\0z", b"\0" + NEW + b":" + NEW + bytes(494) + b"\0z"),
        (OLD, NEW + bytes(247)),
        (b"no placeholder\0", b"no placeholder\0"),
        (OLD[:-1] + b"\0" + OLD, OLD[:-1] + b"\0" + NEW + bytes(247)),
    ],
)
def test_binary(data: bytes, expected: bytes) -> None:
    assert replace_binary(data, OLD, NEW) == expected


def model(data: bytes, old: bytes, new: bytes) -> bytes:
    """The rule of rattler's ``copy_and_replace_cstring_placeholder``, word for word."""
    out = b""
    while (start := data.find(old)) >= 0:
        end = data.find(b"\0", start + len(old))
        end = len(data) if end < 0 else end
        string = data[start:end]
        out += data[:start] + string.replace(old, new).ljust(len(string), b"\0")
        data = data[end:]
    return out + data


@given(
    st.lists(st.sampled_from([b"/old", b"/ol", b"d", b"\0", b"x", b"/"]), max_size=40).map(
        b"".join
    ),
    st.lists(st.integers(1, 9), max_size=60),
)
def test_any_cut_of_the_stream_gives_the_same(data: bytes, cuts: list[int]) -> None:
    replacer = BinaryReplacer(b"/old", b"/n", "x")
    out, position = b"", 0
    for cut in cuts:
        out += replacer.feed(data[position : position + cut])
        position += cut
    out += replacer.feed(data[position:]) + replacer.finish()
    assert out == model(data, b"/old", b"/n")
    assert len(out) == len(data)


def test_a_c_string_without_an_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placeholder, "MAX_C_STRING", 10_000)
    replacer = BinaryReplacer(OLD, NEW, "lib/x")
    assert replacer.feed(OLD + b"x" * 9_000) == b""
    with pytest.raises(ArchiveError) as caught:
        replacer.feed(b"x" * 1000)
    assert caught.value.reason is Reason.LIMIT
    assert "lib/x" in str(caught.value)
