"""Runs inside the locked Python: (path, source) in, an unchecked-hash ``.pyc`` out.

It must work with every CPython from 3.8 on, and imports nothing of ours. Requests
and answers are framed by lengths; the first answer says which Python it is.
"""

import importlib.util
import struct
import sys
import warnings
from typing import Any

_REQUEST = struct.Struct(">IQ")
_ANSWER = struct.Struct(">?Q")


def _serve() -> None:
    source_in, answers = sys.stdin.buffer, sys.stdout.buffer
    warnings.simplefilter("ignore")

    def answer(good: bool, data: bytes) -> None:
        answers.write(_ANSWER.pack(good, len(data)))
        answers.write(data)
        answers.flush()

    major, minor = sys.version_info[:2]
    answer(True, f"{major}.{minor} {sys.implementation.cache_tag}".encode())
    machinery: Any = importlib._bootstrap_external
    while True:
        header = source_in.read(_REQUEST.size)
        if len(header) < _REQUEST.size:
            return
        path_length, source_length = _REQUEST.unpack(header)
        path = source_in.read(path_length).decode("utf-8", "surrogateescape")
        source = source_in.read(source_length)
        try:
            code = compile(source, path, "exec", dont_inherit=True, optimize=0)
            hashed = importlib.util.source_hash(source)
            data = bytes(machinery._code_to_hash_pyc(code, hashed, False))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            answer(False, b"")
        else:
            answer(True, data)


if __name__ == "__main__":
    _serve()
