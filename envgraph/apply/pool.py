"""One builder out of several servers: builds are spread, and go on where a server is down.

A plugin's builder is one server and tries once. Here is who chooses a server for each build,
and who tries again:

- *Affinity*: builds that share steps or files go to the same server, which has both already.
  Servers are ranked by a hash of affinity and name (rendezvous hashing), so a server more or
  less moves only its own share. One that is busier than another by some builds is passed over.
- *Failover*: a server that does not answer, or goes away in the middle, is left alone for a
  while, and the build is made by the next. When none is left there is a pause, and all are
  tried again, a bounded number of times. A step that failed is an answer, and never repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final

from envgraph.api.builder import (
    Builder,
    BuilderError,
    BuildRequest,
    BuildResult,
    Cancel,
    Capabilities,
)
from envgraph.api.events import Event
from envgraph.apply.servers import Server, fits, line_of, other_platform, rank, reason_of
from envgraph.errors import Diagnostic, EnvgraphError
from envgraph.registry.retrying import Policy

PATIENCE: Final = Policy(tries=6, pause=1.0)
"""Half a minute in all: as long as a daemon takes to start anew."""
_REST: Final = 30.0
"""Seconds for which a server that failed is left alone while there are others."""
_BUSIER: Final = 4
"""Builds by which a server may be busier than the idlest one."""
_DEATHS: Final = 3
"""Servers that may go away while one and the same build runs."""

Ask = Callable[[Callable[["Server"], None], Iterable["Server"]], Iterable[None]]
"""A ``map``, perhaps over threads."""


@dataclass(slots=True)
class _Attempts:
    """What one build has met so far."""

    lacks: dict[str, BuilderError] = field(default_factory=dict)
    """Servers that cannot do it at all."""

    failed: dict[str, BuilderError] = field(default_factory=dict)
    """Servers that failed in this round."""

    rounds: int = 1
    deaths: int = 0


class Pool(Builder):
    """Several builders as one. Safe for threads; the only one that tries anything twice."""

    def __init__(
        self,
        name: str,
        servers: Sequence[Server],
        policy: Policy = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[Cancel, float], object] = lambda halt, seconds: halt.wait(seconds),
    ) -> None:
        """Bind; nobody is asked. ``name`` is the builder's type; ``wait`` pauses till ``halt``."""
        self._name = name
        self.servers = tuple(servers)
        self._policy = policy
        self._clock = clock
        self._wait = wait
        self._lock = Lock()
        self._gave_up = False

    @property
    def title(self) -> str:
        """The one server's; of several, how many there are and answer."""
        if len(self.servers) == 1:
            return self.servers[0].title
        good = sum(server.capabilities is not None for server in self.servers)
        return f"{self._name}, {good} of {len(self.servers)} servers answer"

    def ask(self, ask: Ask) -> None:
        """Ask every server, at once where ``ask`` can; BuilderError when none answers."""
        from envgraph.plugins import isolated  # a plugin manager, which most applies do without

        def quietly(server: Server) -> None:
            try:
                with isolated(f"a builder of type {self._name} cannot be asked"):
                    server.ask()
            except EnvgraphError as error:
                server.error = error

        for _ in ask(quietly, self.servers):
            pass
        errors = {s.title: s.error for s in self.servers if s.error is not None}
        if len(errors) == len(self.servers):
            [first, *others] = errors.values()
            raise self._error(errors) if others else first
        for server in self.servers:
            if server.error is not None:
                server.rests_until = self._clock() + _REST

    def capabilities(self) -> Capabilities:
        """All that any server can do."""
        if all(server.capabilities is None for server in self.servers):
            self.ask(map)
        known = [s.capabilities for s in self.servers if s.capabilities is not None]
        return Capabilities(
            tuple(dict.fromkeys(each for one in known for each in one.platforms)),
            frozenset(each for one in known for each in one.features),
            ", ".join(dict.fromkeys(one.version for one in known if one.version)),
        )

    def remarks(self) -> tuple[Diagnostic, ...]:
        """A warning for each server that went away while it built."""
        return tuple(
            Diagnostic(
                "builder-down",
                f"{server.title} went away while it ran {server.lost}"
                f" build{'' if server.lost == 1 else 's'}",
                "" if server.error is None else reason_of(server.error),
                hint="see whether it lacks memory or disk",
                severity="warning",
            )
            for server in self.servers
            if server.lost
        )

    @contextmanager
    def build(
        self, request: BuildRequest, on_event: Callable[[Event], None], cancel: Cancel
    ) -> Iterator[BuildResult]:
        """Build on whichever server; see :meth:`run`."""
        with self.run(request, on_event, cancel, cancel) as (_, result):
            yield result

    @contextmanager
    def run(
        self,
        request: BuildRequest,
        on_event: Callable[[Event], None],
        cancel: Cancel,
        halt: Cancel,
    ) -> Iterator[tuple[Server, BuildResult]]:
        """Build; the server that did it, and its result.

        ``halt``: nothing new is tried, and no pause goes on, while what runs may end.
        """
        with ExitStack() as stack:
            yield self._made(stack, request, on_event, cancel, halt)

    def _made(
        self,
        stack: ExitStack,
        request: BuildRequest,
        on_event: Callable[[Event], None],
        cancel: Cancel,
        halt: Cancel,
    ) -> tuple[Server, BuildResult]:
        met = _Attempts()
        while True:
            server = self._take(request, met)
            if server is None:
                self._pause(met, halt)
                continue
            stack.callback(self._leave, server)
            began: list[Event] = []

            def listen(event: Event, began: list[Event] = began) -> None:
                began[:] = [event]
                on_event(event)

            try:
                offered = server.ask().platforms
                if len(self.servers) == 1 or fits(request.platform, offered):
                    result = stack.enter_context(server.builder.build(request, listen, cancel))
                    self._well(server)
                    return server, result
                met.lacks[server.title] = other_platform(request.platform, offered)
            except BuilderError as error:
                self._judge(error, server, met, bool(began), cancel)
                if server.title in met.failed:
                    on_event(Event("message", text=f"{reason_of(error)}: trying again"))
            stack.pop_all().close()

    def _take(self, request: BuildRequest, met: _Attempts) -> Server | None:
        """The server for the next try, one build busier; None when every one was tried."""
        with self._lock:
            left = [
                server
                for server in self._ranked(request.affinity)
                if server.title not in met.lacks and server.title not in met.failed
            ]
            now = self._clock()
            ready = [server for server in left if server.rests_until <= now]
            if not (ready or left):
                return None
            most = _BUSIER if request.affinity else 1
            idlest = min((server.running for server in ready), default=0)
            server = next((s for s in ready if s.running < idlest + most), (ready or left)[0])
            server.running += 1
            return server

    def _ranked(self, affinity: str) -> list[Server]:
        if not affinity:
            return list(self.servers)
        order = rank(affinity, [server.title for server in self.servers])
        return sorted(self.servers, key=lambda server: order.index(server.title))

    def _leave(self, server: Server) -> None:
        with self._lock:
            server.running -= 1

    def _well(self, server: Server) -> None:
        with self._lock:
            server.rests_until = 0.0
            server.error = None
            self._gave_up = False

    def _judge(
        self, error: BuilderError, server: Server, met: _Attempts, began: bool, cancel: Cancel
    ) -> None:
        """Note what may be tried elsewhere; raise what may not."""
        if cancel.is_set():
            raise error
        if server.refused or error.code == "builder-lacks":
            met.lacks[server.title] = error
            return
        if not error.retryable:
            raise error
        with self._lock:
            server.error = error
            server.rests_until = self._clock() + _REST
            server.lost += began
        met.failed[server.title] = error
        met.deaths += began
        if met.deaths >= _DEATHS:
            raise BuilderError(
                f"{reason_of(error)}, as {met.deaths} times while this was built",
                code=error.code,
                detail=error.diagnostics[0].detail,
                hint="it may take more memory or disk than a server has",
                output=error.output,
            )

    def _pause(self, met: _Attempts, halt: Cancel) -> None:
        """Wait for the next round; raise when there is none."""
        found = {**met.lacks, **met.failed}
        [first, *others] = found.values()
        error = self._error(found) if others else first
        if not error.retryable or self._gave_up or halt.is_set():
            raise error

        def sleep(seconds: float) -> None:
            self._wait(halt, seconds)

        try:
            replace(self._policy, sleep=sleep).wait(met.rounds, error)
        except BuilderError:
            self._gave_up = True  # the next build tries each server once, and waits for none
            raise
        if halt.is_set():
            raise error
        met.rounds += 1
        met.failed.clear()

    def _error(self, errors: Mapping[str, EnvgraphError]) -> BuilderError:
        """One error out of those of the servers, each with its own reason."""
        answered = {s.title for s in self.servers if s.capabilities is not None}
        known = [error for title, error in errors.items() if title in answered]
        judged = known or list(errors.values())  # who never answered is not waited for
        waits = [e for e in judged if isinstance(e, BuilderError) and e.retryable]
        lacking = all(e.diagnostics[0].code == "builder-lacks" for e in judged)
        first = judged[0].diagnostics[0]
        hints = dict.fromkeys(d.hint for e in waits or judged for d in e.diagnostics if d.hint)
        down = f"none of the {len(self.servers)} servers of {self._name} can be used"
        return BuilderError(
            f"no server of {self._name} can do this: {first.summary}" if lacking else down,
            code="builder-lacks" if lacking else "builder-down",
            detail="\n".join(line_of(title, error) for title, error in errors.items()),
            source=first.source if lacking else None,
            hint="; ".join(hints),
            retryable=bool(waits),
            retry_after=min((e.retry_after for e in waits if e.retry_after), default=None),
        )
