"""The nodes of the build graph: what each is, and what it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from envgraph.model.canonical import NodeKey
from envgraph.model.locked import LockedBase, LockedPackage

NodeKind = Literal[
    "base-image",
    "archive",
    "root-layer",
    "docker-step",
    "build-context",
    "conda-package",
    "pip-package",
    "layer-group",
    "activation-layer",
    "image",
    "image-index",
    "pull",
    "push",
    "question",
    "transfer",
]


@dataclass(frozen=True, slots=True)
class Node:
    """One unit of work with its identity.

    ``key`` is a function of everything that can change the node's bytes, and of
    nothing else; equal keys mean one node, whoever asked for it. ``needs`` are
    the nodes whose results it reads, in the order it reads them. ``size`` is the
    bytes of its own inputs (a package's archive), None when there are none.
    """

    key: NodeKey
    kind: NodeKind
    name: str
    needs: tuple[NodeKey, ...] = ()
    size: int | None = None
    package: LockedPackage | None = field(default=None, compare=False)
    base: LockedBase | None = field(default=None, compare=False)
