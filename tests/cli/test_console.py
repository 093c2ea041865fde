"""What reaches a terminal: harmless text, colour only where it is wanted, readers that leave."""

from __future__ import annotations

import io
import os
import pty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from envgraph.cli.views.console import Console, Styled, harmless, pad, width_of, wrap
from envgraph.cli.views.text import duration, listed, many, moment, size, table
from envgraph.errors import EnvgraphError


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def console(out: TextIO, *, no_color: bool = False, **environment: str) -> Console:
    return Console(out, io.StringIO(), {"TERM": "xterm", **environment}, no_color=no_color)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain → text", "plain → text"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("a\nb\r", "a\\x0ab\\x0d"),
        ("a\tb", "a    b"),
        ("evil\u202etxt.exe", "evil\\u202etxt.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\x9b31m", "\\x9b31m"),
        ("bad \udcff byte", "bad \\udcff byte"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_nothing_that_a_terminal_would_act_on_gets_through(text: str, shown: str) -> None:
    assert harmless(text) == shown
    out = Terminal()
    console(out).out("x ", text, Styled(text, "red"))
    assert out.getvalue() == f"x {shown}\x1b[31m{shown}\x1b[0m\n"


@pytest.mark.parametrize(
    ("kind", "environment", "no_color", "coloured"),
    [
        (Terminal, {}, False, True),
        (io.StringIO, {}, False, False),
        (Terminal, {"NO_COLOR": "1"}, False, False),
        (Terminal, {"NO_COLOR": ""}, False, True),
        (Terminal, {}, True, False),
        (Terminal, {"TERM": "dumb"}, False, False),
        (Terminal, {"TERM": ""}, False, False),
    ],
)
def test_colour_only_on_a_terminal_that_wants_it(
    kind: type[io.StringIO], environment: dict[str, str], no_color: bool, coloured: bool
) -> None:
    out = kind()
    console(out, no_color=no_color, **environment).out(Styled("word", "green"))
    assert ("\x1b[" in out.getvalue()) is coloured
    assert "word" in out.getvalue()


def test_quiet_leaves_out_notes_and_nothing_else() -> None:
    out, err = io.StringIO(), io.StringIO()
    quiet = Console(out, err, {}, quiet=True)
    quiet.out("answer")
    quiet.note("note")
    quiet.err("problem")
    assert out.getvalue() == "answer\n"
    assert err.getvalue() == "problem\n"


def test_symbols_are_ascii_where_the_stream_is() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ascii_console = console(stream)
    ascii_console.out("1 ", ascii_console.symbols.arrow, " 2, naïve")
    ascii_console.flush()
    assert raw.getvalue() == b"1 -> 2, na\\xefve\n"


@pytest.mark.parametrize(
    ("columns", "width"), [("", 80), ("20", 40), ("72", 72), ("500", 100), ("junk", 80)]
)
def test_width(columns: str, width: int) -> None:
    assert console(io.StringIO(), COLUMNS=columns).width == width


@pytest.fixture
def broken_pipe() -> Iterator[TextIO]:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    yield stream
    with suppress(BrokenPipeError):
        stream.close()


def test_a_reader_that_goes_away_ends_the_output_and_not_the_work(broken_pipe: TextIO) -> None:
    gone = console(broken_pipe)
    for _ in range(3):
        gone.out("x" * 100_000)
        gone.flush()


def test_an_answer_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        writing = console(full)
        writing.out("answer")
        with pytest.raises(EnvgraphError, match="could not be written"):
            writing.flush()
        writing.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_a_real_terminal_is_one() -> None:
    primary, secondary = pty.openpty()
    with os.fdopen(primary, "rb", buffering=0), os.fdopen(secondary, "w") as stream:
        real = console(stream)
        assert real.is_terminal("out")
        assert not real.is_terminal("err")
        assert real.stream("out") is stream


def test_wide_and_combining_characters_are_counted_as_shown() -> None:
    assert width_of("環境") == 4
    assert width_of("e\u0301") == 1
    assert pad("環境", 6) == "環境  "
    assert table([["環境", "1"], ["abc", "22"]], right=(1,)) == [["環境   1"], ["abc   22"]]


def test_wrap_keeps_paragraphs_indents_and_long_words() -> None:
    assert wrap("one two three\n  four five", 9) == ["one two", "three", "  four", "  five"]
    assert wrap("x" * 30, 9) == ["x" * 30]
    assert wrap("", 9) == [""]
    assert wrap("│ └─ one two three\n├─ four five", 9) == [
        "│ └─ one",
        "│    two",
        "│    three",
        "├─ four",
        "│  five",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (99_940_000, "99.9 MB"),
        (99_960_000, "100 MB"),
        (999_600_000, "1.0 GB"),
        (5 * 10**18, "5000.0 PB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_small_words() -> None:
    assert many(1, "package") == "1 package"
    assert many(1200, "library") == "1,200 libraries"
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed("abc") == "a, b and c"
    assert listed("abcdef", 4) == "a, b, c and 3 more"
    assert [duration(s) for s in (0.04, 9.94, 41.6, 185)] == [
        "0.0 s",
        "9.9 s",
        "42 s",
        "3 min 05 s",
    ]
    assert moment("2026-11-23T04:25:00Z") == "2026-11-23 04:25 UTC"
    assert moment("yesterday") == "yesterday"


def test_a_status_line_is_on_terminals_only_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter((10.0, 10.05, 11.0))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    err = Terminal()
    shown = Console(io.StringIO(), err, {"TERM": "xterm", "COLUMNS": "40"}, no_color=True)
    with shown.status("working") as tell:
        tell("too soon to be seen")
        tell("still \x1b[2J " + "x" * 80)
        shown.note("a line between")
    lines = err.getvalue().split("\r\x1b[K")
    status = "still \\x1b[2J " + "x" * 25
    assert lines == ["", "working", status, f"a line between\n{status}", ""]


@pytest.mark.parametrize(("kind", "quiet"), [(io.StringIO, False), (Terminal, True)])
def test_no_status_line_without_a_terminal_or_with_quiet(
    kind: type[io.StringIO], quiet: bool
) -> None:
    err = kind()
    with Console(io.StringIO(), err, {"TERM": "xterm"}, quiet=quiet).status("working") as tell:
        tell("more")
    assert err.getvalue() == ""
