"""``share``: a version of an environment by name in a registry's catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envgraph.cli.commands.show import REFERENCE, reference
from envgraph.cli.options import Flag, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.transfer import PARALLELISM, at_once, conclude_push
from envgraph.errors import UsageError

SIGNATURE: Final = Signature(
    operands=(REFERENCE,),
    flags=(
        Flag("--to", "a name of `registries:`, or `registry` for the workspace's own", "REGISTRY"),
        Flag("--claim", "the registry belongs to this workspace from now on: nobody else shares"),
        PARALLELISM,
    ),
    notes=(
        "Other workspaces find it with `envgraph list --registry REGISTRY` and use it as "
        "azureml://registries/REGISTRY/environments/NAME/versions/VERSION. A shared version never "
        "changes; `latest` means what was shared last.",
        "Labels travel with the version that they mean, and so does what is archived: share again "
        "after `label`, `archive` or `restore`, and the catalogue follows, with every move kept "
        "(`envgraph history azureml://registries/REGISTRY/environments/NAME`).",
        "In a registry with an owner only its workspace shares, and for all others what is there "
        "is curated. Names with a reserved prefix are shared in such a registry only. Who may "
        "write at all is for the registry's own accounts to decide.",
    ),
    examples=(
        ("envgraph share train:3 --to shared", "version 3 for everybody who has that registry"),
        ("envgraph share base --to shared --claim", "make it yours while you are at it"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Which version, where to, and whether to become the registry's owner."""

    reference: str
    to: str
    claim: bool
    parallelism: int


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError without a registry."""
    to = values.text("--to")
    if to is None:
        raise UsageError("envgraph share needs --to REGISTRY", hint="a name of `registries:`")
    return Arguments(reference(values), to, values.on("--claim"), at_once(values))


def run(arguments: Arguments, session: Session) -> int:
    """Share; refused where the registry, the name or the version is somebody else's."""
    from envgraph.cli.views.progress import transfer_view

    with session.open_workspace() as workspace, transfer_view(session) as view:
        record, report = workspace.traffic.share(
            arguments.reference,
            to=arguments.to,
            claim=arguments.claim,
            parallelism=arguments.parallelism,
            on_event=view.event,
        )
    return conclude_push(record, report, arguments.to, session, shared=True)
