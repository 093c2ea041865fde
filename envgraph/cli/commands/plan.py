"""``plan``: what apply would do, and why; nothing that is kept changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Operand, Signature, Values, nearest
from envgraph.cli.session import Session
from envgraph.errors import Diagnostic, UsageError

if TYPE_CHECKING:
    from envgraph.plan.plan import Plan
    from envgraph.workspace import Workspace

FILES: Final = Operand("FILE", "environment files; default: all of the workspace", "many")
TARGET: Final = Flag("--target", "only this environment (again for more)", "NAME", many="repeat")
REPLACE: Final = Flag("--replace", "build this package or environment again", "NAME", many="repeat")
FOLLOW: Final = Flag("--follow-base", "take what base tags mean now, with the same packages")
EXIT_CHANGES: Final = 2
PLANNING: Final = "Reading files, locks and the store; solving what is not pinned"

SIGNATURE: Final = Signature(
    operands=(FILES,),
    flags=(
        Flag("--out", "save the plan, for `envgraph apply FILE`", "FILE", ("-out", "-o")),
        TARGET,
        REPLACE,
        FOLLOW,
        Flag("--detailed-exitcode", "exit 2 when there are changes, 0 when there are none"),
        Flag("--all-steps", "with --json: what is kept too"),
        Flag("--no-memo", "look at everything anew, even if nothing seems to have changed"),
    ),
    examples=(
        ("envgraph plan", "all environments of this workspace"),
        ("envgraph plan environment.yml", "one file, here or anywhere"),
        ("envgraph plan --out next.plan && envgraph apply next.plan", "do exactly what was shown"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to plan, and how to answer."""

    files: tuple[str, ...]
    out: Path | None
    targets: tuple[str, ...]
    replace: tuple[str, ...]
    follow_base: bool
    detailed_exitcode: bool
    all_steps: bool
    memo: bool


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    out = values.text("--out")
    return Arguments(
        files=values.words("FILE"),
        out=None if out is None else Path(out),
        targets=values.texts("--target"),
        replace=values.texts("--replace"),
        follow_base=values.on("--follow-base"),
        detailed_exitcode=values.on("--detailed-exitcode"),
        all_steps=values.on("--all-steps"),
        memo=not values.on("--no-memo"),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Plan, show, save; 0, or 2 with ``--detailed-exitcode`` when there are changes."""
    with session.open_workspace() as workspace:
        with session.console.status(PLANNING):
            plan = workspace.plan(
                session.paths(arguments.files),
                targets=arguments.targets,
                replace=arguments.replace,
                fresh=not arguments.memo,
                follow_base=arguments.follow_base,
            )
        empty = None if arguments.files else nothing_found(plan, workspace, session, "plan")
        if empty is not None:
            plan = replace(plan, diagnostics=(*plan.diagnostics, empty))
        session.report([d for d in plan.diagnostics if d not in workspace.diagnostics])
        check_replaced(plan, arguments.replace)
        document = json.dumps(plan.to_json(all_steps=arguments.all_steps))
        if session.common.json:
            session.console.raw(document)
        else:
            show_plan(plan, session)
        if arguments.out is not None and not session.problems:
            workspace.save_plan(plan, arguments.out)
            session.console.note(f"Saved to {arguments.out}: envgraph apply {arguments.out}")
        if arguments.memo and not (plan.changes or empty or arguments.all_steps):
            from envgraph.cli.views.diagnostics import plain_text
            from envgraph.cli.views.plan import summary_line

            workspace.remember_nothing_to_do(
                plan,
                human=summary_line(plan) + "\n",
                answer=document + "\n",
                warnings=plain_text(session.notices),
            )
    return EXIT_CHANGES if arguments.detailed_exitcode and plan.changes else 0


def nothing_found(
    plan: Plan, workspace: Workspace, session: Session, verb: str
) -> Diagnostic | None:
    """The remark, or error, that there is no environment file to plan."""
    from envgraph.cli.empty import no_environments

    if plan.environments:
        return None
    return no_environments(workspace.config, verb, session.common.folder)


def check_replaced(plan: Plan, names: Sequence[str]) -> None:
    """UsageError for a name of ``--replace`` that no package and no environment has."""
    known = {node.name for node in plan.graph} | {c.target.name for c in plan.environments}
    for name in names:
        if name not in known:
            guess = nearest(name, known)
            raise UsageError(
                f"--replace {name!r}: no package and no environment here is named so",
                code="unknown-replace",
                hint=f"did you mean {guess}?" if guess else "",
            )


def show_plan(plan: Plan, session: Session) -> None:
    """The human view on stdout."""
    from envgraph.cli.views.plan import PlanView

    console = session.console
    PlanView(console, console.out, verbose=session.common.verbose).print(plan)
