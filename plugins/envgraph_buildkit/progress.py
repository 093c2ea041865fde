"""BuildKit's status stream as events; what a step printed, without secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from envgraph.api import Event
from envgraph.api import Redactor as Redactor

_KEPT: Final = 16_384
"""Bytes of a step's last output that are kept for an error."""

OnEvent = Callable[[Event], None]


class Progress:
    """Turns status messages into events, each change once. One thread feeds it."""

    def __init__(self, on_event: OnEvent, redactor: Redactor) -> None:
        """Bind."""
        self._on_event = on_event
        self._redactor = redactor
        self._states: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._pending: dict[str, bytes] = {}
        self._output: dict[str, bytes] = {}
        self.failed = ""
        """The step that failed first."""
        self.current = ""
        """The step that spoke last."""

    def count(self, state: str) -> int:
        """How many steps ended so: ``done``, ``skipped`` (it was built before), ``failed``."""
        return sum(each == state for each in self._states.values())

    def name(self, vertex: str) -> str:
        """What BuildKit calls a step: ``[2/3] RUN make``."""
        return self._names.get(vertex, "")

    def output(self, vertex: str) -> str:
        """The last that a step printed."""
        return self._output.get(vertex, b"").decode(errors="replace")

    def take(self, status: Any) -> None:
        """One message of the stream."""
        for vertex in status.vertexes:
            self._names[vertex.digest] = vertex.name
            if vertex.HasField("started"):
                self._start(vertex.digest)
        for log in status.logs:
            self._log(log.vertex, log.msg)
        for part in status.statuses:
            self._start(part.vertex)  # old servers tell the progress of an export first
            if self._states[part.vertex] != "start":
                continue  # new ones go on telling when it is done
            self._tell(
                "progress", part.vertex,
                bytes_done=part.current, bytes_total=part.total, text=part.name or part.ID,
            )  # fmt: skip
        for vertex in status.vertexes:
            self._vertex(vertex)

    def _start(self, key: str) -> None:
        if key not in self._states:
            self._states[key] = "start"
            self._tell("start", key)

    def _vertex(self, vertex: Any) -> None:
        key = vertex.digest
        if not vertex.HasField("completed") or self._states.get(key, "start") != "start":
            return
        self._start(key)
        self._flush(key)
        state = "failed" if vertex.error else "skipped" if vertex.cached else "done"
        if state == "failed" and not self.failed:
            self.failed = key
        self._states[key] = state
        text = vertex.error[:500] if state == "failed" else ""
        self._tell(state, key, text=self._redactor.clean(text))

    def _log(self, key: str, data: bytes) -> None:
        """Whole lines are told: a secret is not cut in two by a message's end."""
        *lines, rest = (self._pending.get(key, b"") + data).split(b"\n")
        if len(rest) > _KEPT:
            lines, rest = [*lines, rest], b""
        self._pending[key] = rest
        if lines:
            self._say(key, b"\n".join(lines) + b"\n")

    def _flush(self, key: str) -> None:
        if rest := self._pending.pop(key, b""):
            self._say(key, rest)

    def _say(self, key: str, data: bytes) -> None:
        data = self._redactor.clean(data)
        self.current = key
        self._output[key] = (self._output.get(key, b"") + data)[-_KEPT:]
        self._start(key)
        self._tell("message", key, text=data.decode(errors="replace"))

    def finish(self) -> None:
        """The stream is over."""
        for key in list(self._pending):
            self._flush(key)

    def _tell(self, kind: Any, key: str, **values: Any) -> None:
        self._on_event(Event(kind, key, "builder-step", self._names.get(key, ""), **values))
