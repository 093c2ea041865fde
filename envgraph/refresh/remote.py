"""Look at the workspace's registry: which images it has, asked once and all together.

What is known to be there is remembered in the store's memo for a day, so a plan with
nothing to do asks nothing. Memos are hints: they are never what an image is pulled by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from envgraph.api.registry import RegistryError
from envgraph.errors import Diagnostic, EnvgraphError
from envgraph.model.canonical import NodeKey
from envgraph.model.config import Provider
from envgraph.model.graph import BuildGraph
from envgraph.model.oci import DOCUMENT_LIMIT, OCI_IMAGE_MANIFEST, Manifest, read_document
from envgraph.plan.inventory import Inventory, RegistryView
from envgraph.plan.plan import EnvironmentChange, change_of
from envgraph.plan.steps import is_built
from envgraph.plan.target import Target
from envgraph.refresh.pushmemo import PushMemo
from envgraph.refresh.remotesteps import ask_for_steps, lacking_steps
from envgraph.registry.names import STEPS_REPOSITORY, key_tag, version_tag
from envgraph.registry.remotes import Remote
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError

_T = TypeVar("_T")
_R = TypeVar("_R")


class Mapper(Protocol):
    """``map``, or that of a pool of threads."""

    def __call__(self, call: Callable[[_T], _R], items: Iterable[_T], /) -> Iterable[_R]:
        """The results in the order of the items."""
        ...


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked about one version. ``image`` is None where the store lacks it.

    The version's tag is asked first where the image is known: it comes last in a push,
    so it says that everything is there. Else the key's tag tells which image it is.
    """

    repository: str
    version: str
    key: NodeKey
    image: Digest | None = None


@dataclass(frozen=True, slots=True)
class _Answer:
    """The image that the registry has, and whether the version's tag shows it."""

    image: Digest | None
    whole: bool = False


def look_at_registry(
    remote: Callable[[], Remote],
    provider: Provider,
    store: Store,
    graph: BuildGraph,
    targets: Sequence[Target],
    inventory: Inventory,
    *,
    now: datetime,
    offline: bool,
    fresh: bool = False,
    mapper: Mapper = map,
) -> tuple[Inventory, tuple[Diagnostic, ...]]:
    """The inventory with what the registry has; remarks where it could not be asked.

    For an image that is here one request (two where its version's tag belongs to another
    image), for one that is not one or two, all in one go; and then for docker steps of
    images that it has not (:mod:`envgraph.refresh.remotesteps`). ``fresh``: what is remembered
    counts for nothing, so what was found wrong is tried again. ``offline``: nothing is asked,
    and only what is remembered is known.
    """
    memo = PushMemo(store, provider, now)
    whole: set[str] = set()
    questions: dict[str, _Question] = {}
    for target in targets:
        change = change_of(target, inventory)
        if change.is_refused:
            continue
        question = _question(change, inventory)
        if question.image is not None and not fresh and _is_known(question, memo):
            whole.add(target.name)
        else:
            questions[target.name] = question
    trusts = provider.trust_steps
    view = RegistryView(whole=frozenset(whole), offline=offline, trusts_steps=trusts)
    remarks: tuple[Diagnostic, ...] = ()
    if offline and questions:
        remarks = (_offline(len(questions)),)
    elif questions:
        if fresh:
            for name in (STEPS_REPOSITORY, *(q.repository for q in questions.values())):
                memo.clear(name)
        try:
            asked = remote()
            answers = _ask(asked, set(questions.values()), memo, mapper)
            view = _answered(view, questions, answers, memo)
            if trusts:
                wanted = [target for target in targets if target.name in questions]
                chains = lacking_steps(graph, wanted, inventory, view.images)
                view = replace(view, steps=ask_for_steps(asked, chains, memo, mapper))
        except RegistryError as error:
            view = replace(view, silent=str(error))
            remarks = (_silent(error),)
    unsent = [t for t in targets if t.name in questions and t.name not in view.whole]
    sizes = {t.name: _size(store, graph, t, inventory) for t in unsent}
    images = dict(inventory.images)
    images |= {
        key: digest
        for key, digest in view.images.items()
        if key not in images and (trusts or not is_built(graph, key))
    }
    return replace(inventory, images=images, registry=replace(view, sizes=sizes)), remarks


def _question(change: EnvironmentChange, inventory: Inventory) -> _Question:
    target = change.target
    image = inventory.images.get(target.image) if target.image in inventory.built else None
    return _Question(target.image_name, change.version, target.image, image)


def _is_known(question: _Question, memo: PushMemo) -> bool:
    assert question.image is not None
    tags = (version_tag(question.version), version_tag(question.version, question.image))
    return any(memo.knows(question.repository, tag, question.image) for tag in tags)


def _ask(
    remote: Remote, questions: Iterable[_Question], memo: PushMemo, mapper: Mapper
) -> dict[_Question, _Answer]:
    def shows(question: _Question, image: Digest) -> bool:
        repository = remote.repository(question.repository)
        found = repository.resolve(version_tag(question.version))
        if found is not None and found.digest != image:
            found = repository.resolve(version_tag(question.version, image))
        return found is not None and found.digest == image

    def ask(question: _Question) -> _Answer:
        if question.image is not None:
            return _Answer(question.image, shows(question, question.image))
        found = remote.repository(question.repository).resolve(key_tag(question.key))
        if found is None or memo.suspects(question.repository, found.digest):
            return _Answer(None)
        return _Answer(found.digest, shows(question, found.digest))

    asked = list(questions)
    return dict(zip(asked, mapper(ask, asked), strict=True))


def _answered(
    view: RegistryView,
    questions: Mapping[str, _Question],
    answers: Mapping[_Question, _Answer],
    memo: PushMemo,
) -> RegistryView:
    whole = set(view.whole)
    images: dict[NodeKey, Digest] = {}
    for name, question in questions.items():
        answer = answers[question]
        if answer.image is None:
            continue
        if question.image is None:
            images[question.key] = answer.image
        if answer.whole:
            whole.add(name)
            memo.remember(question.repository, version_tag(question.version), answer.image)
    return replace(view, whole=frozenset(whole), images=images)


def _size(store: Store, graph: BuildGraph, target: Target, inventory: Inventory) -> int:
    """Bytes of our layers; where they are not made yet, of the packages in them."""
    total = 0
    for locked in target.platforms.values():
        digest = inventory.images.get(locked.image)
        try:
            if digest is not None and locked.image in inventory.built:
                data = store.blobs.read(digest, DOCUMENT_LIMIT)
                manifest = read_document(data, OCI_IMAGE_MANIFEST, f"image {digest}")
                if isinstance(manifest, Manifest):
                    ours = manifest.layers[len(locked.lock.base.layers) :]
                    total += sum(layer.size for layer in ours)
                    continue
        except (StoreError, EnvgraphError):
            pass
        below = graph.reachable([locked.image]) if locked.image in graph else ()
        total += sum(node.size or 0 for node in below if node.package is not None)
    return total


def _offline(count: int) -> Diagnostic:
    return Diagnostic(
        "registry-not-asked",
        "--offline: the registry was not asked, and nothing will be pushed to it",
        f"{count} environment{'' if count == 1 else 's'} may not be there yet",
        hint="apply once without --offline",
        severity="info",
    )


def _silent(error: RegistryError) -> Diagnostic:
    [first, *_] = error.diagnostics
    return Diagnostic(
        first.code,
        f"the registry gave no answer: {first.summary}",
        "the plan is made from what is here",
        hint=first.hint or "what cannot be pushed now is pushed by the next apply",
        severity="warning",
    )
