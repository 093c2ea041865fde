"""``apply``: make it so; asks first where there is somebody to ask."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from envgraph.cli.commands.plan import (
    FOLLOW,
    PLANNING,
    REPLACE,
    TARGET,
    check_replaced,
    nothing_found,
)
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.diagnostics import print_diagnostics, redacted
from envgraph.errors import Diagnostic, UsageError

if TYPE_CHECKING:
    from envgraph.apply.apply import ApplyResult
    from envgraph.plan.plan import Plan
    from envgraph.plan.planfile import SavedPlan
    from envgraph.workspace import Workspace


def at_least_one(text: str) -> int:
    """A number of threads; ValueError for a text that is none."""
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ValueError("not a whole number from 1 to 1024")
    return int(text)


AUTO_APPROVE: Final = Flag("--auto-approve", "do not ask", aliases=("-y",))
PARALLELISM: Final = Flag(
    "--parallelism", "steps at a time; default: one for each processor", "N", check=at_least_one
)
SIGNATURE: Final = Signature(
    operands=(Operand("FILE", "environment files, or one saved plan; default: all", "many"),),
    flags=(
        AUTO_APPROVE,
        PARALLELISM,
        TARGET,
        REPLACE,
        FOLLOW,
    ),
    notes=(
        "Asks before it does anything, if there is a terminal to ask on. A saved plan is not "
        "asked about: it was looked at. Ctrl-C lets the running steps finish and starts no new "
        "ones; a second Ctrl-C stops at once. What was built is kept, and the next apply goes on.",
    ),
    examples=(
        ("envgraph apply", "all environments of this workspace"),
        ("envgraph apply environment.yml --auto-approve", "one file, without a question"),
        ("envgraph apply next.plan", "a plan that `envgraph plan --out next.plan` saved"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to apply, and how. ``parallelism`` 0: one thread for each processor."""

    files: tuple[str, ...]
    targets: tuple[str, ...]
    replace: tuple[str, ...]
    auto_approve: bool
    parallelism: int
    follow_base: bool = False


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(
        files=values.words("FILE"),
        targets=values.texts("--target"),
        replace=values.texts("--replace"),
        auto_approve=values.on("--auto-approve"),
        parallelism=int(values.text("--parallelism") or 0),
        follow_base=values.on("--follow-base"),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Plan, ask, apply, report; one environment that fails does not stop the others."""
    saved = _saved_plan(arguments, session)
    with session.open_workspace() as workspace:
        with session.console.status(PLANNING):
            plan = _plan(arguments, session, workspace, saved)
        if saved is None and _takes_moved_bases(plan, arguments, session):
            arguments = replace(arguments, follow_base=True)
            with session.console.status(PLANNING):
                plan = _plan(arguments, session, workspace, None)
        if not arguments.files and (empty := nothing_found(plan, workspace, session, "apply")):
            plan = replace(plan, diagnostics=(*plan.diagnostics, empty))
        session.report([d for d in plan.diagnostics if d not in workspace.diagnostics])
        check_replaced(plan, arguments.replace)
        if not plan.changes:
            return _nothing_to_do(plan, session, workspace)
        if not approved(plan, session, ask=saved is None and not arguments.auto_approve):
            return 1
        result = carry_out(plan, arguments.parallelism, session, workspace)
    return conclude(result, plan, session)


def conclude(
    result: ApplyResult, plan: Plan, session: Session, more: Mapping[str, object] = {}
) -> int:
    """Report what was done and return the exit code; ``more`` goes into the JSON answer."""
    session.report(result.diagnostics)
    for failure in result.failures:
        session.report(failure.diagnostics)
    _report(result, plan, session, more)
    if result.interrupted:
        if not session.common.json:
            print_diagnostics(session.console, session.problems)
        raise KeyboardInterrupt
    return max((failure.exit_code for failure in result.failures), default=0)


def _plan(
    arguments: Arguments, session: Session, workspace: Workspace, saved: SavedPlan | None
) -> Plan:
    if saved is not None:
        return workspace.plan(saved=saved)
    return workspace.plan(
        session.paths(arguments.files),
        targets=arguments.targets,
        replace=arguments.replace,
        follow_base=arguments.follow_base,
    )


def _takes_moved_bases(plan: Plan, arguments: Arguments, session: Session) -> bool:
    """Ask whether to take bases that have moved (``base_images: ask``), if there is somebody."""
    if arguments.auto_approve or not _somebody_is_there(session):
        return False
    moved = [d for d in plan.diagnostics if d.code == "base-moved"]
    if not moved:
        return False
    print_diagnostics(session.console, moved)
    return _says_yes("Take the moved bases? (yes/no) ", session)


def _says_yes(question: str, session: Session) -> bool:
    session.console.prompt(question)
    answer = session.stdin.readline()
    if not answer.endswith("\n"):
        session.console.err()
    return answer.strip().lower() in ("yes", "y")


def _saved_plan(arguments: Arguments, session: Session) -> SavedPlan | None:
    paths = session.paths(arguments.files)
    if not paths:
        return None
    from envgraph.plan.planfile import is_plan_file, load_plan

    plans = [path for path in paths if is_plan_file(path)]
    if not plans:
        return None
    if len(paths) > 1 or arguments.targets or arguments.replace or arguments.follow_base:
        raise UsageError(
            f"{plans[0]} is a saved plan: it says itself what to apply",
            hint="give it alone, without --target, --replace or --follow-base",
        )
    return load_plan(plans[0])


def _nothing_to_do(plan: Plan, session: Session, workspace: Workspace) -> int:
    from envgraph.cli.views.plan import summary_line

    if session.common.json:
        result = workspace.apply(plan, parallelism=1, on_event=lambda event: None)
        _report(result, plan, session)
    else:
        session.console.out(summary_line(plan))
    return 0


def approved(plan: Plan, session: Session, *, ask: bool, note: str = "") -> bool:
    """Show the plan and ask, where there is somebody; what is asked about is always shown.

    ``note`` stands below the plan. An answer that is not yes is reported.
    """
    from envgraph.cli.views.plan import PlanView

    console = session.console
    ask = ask and _somebody_is_there(session)
    if ask or not (session.common.json or session.common.quiet):
        PlanView(console, console.err, verbose=session.common.verbose).print(plan)
        if note:
            console.err(note)
    if not ask:
        return True
    console.err()
    if _says_yes("Apply this? (yes/no) ", session):
        return True
    session.report([Diagnostic("not-approved", "not applied: the answer was not yes")])
    return False


def _somebody_is_there(session: Session) -> bool:
    try:
        return session.stdin.isatty() and os.isatty(2)
    except ValueError:
        return False


def carry_out(plan: Plan, parallelism: int, session: Session, workspace: Workspace) -> ApplyResult:
    """Apply with progress; ``parallelism`` 0: one thread for each processor."""
    from envgraph.cli.views.progress import progress_view

    parallelism = parallelism or os.cpu_count() or 1
    with progress_view(session, plan) as view:
        return workspace.apply(plan, parallelism=parallelism, on_event=view.event)


def _report(
    result: ApplyResult, plan: Plan, session: Session, more: Mapping[str, object] = {}
) -> None:
    if session.common.json:
        said = [redacted(d) for d in (*session.problems, *session.notices)]
        session.console.raw(json.dumps({**result.to_json(), **more, "diagnostics": said}))
        return
    from envgraph.cli.views.progress import show_result

    show_result(result, plan, session)
