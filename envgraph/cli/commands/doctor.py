"""``doctor``: what this machine lacks for envgraph, and how to get it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.options import Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.console import Styled, wrap

SIGNATURE: Final = Signature(
    notes=(
        "Looks at this machine and at the store, asks every server of the builder that "
        "envgraph.yaml names (opens no other connection, and none with --offline), and changes "
        "nothing. Exit code 1 when something is missing that envgraph cannot work without; what "
        "only some verbs need is a remark.",
    ),
)

_STYLES: Final = {"ok": "green", "remark": "yellow", "missing": "red"}


@dataclass(frozen=True, slots=True)
class Arguments:
    """There are none."""


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    del values
    return Arguments()


def run(arguments: Arguments, session: Session) -> int:
    """Examine; 1 when something needed is missing."""
    from envgraph.cli.machine import examine

    del arguments
    checks = examine(session)
    good = all(check.status != "missing" for check in checks)
    if session.common.json:
        session.answer({"good": good, "checks": [check.to_json() for check in checks]})
        return 0 if good else 1
    console = session.console
    for check in checks:
        first, *others = wrap(check.summary, console.width - 24)
        console.out(
            Styled(f"{check.status:<7}", _STYLES[check.status]), f"  {check.name:<13}  ", first
        )
        for line in others:
            console.out(" " * 24, line)
        if check.status != "ok" and check.hint:
            for line in wrap(f"to fix: {check.hint}", console.width - 24):
                console.out(" " * 24, line)
    remarks = sum(1 for check in checks if check.status == "remark")
    console.out()
    if not good:
        console.out("envgraph cannot work here as it is.")
    elif remarks:
        console.out("envgraph works here; some verbs need what the remarks name.")
    else:
        console.out("envgraph works here, all of it.")
    return 0 if good else 1
