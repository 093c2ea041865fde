"""A unix socket in front of a daemon's, which counts connections and bytes."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16


@dataclass(slots=True)
class Traffic:
    """What went through since the last look."""

    connections: int = 0
    sent: int = 0
    """Bytes to the daemon."""

    received: int = 0


class Wire:
    """Carries every connection to the daemon at ``address``; entered while it is used."""

    def __init__(self, address: str, folder: Path) -> None:
        self._target = address.removeprefix("unix://")
        path = folder / "wire.sock"
        path.unlink(missing_ok=True)
        self.address = f"unix://{path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._lock = threading.Lock()
        self._seen = Traffic()

    def look(self) -> Traffic:
        """What went through since the last look."""
        with self._lock:
            found, self._seen = self._seen, Traffic()
        return found

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            outer = socket.socket(socket.AF_UNIX)
            outer.connect(self._target)
            with self._lock:
                self._seen.connections += 1
            open_ways = [2]
            for source, target, up in ((inner, outer, True), (outer, inner, False)):
                threading.Thread(
                    target=self._carry, args=(source, target, up, open_ways), daemon=True
                ).start()

    def _carry(
        self, source: socket.socket, target: socket.socket, up: bool, open_ways: list[int]
    ) -> None:
        with suppress(OSError):
            while part := source.recv(_CHUNK):
                with self._lock:
                    if up:
                        self._seen.sent += len(part)
                    else:
                        self._seen.received += len(part)
                target.sendall(part)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        with self._lock:
            open_ways[0] -= 1
            last = not open_ways[0]
        if last:
            source.close()
            target.close()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
