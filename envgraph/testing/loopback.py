"""A threaded server on 127.0.0.1 that ends when it is told to, whoever still waits."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any


class LoopbackServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens from construction, on a port of its own choice, with a backlog of 256.

    A thread for each connection, and closing waits for all of them: call
    :meth:`end_connections` first.
    """

    request_queue_size = 256
    allow_reuse_address = True
    daemon_threads = False
    block_on_close = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Note the connection, and serve it."""
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away; tell of everything else."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def end_connections(self) -> None:
        """Wake every thread that waits for its client."""
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
