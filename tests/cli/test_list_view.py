"""``list`` on a terminal: nothing is cut, and nothing wraps that need not."""

from __future__ import annotations

from envgraph.cli.commands.list import _names_apart, _show
from envgraph.cli.views.console import Piece
from envgraph.history.listing import Listing

WIDE, LONG = "环境" * 10, "a-name-of-twenty-nine-columns"
ROWS = [["NAME", "VERSION"], ["short", "1"], [WIDE, "1"], [LONG, "1"]]


def test_names_that_would_wrap_the_table_stand_alone() -> None:
    assert _names_apart(ROWS, 100) == set()
    assert _names_apart(ROWS, 40) == {WIDE}
    assert _names_apart(ROWS, 30) == {WIDE, LONG}
    assert _names_apart(ROWS, 0) == set(), "a pipe has no width"


def test_a_name_takes_twelve_columns_at_least() -> None:
    assert _names_apart([["NAME", "VERSION"], ["twelve-colum", "1" * 50]], 40) == set()


class _Out:
    """Lines that were written, on a terminal of 60 columns or into a pipe."""

    width = 60

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal
        self.lines: list[str] = []

    def is_terminal(self, name: str) -> bool:
        return self.terminal

    def out(self, *pieces: Piece) -> None:
        self.lines.append("".join(p if isinstance(p, str) else p.text for p in pieces))


def shown(terminal: bool, *found: Listing) -> list[str]:
    out = _Out(terminal)
    session = type("S", (), {"console": out})()
    _show(found, session, None)
    return out.lines


def listing(name: str, *labels: str) -> Listing:
    return Listing(
        name, "1", 1, "system-managed", "0" * 64, {"linux-64": "0" * 64}, "0" * 64, "0" * 64, "i",
        ("linux-64",), "2026-01-01T00:00:00Z", None, {}, ("latest", *labels),
    )  # fmt: skip


def test_labels_that_people_gave_have_a_column() -> None:
    header, one, two = shown(False, listing("one"), listing("two", "blue", "prod"))
    assert header.endswith("CREATED               LABELS")
    assert one.endswith("UTC")
    assert two.endswith("UTC  blue, prod")
    assert "LABELS" not in shown(False, listing("one"))[0]


def test_a_pipe_has_one_line_for_each_version() -> None:
    long = "x" * 90
    assert len(shown(False, listing("one"), listing(long))) == 3
    header, one, alone, rest = shown(True, listing("one"), listing(long))
    assert alone == long
    assert rest.split() == one.split()[1:]
    assert rest.index("1") == one.index("1") == header.index("VERSION")
