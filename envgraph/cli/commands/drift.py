"""``drift``: what moved since environments were locked; asks, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from envgraph.cli.commands.show import REFERENCE
from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.errors import UsageError

if TYPE_CHECKING:
    from envgraph.model.drift import DriftPolicy

EXIT_FINDINGS: Final = 3
POLICY_NAME: Final = "drift-policy.yaml"

SIGNATURE: Final = Signature(
    operands=(Operand(REFERENCE.name, "environments, or their files; default: all", "many"),),
    flags=(
        Flag("--policy", f"what is tolerated; default: {POLICY_NAME}, if there is one", "FILE"),
    ),
    notes=(
        "Asks where the bases' tags point now, and the channels whether the locked packages are "
        "still there, unchanged, and the newest. Exit 0: nothing moved; 3: there are findings; "
        "1: something could not be asked. The locks stay as they are: `envgraph rebase` and "
        "`envgraph lock --update` move them.",
        f"{POLICY_NAME} may hold max_age_days (of a base; 30), max_behind (newer releases of a "
        "package that are no finding; 0), require_digest (false), and under allow a list of "
        "findings that are accepted: code, environment and package (globs), until (a day), and "
        "the reason.",
    ),
    examples=(
        ("envgraph drift", "all environments of this workspace"),
        ("envgraph drift train --json", "one, for a program"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which versions, and by which policy."""

    references: tuple[str, ...]
    policy: str | None


def references(values: Values) -> tuple[str, ...]:
    """The REFs that were given; UsageError for bytes that no name can hold."""
    words = values.words(REFERENCE.name)
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word!r} is no name: it is not text in UTF-8") from None
    return words


def split_files(words: Sequence[str], session: Session) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Which words name environments, and which are files that define them."""
    files = tuple(
        word for word in words if word.endswith((".yml", ".yaml")) and session.path(word).is_file()
    )
    return tuple(word for word in words if word not in files), session.paths(files)


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(references(values), values.text("--policy"))


def run(arguments: Arguments, session: Session) -> int:
    """Ask and show; 3 with findings, 1 when something could not be asked."""
    policy = _policy(arguments, session)
    asking = session.console.status("Asking where the bases and channels are now")
    with session.open_workspace() as workspace, asking:
        names, files = split_files(arguments.references, session)
        report = workspace.drift(names, policy, files)
    for item in report.skipped:
        detail = f"concerns {', '.join(item.environments)}"
        if item.reason.detail:
            detail += "\n" + item.reason.detail
        session.report([replace(item.reason, severity="error", detail=detail)])
    if session.common.json:
        session.answer(report.to_json())
    else:
        from envgraph.cli.views.drift import show_drift

        show_drift(report, session)
    if report.skipped:
        return 1
    return EXIT_FINDINGS if report.open else 0


def _policy(arguments: Arguments, session: Session) -> DriftPolicy | None:
    path = Path(session.common.folder, POLICY_NAME)
    if arguments.policy is not None:
        path = session.path(arguments.policy)
    elif not path.exists():
        return None
    from envgraph.spec.drift_policy import load_drift_policy

    return load_drift_policy(path)
