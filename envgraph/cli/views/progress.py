"""What apply is doing, while it does it: bars on a terminal, lines elsewhere, or JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from envgraph.cli.views.console import Console, Styled, harmless, pad
from envgraph.cli.views.text import duration, many, size

if TYPE_CHECKING:
    from envgraph.api.events import Event
    from envgraph.apply.apply import ApplyResult
    from envgraph.cli.session import Session
    from envgraph.plan.plan import Plan

_DONE: Final = {
    "archive": "fetched",
    "base-image": "pulled",
    "image": "made",
    "image-index": "made",
    "pull": "pulled",
    "push": "pushed",
}
_DOING: Final = {
    "archive": "fetching",
    "base-image": "pulling",
    "question": "asking for",
    "transfer": "moving",
    "pull": "pulling",
    "push": "pushing",
}
_UNSAID: Final = frozenset({"question", "transfer"})
"""Parts of a push or pull: only the whole is worth a line."""

REFRESH_SECONDS: Final = 0.1


class ProgressView(Protocol):
    """Takes events one at a time; a context manager that leaves the terminal as it was."""

    def event(self, event: Event) -> None:
        """Show one event."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Base:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class JsonProgress(_Base):
    """One JSON object a line on stdout; the result line comes after them."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def event(self, event: Event) -> None:
        """Write the event as a line."""
        document = {
            "type": "event",
            "event": event.kind,
            "key": event.key,
            "kind": event.node_kind,
            "name": event.name,
            "bytes_done": event.bytes_done,
            "bytes_total": event.bytes_total,
            "text": event.text,
        }
        self._console.raw(json.dumps(document))
        self._console.flush()


def finished_line(event: Event, counted: int = 0) -> str:
    """``built    numpy  7.2 MB``; an empty string for what is not worth a line.

    ``counted`` is the number of bytes that earlier events of the step told of. Why a
    step failed is said once, at the end.
    """
    if event.node_kind in _UNSAID and event.kind == "done":
        return ""
    packages = ("archive", "conda-package", "pip-package", "pull", "push", *_UNSAID)
    title = event.name if event.node_kind in packages else f"{event.node_kind} {event.name}"
    if event.kind == "done":
        amount = f"  {size(counted)}" if counted else ""
        return f"{pad(_DONE.get(event.node_kind, 'built'), 8)} {title}{amount}"
    if event.kind == "failed":
        return f"{pad('FAILED', 8)} {title}"
    return event.text if event.kind == "message" else ""


class LineProgress(_Base):
    """A plain line for each step that ends: for logs, pipes and dumb terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._counted: dict[str, int] = {}
        self._said = ""

    def event(self, event: Event) -> None:
        """Show what ended; failures and messages even with ``--quiet``."""
        if event.kind == "progress":
            self._counted[event.key] = event.bytes_done
            return
        line = finished_line(event, self._counted.pop(event.key, 0))
        if event.kind == "message":
            if line == self._said:
                return
            self._said = line
        if line:
            loud = event.kind in ("failed", "message")
            (self._console.err if loud else self._console.note)(line)


class BarProgress(_Base):
    """Bars by rich: one for the whole, one for each step that runs and counts bytes."""

    def __init__(
        self, console: Console, stream: Any, total: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console
        self._clock = clock
        self._painted = 0.0
        self._running: dict[tuple[str, str], Any] = {}
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}", markup=False),
            console=RichConsole(
                file=stream,
                no_color=not console.coloured,
                highlight=False,
                width=console.width,
            ),
            transient=True,
            auto_refresh=False,
        )
        self._whole = self._bars.add_task(pad("applying", 34), total=max(total, 1), amount="")
        self._total = total
        self._finished = 0
        self._said = ""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def event(self, event: Event) -> None:
        """Move the bars; at most ten times a second, so that showing costs nothing."""
        key = (event.node_kind, event.key)
        if event.kind == "start":
            verb = _DOING.get(event.node_kind, "building")
            title = _fitted(f"{verb} {harmless(event.name)}", 34)
            self._running[key] = self._bars.add_task(title, total=None, amount="")
        elif event.kind == "progress" and key in self._running:
            self._bars.update(
                self._running[key],
                completed=event.bytes_done,
                total=event.bytes_total or None,
                amount=_amount(event),
            )
        elif event.kind in ("done", "failed", "skipped"):
            self._end(event, key)
        elif event.kind == "message" and event.text != self._said:
            self._said = event.text
            self._bars.print(harmless(event.text), markup=False, highlight=False)
        now = self._clock()
        if now - self._painted >= REFRESH_SECONDS:
            self._painted = now
            self._bars.refresh()

    def _end(self, event: Event, key: tuple[str, str]) -> None:
        task = self._running.pop(key, None)
        if task is not None:
            self._bars.remove_task(task)
        if event.node_kind != "archive" and event.node_kind not in _UNSAID:
            self._finished += 1
        self._bars.update(
            self._whole,
            completed=self._finished,
            amount=f"{self._finished} of {many(self._total, 'step')}",
        )
        if event.kind == "failed":
            self._bars.print(harmless(finished_line(event)), markup=False, highlight=False)


def _fitted(text: str, width: int) -> str:
    return pad(text if len(text) <= width else text[: width - 1] + "…", width)


def _amount(event: Event) -> str:
    if not event.bytes_total:
        return size(event.bytes_done) if event.bytes_done else ""
    return f"{size(event.bytes_done)} of {size(event.bytes_total)}"


def progress_view(session: Session, plan: Plan) -> ProgressView:
    """The view that fits: JSON lines, bars on a terminal, else lines."""
    console = session.console
    if session.common.json:
        return JsonProgress(console)
    steps = sum(1 for s in plan.steps if s.action in ("build", "pull", "push"))
    if console.is_terminal("err") and not session.common.quiet and steps:
        return BarProgress(console, console.stream("err"), steps)
    return LineProgress(console)


def transfer_view(session: Session) -> ProgressView:
    """The view for what moves between a store and a registry, apart from a plan."""
    console = session.console
    if session.common.json:
        return JsonProgress(console)
    if console.is_terminal("err") and not session.common.quiet:
        return BarProgress(console, console.stream("err"), 1)
    return LineProgress(console)


def show_result(result: ApplyResult, plan: Plan, session: Session) -> None:
    """The answer of apply: each environment with its image, then what it cost."""
    show = session.console.out
    for item in result.environments:
        show(Styled(f"{item['name']}:{item['version']}", "bold"), f"  {item['image_name']}")
        show("  image ", str(item["image"]))
    for item in result.borrowed:
        show(Styled(f"{item['name']}:{item['version']}", "bold"), "  pulled from the registry ",
             repr(item["registry"]))  # fmt: skip
        show("  image ", str(item["image"]))
    written = f", {size(result.bytes_written)} written" if result.bytes_written else ""
    built = f"{many(result.built, 'layer')} built" if result.built else "No layer built"
    moved = [f"{many(result.pulled, 'image')} pulled"] if result.pulled else []
    moved += [f"{many(result.pushed, 'version')} pushed"] if result.pushed else []
    if result.bytes_moved:
        moved.append(f"{size(result.bytes_moved)} moved")
    parts = ", ".join([built, f"{result.reused:,} kept{written}", *moved])
    show(f"{parts}, in {duration(result.seconds)}.")
    _suggest(result, plan, session)


def _suggest(result: ApplyResult, plan: Plan, session: Session) -> None:
    """Somebody who made a first environment may want to know what to do with it."""
    made = {item["name"] for item in result.environments}
    for change in plan.environments:
        target = change.target
        if change.action == "create" and target.name in made and target.first.lock.python:
            if session.console.is_terminal("err"):
                session.console.note(f"Try it: envgraph run {target.name} -- python -V")
            return
