"""The command line, with every gRPC call that envgraph_buildkit makes noted in a file.

``python -m tests.counting FILE WORD…`` runs ``envgraph WORD…``; a line of FILE is a method.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any


def methods(path: Path) -> Counter[str]:
    """How often each method was called (``Solve``, ``Session``, …); empty without a call."""
    return Counter(path.read_text().split()) if path.exists() else Counter()


def _note(path: str) -> None:
    """Let each channel's calls write their method's name."""
    import grpc

    def opened(*_: Any, **__: Any) -> Any:
        raise AssertionError("a channel of a kind that is not counted")

    grpc.secure_channel = opened
    plain = grpc.insecure_channel

    class Noting:
        def __init__(self, channel: Any) -> None:
            self._channel = channel

        def __getattr__(self, name: str) -> Any:
            made = getattr(self._channel, name)
            if name not in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
                return made

            def named(method: str, *words: Any, **more: Any) -> Any:
                with open(path, "a") as out:
                    out.write(method.rpartition("/")[2] + "\n")
                return made(method, *words, **more)

            return named

    grpc.insecure_channel = lambda *words, **more: Noting(plain(*words, **more))


def main() -> None:
    """Run the command that follows."""
    path, *words = sys.argv[1:]
    sys.argv = ["envgraph", *words]
    _LazyGrpc.path = path
    sys.meta_path.insert(0, _LazyGrpc())
    from envgraph.cli.main import main as command

    command()


class _LazyGrpc:
    """Patches grpc when it is first imported: a run that needs none must not import it."""

    path = ""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "envgraph_buildkit.connection":
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            with open(self.path, "a"):
                os.utime(self.path)
            _note(self.path)


if __name__ == "__main__":
    main()
