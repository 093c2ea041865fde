"""Everything about one version, for ``show`` and ``graph``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envgraph.history.fold import EnvironmentState
from envgraph.history.read import latest_listing, state_of
from envgraph.image.nodes import host_platform, image_nodes, index_node
from envgraph.model.canonical import NodeKey
from envgraph.model.config import WorkspaceConfig
from envgraph.model.documents import built_document
from envgraph.model.graph import BuildGraph
from envgraph.model.locked import LockedEnvironment
from envgraph.model.names import unescape_name
from envgraph.model.nodes import Node
from envgraph.model.records import VersionRecord
from envgraph.refresh.observe import Observer
from envgraph_store import Digest, Store
from envgraph_store.errors import StoreError


def describe(
    store: Store, config: WorkspaceConfig, record: VersionRecord, lock: LockedEnvironment
) -> dict[str, Any]:
    """The object of ``show --json`` for the version's first platform.

    A package's ``layer`` is None when its layer is not in the store any more; the
    lock can build it again.
    """
    nodes = image_nodes(lock, record.runtime, config.image, host_platform())
    observer = Observer(store)
    by_key = {node.key: node for node in nodes.nodes}
    layers: list[dict[str, Any]] = []
    layer_of: dict[tuple[str, str], str] = {}
    for key in nodes.layers:
        stored = observer.layer(key)
        members = _members(by_key, key)
        if stored is None:
            continue
        layers.append(
            {
                "digest": str(stored.digest),
                "size": stored.content.size,
                "kind": by_key[key].kind,
                "files": stored.content.files,
                "packages": [package.name for package in members],
            }
        )
        layer_of |= {(p.manager, p.name): str(stored.digest) for p in members}
    state = state_of(store, record.workspace, record.environment) or EnvironmentState("")
    known = state.versions.get(record.version)
    base = lock.base
    made = _made(observer, nodes.built, by_key)
    kept = len(base.layers) if made is None else made[0]
    below = [
        {"digest": str(la.digest), "size": la.size, "kind": "base", "packages": []}
        for la in base.layers[:kept]
    ]
    return {
        "format_version": "1",
        "name": record.environment,
        "version": record.version,
        "kind": record.kind,
        "definition": str(record.definition),
        "lock": str(record.locks[lock.platform].identity),
        "runtime": str(record.runtime),
        "image": str(record.images[lock.platform]),
        "image_name": record.image_name,
        "index": str(record.image) if len(record.images) > 1 else None,
        "platforms": {
            platform: {"lock": str(ref.identity), "image": str(record.images[platform])}
            for platform, ref in record.locks.items()
        },
        "base": {
            "reference": base.reference,
            "digest": None if base.manifest is None else str(base.manifest),
        },
        "context": built_document(lock).get("context"),
        "packages": [
            {
                "manager": p.manager,
                "name": p.name,
                "version": p.version,
                "build": p.build,
                "subdir": p.subdir,
                "channel": p.channel,
                "sha256": p.sha256.hex,
                "size": p.size,
                "direct": p.direct,
                "layer": layer_of.get((p.manager, p.name)),
            }
            for p in lock.packages
        ],
        "layers": [*below, *(() if made is None else made[1]), *layers],
        "runtime_settings": _runtime(store, record),
        "labels": [] if known is None else list(state.labels_of(record.version)),
        "archived": known is not None and state.is_hidden(known),
        "created": record.time,
        "locked": lock.created,
        "parent": record.parent,
        "description": record.description,
        "tags": dict(record.tags),
        "properties": dict(record.properties),
        "changed": list(record.changed),
        "used_by": _same_image(store, record),
    }


def _made(
    observer: Observer, keys: Sequence[NodeKey], by_key: Mapping[NodeKey, Node]
) -> tuple[int, list[dict[str, Any]]] | None:
    """How many of the base's layers stay below what a builder made, and its layers with steps.

    None where nothing was made, or the store has lost it.
    """
    built = {key: found for key in keys if (found := observer.built(key)) is not None}
    if not keys or keys[-1] not in built:
        return None
    step_of: dict[Digest, Node] = {}
    for key, found in built.items():
        for layer in found.layers:
            step_of.setdefault(layer.digest, by_key[key])
    last = built[keys[-1]]
    return last.kept, [
        {
            "digest": str(layer.digest),
            "size": layer.size,
            "kind": step_of[layer.digest].kind,
            "step": step_of[layer.digest].name,
            "packages": [],
        }
        for layer in last.layers
    ]


def _members(by_key: dict[NodeKey, Node], key: NodeKey) -> list[Any]:
    node = by_key[key]
    if node.package is not None:
        return [node.package]
    return [by_key[need].package for need in node.needs if by_key[need].package is not None]


def _runtime(store: Store, record: VersionRecord) -> dict[str, Any]:
    import json

    try:
        found: list[Any] = json.loads(store.blobs.read(record.runtime))
    except StoreError:
        return {}
    return dict(found[1])


def variables_of(store: Store, record: VersionRecord) -> dict[str, str]:
    """The environment variables of a version, those of its conda file included."""
    found = _runtime(store, record).get("environment_variables") or {}
    return {str(name): str(value) for name, value in found.items()}


def _same_image(store: Store, record: VersionRecord) -> list[str]:
    """Other environments of the workspace whose current version is the same image.

    The layout's index names them: nobody has to look at every environment.
    """
    found = set()
    for shown in store.names_of(record.image):
        try:
            name = unescape_name(shown.partition("/")[2].rpartition(":")[0])
        except ValueError:
            continue
        if name == record.environment:
            continue
        other = latest_listing(store, record.workspace, name)
        if other is not None and other.final == record.image.hex:
            found.add(f"environment {name}:{other.version}")
    return sorted(found)


def graph_of(
    config: WorkspaceConfig, pairs: Sequence[tuple[VersionRecord, LockedEnvironment]]
) -> BuildGraph:
    """The build graph of these locks, named ``name:version``."""
    nodes: dict[NodeKey, Node] = {}
    roots: dict[str, list[NodeKey]] = {}
    images: dict[str, dict[str, NodeKey]] = {}
    for record, lock in pairs:
        found = image_nodes(lock, record.runtime, config.image, host_platform())
        nodes |= {node.key: node for node in found.nodes}
        images.setdefault(f"{record.environment}:{record.version}", {})[lock.platform] = found.image
    for title, keys in images.items():
        if len(keys) == 1:
            roots[title] = list(keys.values())
        else:
            index = index_node(keys)
            nodes[index.key] = index
            roots[title] = [index.key]
    return BuildGraph(nodes.values(), roots)
