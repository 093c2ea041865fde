r"""Where text goes out: stdout for the answer, stderr for the rest, nothing else prints.

Whatever is printed may come from a file, an archive or a server, so every piece
of text is made harmless first: characters that a terminal would act on (escapes,
bidirectional marks, lone surrogates) appear as ``\x1b``, ``\u202e``, … Styles are
added after that, by this module only, and only on a terminal.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TextIO

from envgraph.errors import EnvgraphError

_CODES: Final[Mapping[str, str]] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
    "error": "1;31",
    "warning": "1;33",
    "info": "1;34",
}

CLEAR_LINE: Final = "\r\x1b[K"
STATUS_SECONDS: Final = 0.1
"""A status line changes at most this often: showing it must cost nothing."""


def harmless(text: str) -> str:
    """``text`` with everything that is not printable written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code == 9:
        return "    "
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@dataclass(frozen=True, slots=True)
class Styled:
    """A piece of text with the name of a style."""

    text: str
    style: str


Piece = str | Styled


def width_of(text: str) -> int:
    """The columns that ``text`` takes on a terminal, once it is harmless."""
    if text.isascii() and text.isprintable():
        return len(text)
    text = harmless(text)
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def pad(text: str, width: int) -> str:
    """``text`` filled with spaces to ``width`` columns."""
    return text + " " * (width - width_of(text))


@dataclass(frozen=True, slots=True)
class Symbols:
    """The few signs beyond ASCII, with what stands for them where they cannot be written."""

    arrow: str
    dots: str
    bullet: str


_UNICODE: Final = Symbols("→", "…", "·")
_ASCII: Final = Symbols("->", "...", "-")


class Console:
    """Two streams. A reader that goes away (``| head``) ends the output, not the work."""

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        environment: Mapping[str, str],
        *,
        no_color: bool = False,
        quiet: bool = False,
    ) -> None:
        self._streams = {"out": out, "err": err}
        self._environment = environment
        self._gone: set[str] = set()
        self._status = ""
        self.quiet = quiet
        plain = no_color or bool(environment.get("NO_COLOR"))
        self._colour = {name: not plain and self.is_terminal(name) for name in ("out", "err")}
        encoding = (getattr(out, "encoding", None) or "ascii").lower().replace("-", "")
        self.symbols = _UNICODE if encoding.startswith("utf") else _ASCII
        for stream in (out, err):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")

    def is_terminal(self, name: str) -> bool:
        """``out`` or ``err`` is a terminal that understands more than lines."""
        try:
            terminal = self._streams[name].isatty()
        except ValueError:
            return False
        return terminal and self._environment.get("TERM") not in ("dumb", None, "")

    def stream(self, name: str) -> TextIO:
        """The stream itself, for a view that paints on a terminal."""
        return self._streams[name]

    @property
    def coloured(self) -> bool:
        """Colours go to stderr."""
        return self._colour["err"]

    @property
    def width(self) -> int:
        """Columns to fill: of the terminal, at most 100, else 80."""
        given = self._environment.get("COLUMNS", "")
        if given.isdecimal() and int(given) > 0:
            return max(40, min(int(given), 100))
        for stream in self._streams.values():
            try:
                columns = os.get_terminal_size(stream.fileno()).columns
            except (OSError, ValueError):
                continue
            if columns > 0:
                return max(40, min(columns, 100))
        return 80

    def out(self, *pieces: Piece) -> None:
        """One line of the answer."""
        self._write("out", pieces)

    def err(self, *pieces: Piece) -> None:
        """One line beside the answer, shown even with ``--quiet``."""
        self._write("err", pieces)

    def note(self, *pieces: Piece) -> None:
        """One line beside the answer that ``--quiet`` leaves out."""
        if not self.quiet:
            self._write("err", pieces)

    def raw(self, text: str) -> None:
        """A document for another program (JSON, dot, a lockfile): written as it is."""
        self._send("out", text if text.endswith("\n") else text + "\n")

    def raw_err(self, text: str) -> None:
        """The same on stderr."""
        self._send("err", text if text.endswith("\n") else text + "\n")

    def prompt(self, text: str) -> None:
        """A question, without a line end."""
        self._send("err", harmless(text))
        self.flush()

    def secret(self, text: str) -> str:
        """What is typed on the terminal after a question, without showing it."""
        from getpass import getpass

        self.flush()
        return getpass(harmless(text))

    @contextmanager
    def status(self, text: str) -> Iterator[Callable[[str], None]]:
        """A line on the terminal while something takes its time; gone afterwards.

        Gives a function that changes the line. Without a terminal, or with
        ``--quiet``, nothing is shown.
        """
        if self.quiet or not self.is_terminal("err"):
            yield lambda text: None
            return

        painted = 0.0

        def show(text: str) -> None:
            nonlocal painted
            now = time.monotonic()
            if now - painted >= STATUS_SECONDS:
                painted = now
                self._status = harmless(text)[: self.width - 1]
                self._send("err", CLEAR_LINE + self._status)

        show(text)
        try:
            yield show
        finally:
            self._status = ""
            self._send("err", CLEAR_LINE)

    def flush(self) -> None:
        """Hand everything to the system; EnvgraphError when the answer could not be written."""
        for name in self._streams:
            self._send(name, "")

    def paint(self, name: str, pieces: tuple[Piece, ...]) -> str:
        """The line as it will be written to ``out`` or ``err``."""
        parts = []
        for piece in pieces:
            if isinstance(piece, str):
                parts.append(harmless(piece))
            elif self._colour[name] and piece.text:
                parts.append(f"\x1b[{_CODES[piece.style]}m{harmless(piece.text)}\x1b[0m")
            else:
                parts.append(harmless(piece.text))
        return "".join(parts).rstrip(" ")

    def _write(self, name: str, pieces: tuple[Piece, ...]) -> None:
        if name == "err" and self._status:
            self._send("err", f"{CLEAR_LINE}{self.paint(name, pieces)}\n{self._status}")
            return
        self._send(name, self.paint(name, pieces) + "\n")

    def _send(self, name: str, text: str) -> None:
        if name in self._gone:
            return
        stream = self._streams[name]
        try:
            stream.write(text)
            if not text or name == "err":
                stream.flush()
        except (BrokenPipeError, ValueError):
            self._gone.add(name)
        except OSError as error:
            self._gone.add(name)
            if name == "out" and error.errno != errno.EPIPE:
                raise EnvgraphError(
                    f"the answer could not be written: {error.strerror}", code="output"
                ) from error


_BRANCHES: Final = str.maketrans("├└─╰╭", "│    ")


def wrap(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` columns; words longer than that stay whole.

    A line keeps its indent, and the branches of a tree, when it goes on below.
    """
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        body = paragraph.lstrip(" │├└─╰╭")
        line = paragraph[: len(paragraph) - len(body)]
        indent = line.translate(_BRANCHES)
        empty = True
        for word in body.split():
            if not empty and width_of(line) + 1 + width_of(word) > width:
                lines.append(line)
                line, empty = indent + word, False
            else:
                line, empty = (line + word if empty else f"{line} {word}"), False
        lines.append(line.rstrip())
    return lines
