"""Docker steps and build contexts in the graph: their keys, and what a builder made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.locked import BaseLayer, LockedBase, LockedEnvironment
from envgraph.model.nodes import Node
from envgraph.spec.dockerfile import step_images
from envgraph_store.digest import Digest

STEP_FORMAT: Final = 1
"""Version of what goes into a builder and is kept of its answer. 1: the first."""

STEP_EPOCH: Final = 315_532_800
"""1980-01-01, as everywhere in images of ours: no file of a step is younger."""

BUILT_KINDS: Final = frozenset({"docker-step", "build-context"})
"""The kinds of node that a builder makes."""

_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What stands after a step or a context: a config, and layers on ``kept`` of the base's.

    ``layers`` are all above the lock's base, those of earlier steps included.
    """

    config: Digest
    layers: tuple[BaseLayer, ...]
    kept: int

    def to_json(self) -> dict[str, Any]:
        """The action record's result."""
        return {
            "config": str(self.config),
            "kept": self.kept,
            "layers": [
                {
                    "media_type": layer.media_type,
                    "digest": str(layer.digest),
                    "size": layer.size,
                    "diff_id": str(layer.diff_id),
                }
                for layer in self.layers
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BuiltImage:
        """The inverse of :meth:`to_json`; KeyError, ValueError or TypeError for another one."""
        return cls(
            Digest(document["config"]),
            tuple(
                BaseLayer(
                    item["media_type"],
                    Digest(item["digest"]),
                    item["size"],
                    Digest(item["diff_id"]),
                )
                for item in document["layers"]
            ),
            int(document["kept"]),
        )

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """All that has to be in the store for it to be whole."""
        return (self.config, *(layer.digest for layer in self.layers))

    def below(self, base: LockedBase) -> LockedBase:
        """The image as the base of what comes on top; ``base`` is the lock's own."""
        layers = (*base.layers[: self.kept], *self.layers)
        return replace(base, config=self.config, layers=layers)


def on_built(lock: LockedEnvironment, built: BuiltImage | None) -> LockedEnvironment:
    """The lock with its base as the steps or the context left it; its identity stays."""
    return lock if built is None else replace(lock, base=built.below(lock.base))


def base_key(base: LockedBase) -> NodeKey:
    """The base by its bytes: the reference that led there has no part in it."""
    return node_key("base-image", {"manifest": base.manifest, "config": base.config})


def base_node(base: LockedBase) -> Node:
    """The node of a base. Of one in a registry, only manifest and config are needed here."""
    size = None
    if not (base.is_scratch or base.in_registry):
        size = sum(layer.size for layer in base.layers)
    return Node(base_key(base), "base-image", base.reference, (), size, None, base)


def instruction_of(step: str) -> str:
    """The instruction of a locked step, without the digests of what it copies.

    Those are the last lines, each a path and ``sha256:…`` (:mod:`envgraph.lock.resolve`).
    """
    lines = step.split("\n")
    while len(lines) > 1 and _is_input(lines[-1]):
        lines.pop()
    return "\n".join(lines)


def _is_input(line: str) -> bool:
    _, space, digest = line.rpartition(" ")
    return bool(space) and digest.startswith("sha256:") and len(digest) == 71


def step_nodes(lock: LockedEnvironment) -> tuple[Node, ...]:
    """The nodes of base, named images, and steps or context.

    The last one is what images stand on: the base itself where there are no steps.
    """
    base = base_node(lock.base)
    named = {text: base_node(image) for text, image in lock.images.items()}
    nodes = [*named.values(), base]
    if lock.context is not None:
        return (*nodes, _context_node(lock, named))
    below = base
    for step in lock.steps:
        instruction = instruction_of(step)
        used = {text: named[text].key for text in step_images(instruction) if text in named}
        key = node_key(
            "docker-step",
            {
                "format": STEP_FORMAT,
                "epoch": STEP_EPOCH,
                "platform": lock.platform,
                "below": below.key,
                "step": step,
                "images": used,
            },
        )
        below = Node(key, "docker-step", _title(instruction), (below.key, *used.values()))
        nodes.append(below)
    return tuple(nodes)


def _context_node(lock: LockedEnvironment, named: Mapping[str, Node]) -> Node:
    context = lock.context
    assert context is not None
    images = {text: node.key for text, node in named.items()}
    key = node_key(
        "build-context",
        {
            "format": STEP_FORMAT,
            "epoch": STEP_EPOCH,
            "platform": lock.platform,
            "tree": context.tree,
            "dockerfile_path": context.dockerfile_path,
            "arguments": dict(context.arguments),
            "images": images,
        },
    )
    needs = tuple(dict.fromkeys(images.values()))
    return Node(key, "build-context", context.dockerfile_path, needs)


def _title(instruction: str) -> str:
    first = instruction.split("\n")[0].removesuffix("\\").strip()
    return first if len(first) <= _NAME else first[: _NAME - 1] + "…"


def built_keys(nodes: Sequence[Node]) -> tuple[NodeKey, ...]:
    """Those that a builder makes, in order."""
    return tuple(node.key for node in nodes if node.kind in BUILT_KINDS)
