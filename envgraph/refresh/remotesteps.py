"""Which docker steps the workspace's registry has, of images that it has not.

An environment's final image is asked for first (:mod:`envgraph.refresh.remote`). Only where
that is not there, and the store lacks its last step too, the steps are asked for: the last
one, and where that is unknown as many as a search takes. Environments that begin with the
same steps ask for those once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from envgraph.model.canonical import NodeKey
from envgraph.model.graph import BuildGraph
from envgraph.plan.inventory import Inventory
from envgraph.plan.steps import BUILT_KINDS
from envgraph.plan.target import Target
from envgraph.refresh.pushmemo import PushMemo
from envgraph.registry.names import STEPS_REPOSITORY, key_tag
from envgraph.registry.remotes import Remote
from envgraph.registry.steps import known_beginning
from envgraph_store import Digest

Chain = tuple[NodeKey, ...]


def lacking_steps(
    graph: BuildGraph,
    targets: Iterable[Target],
    inventory: Inventory,
    pulled: Iterable[NodeKey],
) -> list[Chain]:
    """The steps that the store lacks, by image; without those that come with a pulled image."""
    there = set(inventory.built)
    there.update(node.key for node in graph.reachable(pulled) if node.kind in BUILT_KINDS)
    found: dict[Chain, None] = {}
    for target in targets:
        for locked in target.platforms.values():
            if locked.image in graph and locked.image not in there:
                chain = _steps_below(graph, locked.image)
                known = max((n for n, key in enumerate(chain, 1) if key in there), default=0)
                if chain[known:]:
                    found[chain[known:]] = None
    return list(found)


def _steps_below(graph: BuildGraph, image: NodeKey) -> Chain:
    """What a builder makes of an image, in order."""
    found: list[NodeKey] = []
    needs: Sequence[NodeKey] = graph[image].needs
    while needs and graph[needs[0]].kind in BUILT_KINDS:
        found.append(needs[0])
        needs = graph[needs[0]].needs
    return tuple(reversed(found))


def ask_for_steps(
    remote: Remote,
    chains: Sequence[Chain],
    memo: PushMemo,
    mapper: Callable[[Callable[[Chain], None], Sequence[Chain]], Iterable[None]],
) -> dict[NodeKey, Digest]:
    """For each chain the last step that the registry has, and the artifact with it."""
    repository = remote.repository(STEPS_REPOSITORY)
    answers: dict[NodeKey, Digest | None] = {}
    last: dict[NodeKey, Digest] = {}

    def has(key: NodeKey) -> bool:
        if key not in answers:
            found = repository.resolve(key_tag(key))
            is_usable = found is not None and not memo.suspects(STEPS_REPOSITORY, found.digest)
            answers[key] = found.digest if found is not None and is_usable else None
        return answers[key] is not None

    def ask(chain: Chain) -> None:
        count = known_beginning(chain, has)
        if count and (digest := answers[chain[count - 1]]) is not None:
            last[chain[count - 1]] = digest

    list(mapper(ask, chains))
    return last
