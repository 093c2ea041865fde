"""``pull``: a version of an environment out of a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.transfer import PARALLELISM, at_once, show_pulled

SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    flags=(
        Flag("--from", "a name of `registries:`; default: the workspace's own", "REGISTRY"),
        PARALLELISM,
    ),
    notes=(
        "What is shared in the registry becomes a version of this workspace; what is curated "
        "stays the registry's and is used by its address. A version that this workspace has "
        "gets its image back. Every layer is verified, and the image is made anew from them and "
        "from the lock: unless that is the registry's, nothing is kept.",
    ),
    examples=(
        ("envgraph pull train:3 --from shared", "version 3 of what is shared there"),
        ("envgraph pull azureml://registries/shared/environments/train/labels/latest", "the same"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which version, and where from."""

    reference: str
    source: str | None
    parallelism: int


def read(values: Values) -> Arguments:
    """The verb's arguments."""
    return Arguments(reference(values), values.text("--from"), at_once(values))


def run(arguments: Arguments, session: Session) -> int:
    """Pull; NotFoundError when the registry has no such version."""
    from envgraph.cli.views.progress import transfer_view

    with session.open_workspace() as workspace, transfer_view(session) as view:
        pulled = workspace.traffic.pull(
            arguments.reference,
            source=arguments.source,
            parallelism=arguments.parallelism,
            on_event=view.event,
        )
    show_pulled([pulled], session)
    return 0
