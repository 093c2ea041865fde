"""``edit``: change an environment in the user's editor; nothing that is typed gets lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.options import Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import Diagnostic, EnvgraphError, InputError

if TYPE_CHECKING:
    from envgraph.apply.editing import Draft, Editing
    from envgraph.model.records import VersionRecord

NEW: Final = Operand("NEW", "make another environment of this name from it", "optional")
SIGNATURE: Final = Signature(
    operands=(REFERENCE, NEW),
    notes=(
        "Opens $VISUAL, else $EDITOR, on a draft of the environment's file; where the file is gone "
        "it is written from the version. When the editor ends the draft is checked: with errors it "
        "is opened again, and what is good takes the file's place. A draft that is left behind is "
        "named, and the next edit goes on with it.",
        "With NEW the environment stays as it is and another one begins as its copy, with its "
        "parent in the history. A curated environment, one of a registry, and one of a job can be "
        "edited under a new name only. Nothing is registered before `envgraph apply`.",
    ),
    examples=(
        ("envgraph edit train", "its next version, in your editor"),
        ("EDITOR='code --wait' envgraph edit train train-gpu", "another one that begins as train"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What to edit, and how the result is called."""

    reference: str
    name: str | None


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    name = None if values.word(NEW.name) is None else reference(values, NEW)
    return Arguments(reference(values), name)


def run(arguments: Arguments, session: Session) -> int:
    """Edit until it is good; InputError with every problem where nobody can be asked."""
    from envgraph.cli.editor import find_editor

    editor = find_editor(session.environment)
    with session.open_workspace() as workspace:
        editing, draft, record = workspace.versions.edit(arguments.reference, arguments.name)
        if draft.resumed:
            session.console.note(f"going on with the draft {draft.path}")
        if not _edited(editor, editing, draft, session):
            return 0
        _finish(editing, draft, record, session)
    return 0


def _edited(editor: list[str], editing: Editing, draft: Draft, session: Session) -> bool:
    """Let the user edit until the draft is good; False where nothing was changed."""
    from envgraph.cli.editor import open_editor
    from envgraph.cli.views.diagnostics import print_diagnostics

    while True:
        try:
            open_editor(editor, draft.path)
        except EnvgraphError as error:
            if not editing.is_changed(draft):
                editing.discard(draft)
                raise
            raise InputError([*error.diagnostics, _kept(draft)]) from error
        if not editing.is_changed(draft):
            editing.discard(draft)
            _unchanged(draft, session)
            return False
        problems = editing.problems(draft)
        if not problems:
            return True
        if session.common.json or not _somebody_is_there(session):
            raise InputError([*problems, _kept(draft)])
        print_diagnostics(session.console, problems)
        session.console.prompt("Edit it again? (yes/no) ")
        if session.stdin.readline().strip().lower() not in ("yes", "y", ""):
            raise InputError([_kept(draft)])


def _kept(draft: Draft) -> Diagnostic:
    return Diagnostic(
        "draft-kept",
        f"{draft.file} was not changed; what was typed is kept in {draft.path}",
        hint="`envgraph edit` goes on with it; remove it to begin anew",
    )


def _somebody_is_there(session: Session) -> bool:
    try:
        return session.stdin.isatty()
    except ValueError:
        return False


def _unchanged(draft: Draft, session: Session) -> None:
    if session.common.json:
        session.answer({"name": draft.name, "file": str(draft.file), "changed": False})
        return
    session.console.out("Nothing was changed.")
    session.console.note("An editor that returns at once has to be told to wait: code --wait")


def _finish(editing: Editing, draft: Draft, record: VersionRecord, session: Session) -> None:
    made = editing.finish(replace(draft), record)
    if session.common.json:
        session.answer(
            {
                "name": made.name,
                "file": str(made.file),
                "changed": True,
                "parent": made.parent,
                "lockfile": None if made.lockfile is None else str(made.lockfile),
            }
        )
        return
    show = session.console.out
    show("wrote ", str(made.file))
    if made.lockfile is not None:
        show("wrote ", str(made.lockfile))
    for path in draft.reads:
        show("it reads ", path, ", which this did not open")
    show("Next: envgraph plan")
