"""The session: while a build runs, BuildKit calls back for files, secrets and logins.

BuildKit is the gRPC client there. ``Control.Session`` carries the bytes of that connection as
a stream of messages; they are joined to a grpc server of ours on a private unix socket. The
server must answer the health check, or BuildKit ends builds that take a while.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from envgraph_buildkit.connection import CONTROL, Connection
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.quiet import grpc

_CHUNK: Final = 1 << 16
_CALLS: Final = 32
"""Calls that BuildKit may have open at once: more wait."""

Handlers = Mapping[str, Any]
"""``/service/method`` → a grpc method handler."""


class Session:
    """One build's session; entered for as long as the build runs."""

    def __init__(self, connection: Connection, handlers: Handlers, shared_key: str) -> None:
        """Bind. ``shared_key`` is equal for builds whose files are mostly the same."""
        self.id = uuid.uuid4().hex
        self._connection = connection
        self._shared_key = shared_key
        self._failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._handlers = {name: self._watched(handler) for name, handler in handlers.items()}
        self._handlers["/grpc.health.v1.Health/Check"] = unary(lambda data: b"\x08\x01")

    @property
    def failure(self) -> BaseException | None:
        """The first error of our own that made a call of BuildKit's fail."""
        return self._failures[0] if self._failures else None

    def _watched(self, handler: Any) -> Any:
        """The handler; what it raises is kept for the build to raise, and not told to BuildKit."""

        def guard(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(request: Any, context: Any) -> Any:
                try:
                    return method(request, context)
                except Exception as error:
                    self._fail(error, context)

            def stream(request: Any, context: Any) -> Iterator[Any]:
                try:
                    yield from method(request, context)
                except Exception as error:
                    self._fail(error, context)

            return stream if handler.response_streaming else call

        changes = {
            name: guard(getattr(handler, name))
            for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
            if getattr(handler, name) is not None
        }
        return handler._replace(**changes)

    def _fail(self, error: Exception, context: Any) -> None:
        if isinstance(error, Refusal):
            context.abort(error.status, str(error))
        if not context.is_active():
            raise error  # BuildKit has gone: nothing of ours is wrong
        with self._lock:
            self._failures.append(error)
        context.abort(grpc.StatusCode.INTERNAL, "the client failed; it says why")

    def __enter__(self) -> Session:
        path = self._connection.folder.path / f"{self.id[:16]}.sock"
        self._server = grpc.server(
            ThreadPoolExecutor(_CALLS, "buildkit-session"),
            handlers=[_Router(self._handlers)],
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._server.add_insecure_port(f"unix://{path}")
        self._server.start()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        open_stream = self._connection.channel.stream_stream(
            CONTROL + "Session",
            request_serializer=encode,
            response_deserializer=message("BytesMessage").FromString,
        )
        metadata = [
            ("x-docker-expose-session-uuid", self.id),
            ("x-docker-expose-session-name", "envgraph"),
            ("x-docker-expose-session-sharedkey", self._shared_key),
            *(("x-docker-expose-session-grpc-method", name) for name in self._handlers),
        ]
        self._stream = open_stream(self._outgoing(), metadata=metadata)
        self._thread = threading.Thread(target=self._incoming, name="buildkit-in", daemon=True)
        self._thread.start()
        return self

    def _outgoing(self) -> Iterator[Any]:
        bytes_message = message("BytesMessage")
        with contextlib.suppress(OSError):
            while part := self._socket.recv(_CHUNK):
                yield bytes_message(data=part)

    def _incoming(self) -> None:
        with contextlib.suppress(grpc.RpcError, OSError):
            for part in self._stream:
                self._socket.sendall(part.data)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *_: object) -> None:
        self._stream.cancel()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._server.stop(0).wait()
        self._thread.join()
        self._socket.close()


class Refusal(Exception):
    """An answer to BuildKit that is no failure of the build's: no such secret, no such blob."""

    def __init__(self, status: Any, text: str) -> None:
        """With the grpc status to answer."""
        super().__init__(text)
        self.status = status


class _Router(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method)


def unary(method: Callable[[Any], bytes], request: Any = None) -> Any:
    """A handler of one request and one answer in bytes."""
    return grpc.unary_unary_rpc_method_handler(
        lambda value, context: method(value),
        request_deserializer=request.FromString if request is not None else None,
    )
