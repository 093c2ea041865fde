"""Runs inside the locked Python: (path, source) in, an unchecked-hash ``.pyc`` out.

It must work with every CPython from 3.8 on, and imports nothing of ours. Requests
and answers are framed by lengths; the first answer says which Python it is.

marshal marks objects that are referenced more than once, and the compiler shares
constants by what is alive. So nothing of one file may be alive when the next is
compiled: no local variable, no garbage, no module that a file brought in.
"""

from __future__ import annotations

import sys

sys.path[:] = [folder for folder in sys.path if folder not in ("", ".")]

import codecs  # noqa: E402
import gc  # noqa: E402
import importlib.util  # noqa: E402
import struct  # noqa: E402
import unicodedata  # noqa: E402, F401  (identifiers that are not ASCII load it)
import warnings  # noqa: E402
from typing import Any  # noqa: E402

_REQUEST = struct.Struct(">IQ")
_ANSWER = struct.Struct(">?Q")


def _serve() -> None:
    source_in, answers = sys.stdin.buffer, sys.stdout.buffer
    _prepare()

    def answer(good: bool, data: bytes) -> None:
        answers.write(_ANSWER.pack(good, len(data)))
        answers.write(data)
        answers.flush()

    major, minor = sys.version_info[:2]
    answer(True, f"{major}.{minor} {sys.implementation.cache_tag}".encode())
    while True:
        header = source_in.read(_REQUEST.size)
        if len(header) < _REQUEST.size:
            return
        path_length, source_length = _REQUEST.unpack(header)
        path = source_in.read(path_length).decode("utf-8", "surrogateescape")
        compiled = _compile(path, source_in.read(source_length))
        answer(compiled is not None, compiled or b"")
        del compiled, path
        gc.collect()


def _prepare() -> None:
    """Load now what usual sources load, then let the collector forget it all."""
    warnings.simplefilter("ignore")
    for name in ("utf-8", "utf8", "UTF-8", "UTF8"):
        codecs.lookup(name)
        compile(f"# coding: {name}\né = 1\n".encode(), "", "exec")
    gc.disable()
    gc.collect()
    gc.freeze()


def _compile(path: str, source: bytes) -> bytes | None:
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None
    machinery: Any = importlib._bootstrap_external
    return bytes(machinery._code_to_hash_pyc(code, importlib.util.source_hash(source), False))


if __name__ == "__main__":
    _serve()
