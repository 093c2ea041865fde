"""``rebase``: the same packages on a patched base; no solve, no layer, a manifest and a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envgraph.cli.commands.apply import AUTO_APPROVE, PARALLELISM, approved, carry_out, conclude
from envgraph.cli.commands.drift import references, split_files
from envgraph.cli.commands.show import REFERENCE
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.text import many
from envgraph.errors import EnvgraphError, UsageError

if TYPE_CHECKING:
    from envgraph.apply.apply import ApplyResult
    from envgraph.plan.plan import Plan
    from envgraph.refresh.rebase import Rebase
    from envgraph.workspace import Workspace

SIGNATURE: Final = Signature(
    operands=(Operand(REFERENCE.name, "environments, or their files", "many"),),
    flags=(
        Flag("--all", "every environment whose base can move"),
        Flag("--on", "of those named, or of all, what stands on this base", "OLD_BASE"),
        Flag("--base", "the new base; default: what each one's own tag means now", "IMAGE"),
        Flag("--dry-run", "show the plan, do nothing"),
        AUTO_APPROVE,
        PARALLELISM,
    ),
    notes=(
        "The packages stay, byte for byte: the image gets a new manifest and config, and a base in "
        "a registry is not downloaded. It is a new version with a new lock, and the next "
        "`envgraph plan` has nothing to do. Docker steps run again on the new base, so they need a "
        "builder; a build context says itself what it stands on.",
        "With --base the `image:` of each environment file is changed in place, and nothing else "
        "in it.",
    ),
    examples=(
        ("envgraph rebase train", "onto what its base's tag means now"),
        ("envgraph rebase --on python:3.12", "everything on that image"),
        ("envgraph rebase train --base python:3.13-slim", "onto another image"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to rebase, onto what, and how."""

    references: tuple[str, ...]
    on: str | None
    base: str | None
    dry_run: bool
    auto_approve: bool
    parallelism: int


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError where it is not said what to rebase."""
    named = references(values)
    on, base = values.text("--on"), values.text("--base")
    if named and values.on("--all"):
        raise UsageError("--all takes every environment: name none")
    if not named and not values.on("--all") and on is None:
        raise UsageError(
            "envgraph rebase needs environments",
            hint="name them, or give --all, or --on OLD_BASE for all that stand on it",
        )
    return Arguments(
        named,
        _text(on, "--on"),
        _text(base, "--base"),
        values.on("--dry-run"),
        values.on("--auto-approve"),
        int(values.text("--parallelism") or 0),
    )


def _text(word: str | None, flag: str) -> str | None:
    try:
        (word or "").encode()
    except UnicodeEncodeError:
        raise UsageError(f"{flag} {word!r} is not text in UTF-8") from None
    return word


def run(arguments: Arguments, session: Session) -> int:
    """Plan, show, ask, apply, edit; what cannot be rebased stops no other, and is exit 1."""
    with session.open_workspace() as workspace:
        with session.console.status("Reading locks and the new base"):
            names, files = split_files(arguments.references, session)
            plan, rebase = workspace.plan_rebase(names, files, on=arguments.on, base=arguments.base)
        session.report([d for d in plan.diagnostics if d not in workspace.diagnostics])
        if plan.changes or rebase.edits:
            session.report(rebase.remarks)
        if arguments.dry_run or not (plan.changes or rebase.edits):
            return _show(plan, rebase, session)
        if not approved(plan, session, ask=not arguments.auto_approve, note=_edits_note(rebase)):
            return 1
        result = carry_out(plan, arguments.parallelism, session, workspace)
        written = _write_edits(rebase, result, workspace, session)
    return conclude(result, plan, session, {"edits": written, "unchanged": list(rebase.unchanged)})


def _write_edits(
    rebase: Rebase, result: ApplyResult, workspace: Workspace, session: Session
) -> list[Mapping[str, object]]:
    """Change the files of what was registered: from then on they say what the lock says."""
    done = {str(item["name"]) for item in result.environments}
    written: list[Mapping[str, object]] = []
    for name, edit in rebase.edits.items():
        if name not in done:
            continue
        try:
            edit.write()
            written.append(edit.to_json())
        except EnvgraphError as error:
            session.report(error.diagnostics)
    return written


def _show(plan: Plan, rebase: Rebase, session: Session) -> int:
    from envgraph.cli.commands.plan import show_plan

    edits = [edit.to_json() for edit in rebase.edits.values()]
    if session.common.json:
        session.answer(plan.to_json() | {"edits": edits, "unchanged": list(rebase.unchanged)})
    elif plan.changes or rebase.edits or session.problems:
        show_plan(plan, session)
        if note := _edits_note(rebase):
            session.console.out(note)
    elif not rebase.unchanged:
        session.console.out("No changes. No environment stands on that base.")
    else:
        on = many(len(rebase.unchanged), "environment")
        stand = "stands" if len(rebase.unchanged) == 1 else "stand"
        session.console.out(f"No changes. {on} {stand} on the base already.")
    return 0


def _edits_note(rebase: Rebase) -> str:
    edits = list(rebase.edits.values())
    if not edits:
        return ""
    if len(edits) == 1:
        [edit] = edits
        return f"{edit.source.file}:{edit.source.line} will say `image: {edit.new}`."
    return f"{many(len(edits), 'environment file')} will say `image: {edits[0].new}`."
