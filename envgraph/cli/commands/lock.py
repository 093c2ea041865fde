"""``lock``: the committed lockfiles: write, check, move one package."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from envgraph.cli.commands.plan import FILES, PLANNING
from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import UsageError

if TYPE_CHECKING:
    from envgraph.apply.locking import LockReport
    from envgraph.model.config import WorkspaceConfig

SIGNATURE: Final = Signature(
    operands=(FILES,),
    flags=(
        Flag("--check", "write nothing; exit 1 if a lock is missing or stale"),
        Flag("--update-base", "take what the tag of the base image means now, keep the packages"),
        Flag("--update-context", "take what the branch or address of a build context has now"),
        Flag("--update", "move these packages only, keep all others", "PKG", many="list"),
    ),
    notes=(
        "Lockfiles are locks/NAME.conda-lock.yml in the workspace folder, in conda-lock's format: "
        "commit them. What is pinned stays pinned, whatever the channel has by now; --update moves "
        "the named packages and what they force to move; --update-base the base image; "
        "--update-context the commit, or the archive, of a build context.",
    ),
    examples=(
        ("envgraph lock", "write what is missing"),
        ("envgraph lock --check", "for CI: does the lock fit the environment?"),
        ("envgraph lock --update numpy scipy", "newer versions of these two"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which environments, and what to do with their locks."""

    files: tuple[str, ...]
    check: bool
    update: tuple[str, ...]
    update_base: bool = False
    update_context: bool = False


def read(values: Values) -> Arguments:
    """The verb's arguments; ``--update a,b`` is the same as ``--update a b``."""
    update = tuple(
        name for word in values.texts("--update") for name in word.lower().split(",") if name
    )
    base = values.on("--update-base")
    context = values.on("--update-context")
    if (update or base or context) and values.on("--check"):
        raise UsageError("--check writes nothing, so it excludes --update, --update-base and"
                         " --update-context")  # fmt: skip
    return Arguments(values.words("FILE"), values.on("--check"), update, base, context)


def run(arguments: Arguments, session: Session) -> int:
    """Lock, or check; 1 when an environment could not be locked or a check fails."""
    with session.open_workspace() as workspace, session.console.status(PLANNING):
        report = workspace.lock(
            session.paths(arguments.files),
            update=arguments.update,
            update_base=arguments.update_base,
            update_context=arguments.update_context,
            check=arguments.check,
        )
        if not (arguments.files or report.entries):
            report = _with_remark(report, workspace.config, session)
    if session.common.json:
        errors = [d for d in report.diagnostics if d.severity == "error"]
        session.notices += [d for d in report.diagnostics if d.severity != "error"]
        session.answer({"good": report.good, "locks": [e.to_json() for e in report.entries]})
        session.problems += errors
    else:
        session.report(report.diagnostics)
        _show(report, session)
    return 0 if report.good else 1


def _with_remark(report: LockReport, config: WorkspaceConfig, session: Session) -> LockReport:
    from envgraph.cli.empty import no_environments

    empty = no_environments(config, "lock", session.common.folder)
    if empty is None:
        return report
    return replace(report, diagnostics=(*report.diagnostics, empty))


def _show(report: LockReport, session: Session) -> None:
    from envgraph.cli.views.changes import change_lines
    from envgraph.cli.views.diagnostics import place
    from envgraph.errors import SourceLocation

    show = session.console.out
    width = max((len(entry.name) for entry in report.entries), default=0)
    for entry in report.entries:
        show(f"{entry.name:<{width}}  {entry.status:<9}  ", place(SourceLocation(str(entry.path))))
        for before, now in entry.moves:
            arrow = session.console.symbols.arrow
            show(f"  ~ base {now.reference} {before.short} {arrow} {now.short}")
        if entry.context is not None:
            old, new = entry.context
            arrow = session.console.symbols.arrow
            show(f"  ~ context {new.address} {old.short} {arrow} {new.short}")
        for line in change_lines(entry.changes, session.console.symbols.arrow, "  "):
            show(*line)
