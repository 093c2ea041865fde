"""A plan for people: what happens to each environment and why, shared steps once, a sum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from envgraph.cli.views.changes import change_lines
from envgraph.cli.views.console import Console, Piece, Styled, wrap
from envgraph.cli.views.text import listed, many, size, table
from envgraph.diff.packages import PackageChange
from envgraph.plan.plan import EnvironmentChange, Plan
from envgraph.plan.steps import BORROWED, BUILT_KINDS, Step

MOST_STEPS: Final = 8
"""Steps listed per environment; ``-v`` lists all."""

MOST_GROUPS: Final = 6
"""Sets of environments that share steps, each shown apart; more are shown together."""

LONGEST_NAME: Final = 36
"""Columns for a step's name; of a longer one, such as a path, the end is shown."""

_JOINED: Final = frozenset({"layer-group", "image", "image-index", "lock", "version"})
"""Steps whose inputs are other steps' results: their bytes are counted there."""

_MARKS: Final = {"create": ("+", "green"), "update": ("~", "yellow"), "no-op": ("=", "dim")}
Print = Callable[..., None]


def plan_bytes(steps: Sequence[Step]) -> int:
    """Bytes of what goes into the steps that will be done, each input once."""
    return sum(s.bytes or 0 for s in steps if s.action != "keep" and s.kind not in _JOINED)


def summary_line(plan: Plan) -> str:
    """``Plan: 3 to build, 1 to tag, 41 kept; 12.3 MB.`` or that there is nothing to do."""
    if not plan.changes:
        count = len(plan.environments)
        if count == 0:
            return "No changes." if plan.applyable else "Nothing could be planned: see the errors."
        are = "environment is" if count == 1 else "environments are"
        return f"No changes. {count:,} {are} up to date."
    summary = plan.summary
    parts = [
        f"{summary[action]:,} to {action}"
        for action in ("resolve", "pull", "build", "push", "tag")
        if summary[action]
    ]
    if not parts:
        parts.append("images to assemble")
    parts.append(f"{summary['keep']:,} kept")
    total = plan_bytes(plan.steps)
    return f"Plan: {', '.join(parts)}{f'; {size(total)}' if total else ''}."


class PlanView:
    """Prints one plan with ``show``; ``verbose`` leaves nothing out."""

    def __init__(self, console: Console, show: Print, *, verbose: bool = False) -> None:
        self._show = show
        self._verbose = verbose
        self._arrow = console.symbols.arrow
        self._dots = console.symbols.dots
        self._width = console.width

    def print(self, plan: Plan) -> None:
        """The whole plan, ending in its summary line."""
        own: dict[str, list[Step]] = defaultdict(list)
        shared: list[Step] = []
        for step in plan.steps:
            if step.action == "keep":
                continue
            if step.kind == BORROWED:
                continue
            if len(step.environments) == 1:
                own[step.environments[0]].append(step)
            else:
                shared.append(step)
        users = {name for step in shared for name in step.environments}
        changed = [
            c
            for c in plan.environments
            if c.action != "no-op" or own[c.target.name] or c.target.name in users
        ]
        for change in changed:
            self._environment(plan, change, own[change.target.name], change.target.name in users)
            self._show()
        self._shared(plan, shared)
        self._borrowed(plan)
        unchanged = len(plan.environments) - len(changed)
        if changed and unchanged:
            self._show(f"{many(unchanged, 'environment')} unchanged.")
        summary = summary_line(plan)
        self._show(Styled(summary, "bold") if plan.changes else summary)
        if plan.environments and not plan.applyable:
            does = "Apply would do this and no more: what" if plan.changes else "What"
            self._show(f"{does} has errors is left out.")

    def _shared(self, plan: Plan, steps: Sequence[Step]) -> None:
        """Steps that several environments wait for, once for each set of environments."""
        groups: dict[tuple[str, ...], list[Step]] = defaultdict(list)
        for step in steps:
            if step.kind not in ("image", "image-index"):
                groups[step.environments].append(step)
        if len(groups) > MOST_GROUPS:
            groups = {(): [step for members in groups.values() for step in members]}
        for names, members in sorted(groups.items(), key=lambda item: -plan_bytes(item[1])):
            who = listed(names, 4) or "several environments"
            self._show(Styled(f"Shared by {who}", "bold"))
            self._steps(plan, members, counted=not names)
            self._show()

    def _borrowed(self, plan: Plan) -> None:
        """What jobs use of registries' catalogues, and is not here."""
        for step in plan.steps:
            if step.kind == BORROWED and step.action == "pull":
                self._show(Styled("+ ", "green"), Styled(step.name, "bold"), f"  {step.reason}")
                self._text("used by its address; its image is pulled, nothing is built")
                self._show()

    def _environment(
        self, plan: Plan, change: EnvironmentChange, steps: list[Step], shares: bool
    ) -> None:
        mark, style = _MARKS[change.action]
        name = f"{change.target.name}:{change.version}"
        head: list[Piece] = [Styled(f"{mark} ", style), Styled(name, "bold"), "  "]
        self._show(*head, self._why(change, steps, shares))
        for step in steps:
            if step.kind == "lock":
                platform = f"{step.name}: " if step.name != change.target.name else ""
                self._text(platform + self._reason(step))
        if change.previous is None:
            self._asked_for(change)
        self._packages(change.packages)
        for step in steps:
            if step.kind in ("image", "image-index") and step.action == "pull":
                about = f", about {size(step.bytes)}" if step.bytes else ""
                self._text(f"its image comes out of the registry{about}: nothing to build")
        layers = [s for s in steps if s.kind not in ("lock", "version", "image", "image-index")]
        if layers:
            self._text(self._to_build(layers))
            self._steps(plan, layers)
        elif shares:
            self._text("what it needs is shared, see below")
        elif any(s.kind in ("image", "image-index") and s.action == "pull" for s in steps):
            pass
        elif change.action != "no-op" and not change.note:
            images = [s for s in steps if s.kind == "image" and s.action == "build"]
            self._text(
                "no layer to build: an image from layers that are there"
                if images
                else "nothing to build: the image is there"
            )

        for step in steps:
            if step.action == "push":
                most = f", up to {size(step.bytes)}" if step.bytes else ""
                self._text(f"to push: {step.reason}{most}")

    def _to_build(self, layers: Sequence[Step]) -> str:
        built = sum(1 for s in layers if s.action == "build")
        pulled = [s for s in layers if s.action == "pull"]
        bases = sum(1 for s in pulled if s.kind not in BUILT_KINDS)
        parts = [f"{many(built, 'layer')} to build"] if built else []
        if bases:
            parts.append(f"{many(bases, 'base image')} to pull")
        if len(pulled) > bases:
            parts.append("results of steps to pull")
        total = plan_bytes(layers)
        return ", ".join(parts) + (f", {size(total)} of inputs:" if total else ":")

    def _why(self, change: EnvironmentChange, steps: Sequence[Step], shares: bool) -> str:
        if change.note:
            return f"{' and '.join(change.changed)} changed; {change.note}"
        if change.action == "create":
            return f"new, {change.target.spec.kind}"
        if change.action == "no-op":
            return f"registered; {_missing(change, steps, shares)}"
        before = f" since version {change.previous.version}" if change.previous else ""
        if not change.changed:
            return f"new version{before}"
        if change.changed == ("name",):
            return "its name in the store's index is lost and will be put back"
        return f"{listed(change.changed)} changed{before}"

    def _asked_for(self, change: EnvironmentChange) -> None:
        packages = change.target.first.lock.packages
        direct = [f"{p.name} {p.version}" for p in packages if p.direct]
        if not packages:
            return
        nested = len(packages) - len(direct)
        text = f"{listed(direct, 10)}"
        if nested:
            text += f"{', with ' if direct else ''}{many(nested, 'nested package')}"
        self._text(text)

    def _packages(self, changes: Sequence[PackageChange]) -> None:
        for line in change_lines(changes, self._arrow, "    "):
            self._show(*line)

    def _steps(self, plan: Plan, steps: Sequence[Step], *, counted: bool = False) -> None:
        """Pulls, then what a builder makes in its order, then the others by size.

        ``counted``: with the number of environments that wait for each.
        """

        def place(step: Step) -> tuple[bool, bool, int, str]:
            built = step.kind in BUILT_KINDS
            name = "" if built else step.name
            return step.action != "pull", not built, -(step.bytes or 0), name

        ordered = sorted(steps, key=place)
        limit = len(ordered) if self._verbose else MOST_STEPS
        if len(ordered) == limit + 1:
            limit += 1
        rows = []
        for step in ordered[:limit]:
            row = [step.action, _title(plan, step), size(step.bytes) if step.bytes else ""]
            users = f", for {many(len(step.environments), 'environment')}" if counted else ""
            rows.append([*row, self._reason(step) + users])
        for line in table(rows, indent="      ", right=(2,)):
            self._show(*line)
        if len(ordered) > limit:
            rest = ordered[limit:]
            reasons = {s.reason for s in rest}
            reason = f", {reasons.pop()}" if len(reasons) == 1 else ""
            total = plan_bytes(rest)
            text = f"{self._dots} and {len(rest):,} more{f' ({size(total)})' if total else ''}"
            self._show("      ", f"{text}{reason} (-v lists them)")

    def _reason(self, step: Step) -> str:
        return step.reason.replace("\N{RIGHTWARDS ARROW}", self._arrow)

    def _text(self, text: str) -> None:
        for line in wrap(text, self._width - 4):
            self._show("    ", line)


def _missing(change: EnvironmentChange, steps: Sequence[Step], shares: bool) -> str:
    """What is to be done about a version that is registered already."""
    if steps and all(s.action == "push" for s in steps) and not shares:
        return "it will be pushed"
    if any(s.reason == "asked to be replaced" for s in steps):
        return "parts of it are built again"
    if shares or any(s.kind != "lock" for s in steps):
        return "parts of it are missing"
    if change.target.first.lockfile_current:
        return "its lock will be recorded here"
    return "its lockfile will be written"


def _title(plan: Plan, step: Step) -> str:
    """What the step makes: a package by name and version, others by kind and name."""
    if step.key in plan.graph:
        node = plan.graph[step.key]
        if node.package is not None:
            pip = " (pip)" if node.package.manager == "pip" else ""
            return f"{node.package.name} {node.package.version}{pip}"
    names = {"layer-group": "layer", "base-image": "base", "docker-step": "step"}
    kind = names.get(step.kind, step.kind)
    room = LONGEST_NAME - len(kind)
    if step.kind == "docker-step" and len(step.name) > room:
        return f"{kind} {step.name[: room - 3]}..."
    name = step.name if len(step.name) <= room else "..." + step.name[-room:]
    return f"{kind} {name}"
