"""``store gc --registry``: images that nothing here needs, listed, and deleted when asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from envgraph.cli.views.text import many, moment, size, table
from envgraph.errors import EnvgraphError
from envgraph.refresh.stepgarbage import UnneededSteps

if TYPE_CHECKING:
    from envgraph.cli.session import Session
    from envgraph.refresh.garbage import RegistryGarbage, UnneededImage
    from envgraph.workspace import Workspace

    Unneeded = UnneededImage | UnneededSteps


def collect_in_registry(
    workspace: Workspace, session: Session, *, grace_days: float, dry_run: bool, delete: bool
) -> int:
    """List, ask (unless ``delete`` says yes or ``dry_run`` no), delete; 1 when one stays."""
    with session.console.status("Looking at the images in the registry"):
        found = workspace.registry_garbage(grace_days=grace_days)
    if not session.common.json:
        _show(found, session)
    unneeded: tuple[Unneeded, ...] = (*found.unneeded, *found.steps)
    wanted = bool(unneeded) and not dry_run
    doomed = unneeded if wanted and (delete or _confirmed(found, session)) else ()
    deleted = [item for item in doomed if _delete(item, workspace, session)]
    images = [item for item in deleted if not isinstance(item, UnneededSteps)]
    steps = [item for item in deleted if isinstance(item, UnneededSteps)]
    if session.common.json:
        session.answer(_document(found, images, steps, dry_run=dry_run))
    elif doomed:
        also = f" and {many(len(steps), 'recipe')} of docker steps" if found.steps else ""
        session.console.out(f"{many(len(images), 'image')}{also} deleted.")
        session.console.note("The registry frees their bytes when it collects its garbage.")
    elif wanted:
        session.console.note("Nothing was deleted. To delete them: add --delete")
    return 0 if len(deleted) == len(doomed) else 1


def _delete(item: Unneeded, workspace: Workspace, session: Session) -> bool:
    try:
        workspace.delete_from_registry(item)
    except EnvgraphError as error:
        session.report([d for d in error.diagnostics if d not in session.problems])
        return False
    return True


def _confirmed(found: RegistryGarbage, session: Session) -> bool:
    """Whether somebody is there and types how many images are to go."""
    try:
        if session.common.json or not (session.stdin.isatty() and os.isatty(2)):
            return False
    except ValueError:
        return False
    count = len(found.unneeded) + len(found.steps)
    session.console.prompt(f"To delete them from {found.title}, type their number ({count}): ")
    answer = session.stdin.readline()
    if not answer.endswith("\n"):
        session.console.err()
    return answer.strip().replace(",", "") == str(count)


def _document(
    found: RegistryGarbage,
    deleted: list[UnneededImage],
    steps: list[UnneededSteps],
    *,
    dry_run: bool,
) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "registry": found.title,
        "unneeded": [item.to_json() for item in found.unneeded],
        "deleted": [str(item.image) for item in deleted],
        "steps": [item.to_json() for item in found.steps],
        "deleted_steps": [str(item.artifact) for item in steps],
        "needed": found.needed,
        "young": found.young,
        "foreign": found.foreign,
        "unknown": found.unknown,
    }


def _show(found: RegistryGarbage, session: Session) -> None:
    show = session.console.out
    rows = [
        [
            f"{item.environment}:{item.version}",
            item.image.hex[:12],
            "" if item.size is None else size(item.size),
            moment(item.created)[:10],
        ]
        for item in found.unneeded
    ]
    reasons = ["", *(f"  {item.reason}" for item in found.unneeded)]
    header = ["VERSION", "IMAGE", "SIZE", "CREATED"] if rows else ()
    for line, reason in zip(table(rows, header=header, right=(2,)), reasons, strict=False):
        show(*line)
        if reason:
            show(reason)
    needed = f"{found.needed:,} needed"
    needed += f", {found.young:,} too young to judge" if found.young else ""
    needed += f", {found.foreign:,} of other workspaces" if found.foreign else ""
    needed += f", {found.unknown:,} unreadable" if found.unknown else ""
    count = len(found.unneeded)
    are = "is" if count == 1 else "are"
    show(f"{many(count, 'image')} of this workspace in {found.title} {are} not needed; {needed}.")
    if found.steps:
        steps = many(len(found.steps), "recipe")
        size_of = size(sum(item.size for item in found.steps))
        show(f"{steps} of docker steps, {size_of}, that no image there begins with any more.")
    show("Untagged images cannot be seen; their bytes are the registry's to collect.")
