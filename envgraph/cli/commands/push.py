"""``push``: a version of an environment into a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.transfer import PARALLELISM, at_once, conclude_push

SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    flags=(
        Flag("--to", "a name of `registries:`; default: the workspace's own", "REGISTRY"),
        PARALLELISM,
    ),
    notes=(
        "Layers that the registry has are not sent again, and those of a base that lies in it are "
        "mounted. The version's tag comes last: a push that broke off is finished by the next "
        "one, and nobody sees half of it. `envgraph apply` pushes by itself what it has made.",
    ),
    examples=(
        ("envgraph push train", "the newest version into the workspace's registry"),
        ("envgraph push train:3 --to shared", "version 3 into another one"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which version, and where to. ``to`` None: the workspace's registry."""

    reference: str
    to: str | None
    parallelism: int


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values), values.text("--to"), at_once(values))


def run(arguments: Arguments, session: Session) -> int:
    """Push; NotFoundError when there is no such version or registry."""
    from envgraph.cli.views.progress import transfer_view

    with session.open_workspace() as workspace, transfer_view(session) as view:
        record, report = workspace.traffic.push(
            arguments.reference,
            to=arguments.to,
            parallelism=arguments.parallelism,
            on_event=view.event,
        )
    return conclude_push(record, report, arguments.to, session)
