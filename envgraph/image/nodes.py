"""From locks to the build graph: which layers an image has, and what each is made from."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from envgraph.image.compress import default_compression
from envgraph.image.group import assign_groups
from envgraph.image.keys import conda_layer_key, group_key, root_layer_key, wheel_layer_key
from envgraph.image.options import LayerOptions
from envgraph.image.steps import base_key, built_keys, step_nodes
from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.config import ImageOptions
from envgraph.model.identity import lock_identity
from envgraph.model.locked import LockedEnvironment, LockedPackage
from envgraph.model.nodes import Node
from envgraph_store.digest import Digest

ASSEMBLER: Final = "1"
"""Version of what turns layers into an image. 1: the first."""

MOST_LAYERS: Final = 125
"""overlay2 stops at about 127 layers; a container adds one or two of its own."""


@dataclass(frozen=True, slots=True)
class ImageNodes:
    """The nodes of one platform's image; ``layers`` are those that end up in it, in order.

    ``packages`` are the nodes of all packages, joined into a layer or not.
    """

    nodes: tuple[Node, ...]
    packages: tuple[NodeKey, ...]
    base: NodeKey
    layers: tuple[NodeKey, ...]
    image: NodeKey
    options: LayerOptions
    built: tuple[NodeKey, ...] = ()
    """The nodes that a builder makes, in order; the layers lie on the last one."""


def host_platform() -> str:
    """Name this machine as conda does: ``linux-64``, ``osx-arm64`` and so on."""
    import platform

    system = {"linux": "linux", "darwin": "osx", "win32": "win"}.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return f"{system}-64"
    if machine in ("arm64", "aarch64"):
        return f"{system}-{'arm64' if system != 'linux' else 'aarch64'}"
    return f"{system}-{machine}"


def layer_options(lock: LockedEnvironment, options: ImageOptions, host: str) -> LayerOptions:
    """What decides the bytes of this lock's layers.

    ``bytecode: auto`` compiles where the locked Python runs, that is when the
    lock is for the machine's own platform; the compiling Python is part of the key.
    """
    python = lock.python
    bytecode_key = ""
    version = ""
    if python is not None:
        version = ".".join(python.version.split(".")[:2])
        if options.bytecode == "auto" and lock.platform == host:
            bytecode_key = str(python.sha256)
    return LayerOptions(
        python=version,
        site_packages=lock.site_packages,
        compression=default_compression(options.compression),
        bytecode_key=bytecode_key,
    )


def package_options(package: LockedPackage, options: LayerOptions) -> LayerOptions:
    """The options for one package: bytecode only for what is Python or needs it.

    So a new build of Python leaves the layers of plain libraries alone.
    """
    if not options.bytecode_key or package.manager == "pip" or package.name == "python":
        return options
    names = {text.partition(" ")[0].rpartition("::")[2].lower() for text in package.depends}
    if package.noarch == "python" or names & {"python", "python_abi"}:
        return options
    return replace(options, bytecode_key="")


def _package_node(package: LockedPackage, options: LayerOptions) -> Node:
    options = package_options(package, options)
    if package.manager == "pip":
        key = wheel_layer_key(package, options)
        return Node(key, "pip-package", package.name, (), package.size, package)
    key = conda_layer_key(package, options)
    return Node(key, "conda-package", package.name, (), package.size, package)


def layer_title(node: Node, nodes: NodesByKey) -> str:
    """What a person calls a layer: its packages with version and build, or the node's name."""
    if node.package is not None:
        return node.package.title
    if node.kind == "layer-group":
        members = (nodes[key].package for key in node.needs)
        return ", ".join(member.title for member in members if member is not None)
    return node.name


class NodesByKey(Protocol):
    """A graph, or a mapping."""

    def __getitem__(self, key: NodeKey, /) -> Node:
        """The node of that key."""
        ...


def image_nodes(
    lock: LockedEnvironment,
    runtime: Digest,
    options: ImageOptions,
    host: str,
    *,
    layer_opts: LayerOptions | None = None,
) -> ImageNodes:
    """The graph of one image: base, root layer, packages, joined layers, image.

    ``layer_opts``: how the layers were made, where that was not here.
    """
    layer_opts = layer_opts or layer_options(lock, options, host)
    if not lock.packages:
        return _unchanged_base(lock, runtime, options, layer_opts)
    below = step_nodes(lock)
    root = Node(root_layer_key(layer_opts), "root-layer", layer_opts.prefix)
    nodes: dict[NodeKey, Node] = {node.key: node for node in (*below, root)}
    layers = [root.key]
    packages: list[NodeKey] = []
    for group in assign_groups(lock.packages, options.max_layers):
        members = [_package_node(package, layer_opts) for package in group.packages]
        nodes |= {node.key: node for node in members}
        packages += [node.key for node in members]
        if len(members) == 1:
            layers.append(members[0].key)
            continue
        needs = tuple(node.key for node in members)
        key = group_key(needs, layer_opts)
        size = sum(package.size for package in group.packages)
        nodes[key] = Node(key, "layer-group", group.name, needs, size)
        layers.append(key)
    built = built_keys(below)
    key = image_key(lock, runtime, options, layers, built)
    image = Node(key, "image", lock.platform, (below[-1].key, *layers))
    nodes[key] = image
    return ImageNodes(
        tuple(nodes.values()),
        tuple(packages),
        base_key(lock.base),
        tuple(layers),
        key,
        layer_opts,
        built,
    )


def _unchanged_base(
    lock: LockedEnvironment, runtime: Digest, options: ImageOptions, layer_opts: LayerOptions
) -> ImageNodes:
    """An image that is all the user's: nothing is put on it (row M15)."""
    below = step_nodes(lock)
    built = built_keys(below)
    key = image_key(lock, runtime, options, (), built)
    image = Node(key, "image", lock.platform, (below[-1].key,))
    nodes = tuple({node.key: node for node in (*below, image)}.values())
    return ImageNodes(nodes, (), base_key(lock.base), (), key, layer_opts, built)


def image_key(
    lock: LockedEnvironment,
    runtime: Digest,
    options: ImageOptions,
    layers: Sequence[NodeKey],
    built: Sequence[NodeKey] = (),
) -> NodeKey:
    """Image identity = lock identity + runtime + options + assembler + base config.

    Where a builder makes what lies below, its last node stands for what it makes.
    """
    below = {"built": built[-1]} if built else {}
    return node_key(
        "image",
        {
            **below,
            "assembler": ASSEMBLER,
            "lock": lock_identity(lock),
            "platform": lock.platform,
            "runtime": runtime,
            "compression": options.compression,
            "max_layers": options.max_layers,
            "base_config": lock.base.config,
            "layers": list(layers),
        },
    )


def index_node(images: Mapping[str, NodeKey]) -> Node:
    """The OCI index over the images of several platforms."""
    key = node_key("image-index", {"images": dict(images)})
    return Node(key, "image-index", ", ".join(images), tuple(images.values()))


def too_many_layers(lock: LockedEnvironment, layers: Iterable[NodeKey]) -> str | None:
    """What is wrong when base and environment together pass :data:`MOST_LAYERS`."""
    ours = len(tuple(layers))
    steps = len(lock.steps)
    total = len(lock.base.layers) + steps + ours
    if total <= MOST_LAYERS:
        return None
    between = f"{steps} of docker steps, " if steps else ""
    return f"{total} layers ({len(lock.base.layers)} of the base, {between}{ours} of the packages)"
