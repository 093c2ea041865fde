"""Environments of registries that jobs and deployments name: which of them have to be pulled.

They are used by their address and become no version of this workspace. A version that is
in the store is asked about no more; what a label means is asked each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from envgraph.api.registry import RegistryError
from envgraph.errors import Diagnostic, EnvgraphError, OfflineError
from envgraph.history.shelf import Shelf
from envgraph.interchange.catalogue import LATEST, Catalogue
from envgraph.model.canonical import node_key
from envgraph.plan.plan import Plan
from envgraph.plan.steps import BORROWED, Borrowed, Step
from envgraph.refresh.remote import Mapper
from envgraph.spec.references import EnvironmentReference
from envgraph_store import Store

if TYPE_CHECKING:
    from envgraph.registry.remotes import Remotes
    from envgraph.spec.job_files import UsedReference


@dataclass(slots=True)
class Borrowing:
    """The steps about borrowed environments, what apply pulls, and every problem.

    ``moving``: a label was asked about, so the answer may be another one tomorrow.
    """

    steps: list[Step] = field(default_factory=list)
    pulls: list[Borrowed] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    moving: bool = False

    def add_to(self, plan: Plan) -> Plan:
        """The plan with these steps."""
        if not self.steps:
            return plan
        steps = (*plan.steps, *self.steps)
        return replace(plan, steps=steps, borrowed=tuple(self.pulls))


def borrow(
    store: Store,
    workspace_id: str,
    references: Sequence[UsedReference],
    remotes: Callable[[], Remotes],
    mapper: Mapper,
) -> Borrowing:
    """Look for each environment of a registry once, in the store and then there.

    A registry that is not there, or gives no answer, and a version that it does not have
    are errors at the reference's place. With ``--offline`` what the store knows is taken.
    """
    found = Borrowing()
    by_reference: dict[EnvironmentReference, UsedReference] = {}
    for used in references:
        if used.reference.registry:
            by_reference.setdefault(used.reference, used)
    shelf = Shelf(store, workspace_id)

    def look(reference: EnvironmentReference) -> Step | tuple[Step, Borrowed] | EnvgraphError:
        try:
            return _look(shelf, reference, remotes)
        except EnvgraphError as error:
            return error

    answers = mapper(look, list(by_reference))
    for (reference, used), answer in zip(by_reference.items(), answers, strict=True):
        found.moving |= reference.version is None
        if isinstance(answer, EnvgraphError):
            found.problems += (_problem(d, used) for d in answer.diagnostics)
        elif isinstance(answer, Step):
            found.steps.append(answer)
        else:
            found.steps.append(answer[0])
            found.pulls.append(answer[1])
    found.steps = list({step.key: step for step in found.steps}.values())
    return found


def _look(
    shelf: Shelf, reference: EnvironmentReference, remotes: Callable[[], Remotes]
) -> Step | tuple[Step, Borrowed]:
    registry, name = reference.registry, reference.name
    label = None if reference.version is not None else reference.label or LATEST
    here = shelf.find(registry, name, reference.version, label)
    if here is not None and reference.version is not None:
        return _step(registry, name, here.version, here=True)
    try:
        catalogue = Catalogue(remotes().named(registry))
        artifact = catalogue.meant(name, reference.version, label)
    except OfflineError as error:
        if here is not None:
            return _step(registry, name, here.version, here=True)
        raise OfflineError(
            f"{reference} is not in the store, and --offline asks no registry",
            hint=f"run `envgraph pull {reference}` once without --offline",
        ) from error
    except RegistryError as error:
        if here is not None:
            return _step(registry, name, here.version, here=True)
        [first, *_] = error.diagnostics
        raise RegistryError(
            f"the registry {registry!r} could not be asked for {name!r}: {first.summary}",
            code=first.code,
            detail=first.detail,
            hint=first.hint,
        ) from error
    version = catalogue.fetch(name, artifact).record.version
    if here is not None and here.version == version:
        return _step(registry, name, version, here=True)
    return _step(registry, name, version), Borrowed(registry, name, version, label)


def _step(registry: str, name: str, version: str, *, here: bool = False) -> Step:
    key = node_key("borrowed", {"registry": registry, "name": name, "version": version})
    title = f"{name}:{version}"
    if here:
        return Step(key, BORROWED, title, "keep", f"of {registry!r}, in the store", None, ())
    return Step(key, BORROWED, title, "pull", f"comes from the registry {registry!r}", None, ())


def _problem(problem: Diagnostic, used: UsedReference) -> Diagnostic:
    return replace(
        problem, summary=f"{used.where}: {problem.summary}", source=problem.source or used.source
    )
