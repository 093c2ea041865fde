"""The bytes of an LLB graph.

An operation's bytes are BuildKit's ``pb.Op``, serialised deterministically, and its name in the
graph is their sha256. So equal graphs give equal bytes, and they are those that BuildKit's own Go
client gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from envgraph.api import Platform
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.ops import (
    NETWORKS,
    NOTHING,
    Diff,
    Exec,
    Files,
    Merge,
    Node,
    Output,
    Source,
)

_PLATFORM_SOURCES: Final = ("docker-image://", "oci-layout://")


@dataclass(frozen=True, slots=True)
class Definition:
    """A graph's bytes. ``message`` is BuildKit's ``pb.Definition``, serialised."""

    operations: tuple[bytes, ...] = ()
    """Each after its inputs; the last names the output. Empty for ``scratch``."""

    data: bytes = b""
    abilities: frozenset[str] = frozenset()
    """What the worker must be able to do, ``mergeop`` and ``oci-layout`` among it."""

    allowed: tuple[str, ...] = ()
    """Entitlements that it needs: ``network.host``, ``security.insecure``."""

    locals: tuple[str, ...] = ()
    """The names of folders of the client's that it reads."""


def define(
    output: Output | None, platform: Platform, unique: Callable[[str], str] = lambda name: ""
) -> Definition:
    """The bytes of a graph for a platform.

    ``unique`` gives a text for a local folder: solves that run at once share a step only when
    their texts are equal.
    """
    if output is None:
        return Definition()
    whole = message("Definition")()
    digests: dict[int, str] = {}
    abilities, allowed, folders = set(), set(), set()
    for node in _inputs_first(output.node):
        data = _bytes(node, digests, platform, unique)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        digests[id(node)] = digest
        if digest not in whole.metadata:
            getattr(whole, "def").append(data)
        about = whole.metadata[digest]
        about.ignore_cache |= node.fresh
        if node.name:
            about.description["llb.customname"] = node.name
        for ability in node.abilities():
            about.caps[ability] = True
            abilities.add(ability)
        if isinstance(node, Source):
            scheme, _, rest = node.identifier.partition("://")
            if scheme == "local":
                folders.add(rest)
            elif scheme == "oci-layout":
                abilities.add(scheme)
        elif isinstance(node, Exec):
            if node.network == NETWORKS.index("host"):
                allowed.add("network.host")
            if node.security:
                allowed.add("security.insecure")
    last = message("Op")()
    last.inputs.add(digest=digests[id(output.node)], index=output.index)
    operations = getattr(whole, "def")
    operations.append(encode(last))
    return Definition(
        tuple(operations), encode(whole), frozenset(abilities), tuple(sorted(allowed)),
        tuple(sorted(folders)),
    )  # fmt: skip


def _inputs_first(last: Node) -> Iterator[Node]:
    """Every node once, after its inputs; graphs may be deeper than Python's stack."""
    done: set[int] = set()
    stack: list[tuple[Node, bool]] = [(last, False)]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            yield node
            continue
        stack.append((node, True))
        stack += [(each.node, False) for each in reversed(inputs_of(node)) if each is not None]


def inputs_of(node: Node) -> list[Output | None]:
    """What a node works on."""
    found = list(node.inputs)
    if isinstance(node, Exec):
        found += [each.source for each in node.ordered()]
    elif isinstance(node, Files):
        found += [each.source for each in node.changes]
    return found


def _bytes(
    node: Node, digests: Mapping[int, str], platform: Platform, unique: Callable[[str], str]
) -> bytes:
    """One ``pb.Op``. Go writes the operation itself after all other fields, and so is it here."""
    head, body = message("Op")(), message("Op")()
    repeats = isinstance(node, Merge | Diff)

    def place(output: Output | None) -> int:
        if output is None:
            return NOTHING
        found = message("Input")(digest=digests[id(output.node)], index=output.index)
        if not repeats and found in body.inputs:
            return list(body.inputs).index(found)
        body.inputs.append(found)
        return len(body.inputs) - 1

    node.fill(body, place)
    head.inputs.extend(body.inputs)
    del body.inputs[:]
    source = node.identifier if isinstance(node, Source) else ""
    if source.startswith("local://"):
        body.source.attrs["local.unique"] = unique(source.removeprefix("local://"))
    if not node.any_platform and (not source or source.startswith(_PLATFORM_SOURCES)):
        wanted = node.platform or platform
        head.platform.OS, head.platform.Architecture = wanted.os, wanted.architecture
        head.platform.Variant = wanted.variant
    head.constraints.SetInParent()
    return encode(head) + encode(body)
