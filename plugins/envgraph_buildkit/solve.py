"""One Solve, with its session: start it, follow it, end it early when asked to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from envgraph.api import BuilderError, Cancel
from envgraph_buildkit.connection import CONTROL, Connection
from envgraph_buildkit.failures import build_failure, details_of
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.progress import Progress
from envgraph_buildkit.quiet import grpc
from envgraph_buildkit.recipe import Written
from envgraph_buildkit.session import Handlers, Session

_POLL: Final = 0.05
"""Seconds in which ``cancel`` is noticed."""
_LAST_WORDS: Final = 2.0
"""Seconds that the status of a failed build has to end by itself."""


class Solve:
    """A Solve call with its Status stream. Status is opened first, or early steps are missed."""

    def __init__(self, connection: Connection, request: Any, progress: Progress) -> None:
        """Start both calls."""
        self._connection = connection
        self._progress = progress
        self._errors: list[Exception] = []
        channel = connection.channel
        self._status = channel.unary_stream(
            CONTROL + "Status",
            request_serializer=encode,
            response_deserializer=message("StatusResponse").FromString,
        )(message("StatusRequest")(Ref=request.Ref))
        self._thread = threading.Thread(target=self._follow, name="buildkit-status", daemon=True)
        self._thread.start()
        self._future = channel.unary_unary(
            CONTROL + "Solve",
            request_serializer=encode,
            response_deserializer=message("SolveResponse").FromString,
        ).future(request)

    def _follow(self) -> None:
        try:
            for status in self._status:
                self._progress.take(status)
            self._progress.finish()
        except grpc.RpcError:
            pass  # Solve says why
        except Exception as error:  # the host's on_event failed: the build's caller hears of it
            self._errors.append(error)

    def wait(
        self, session: Session, written: Written, cancel: Cancel, timeout: float | None
    ) -> Mapping[str, str]:
        """The exporter's answer; BuilderError, or what failed on our own side."""
        end = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                with contextlib.suppress(grpc.FutureTimeoutError):
                    answer = self._future.result(timeout=_POLL)
                    break
                if cancel.is_set():
                    raise BuilderError("the build was cancelled", code="cancelled")
                if end is not None and time.monotonic() > end:
                    raise BuilderError(
                        f"the build took longer than {timeout:g} seconds",
                        code="builder-timeout",
                        detail=self._running(),
                    )
                if self._errors:
                    raise self._errors[0]
        except grpc.RpcError as error:
            raise self._failure(error, session, written, cancel) from None
        finally:
            self._future.cancel()
            self._end()
        if self._errors:
            raise self._errors[0]
        return dict(answer.ExporterResponse)

    def _end(self) -> None:
        self._thread.join(_LAST_WORDS)
        self._status.cancel()
        self._thread.join()

    def _running(self) -> str:
        return self._progress.output(self._progress.current)[-2000:]

    def _failure(
        self, error: Any, session: Session, written: Written, cancel: Cancel
    ) -> BaseException:
        self._end()
        if session.failure is not None:
            return session.failure
        if cancel.is_set():
            return BuilderError("the build was cancelled", code="cancelled")
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return self._connection.failure(error)
        vertex = details_of(error).vertex or self._progress.failed
        progress = self._progress
        return build_failure(error, written, progress.name(vertex), progress.output(vertex))


def run_solve(
    connection: Connection,
    request: Any,
    handlers: Handlers,
    progress: Progress,
    written: Written,
    *,
    shared_key: str = "",
    cancel: Cancel,
    timeout: float | None,
) -> Mapping[str, str]:
    """The exporter's answer to a Solve request, with a session of its own.

    Several may run at once over one connection. ``handlers`` are what BuildKit may call;
    ``written`` is the way back from its lines, for errors.
    """
    with Session(connection, handlers, shared_key) as session:
        request.Session = session.id
        return Solve(connection, request, progress).wait(session, written, cancel, timeout)
