"""Keys of layers: everything that decides their bytes, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from envgraph.image.options import FORMAT, LayerOptions
from envgraph.model.canonical import NodeKey, node_key
from envgraph.model.locked import LockedPackage


def maps_python_paths(package: LockedPackage) -> bool:
    """Its files may go where the locked Python has its site-packages.

    Only ``subdir`` is identity; a lock that does not know ``noarch`` gives another
    key and the same bytes.
    """
    return package.subdir == "noarch" and package.noarch != "generic"


def _document(package: LockedPackage, options: LayerOptions) -> dict[str, object]:
    return {
        "format": FORMAT,
        "package": package.identity(),
        "prefix": options.prefix,
        "compression": options.compression.key,
        "bytecode": options.bytecode_key,
        "bytecode_python": options.python if options.bytecode_key else "",
    }


def conda_layer_key(package: LockedPackage, options: LayerOptions) -> NodeKey:
    """The key of a conda package's layer; Python's paths enter only where they matter."""
    document = _document(package, options)
    mapped = maps_python_paths(package)
    document["python"] = options.python if mapped else ""
    document["site_packages"] = options.site_packages if mapped else ""
    return node_key("conda-layer", document)


def wheel_layer_key(package: LockedPackage, options: LayerOptions) -> NodeKey:
    """The key of a wheel's layer."""
    document = _document(package, options)
    document["python"] = options.python
    document["site_packages"] = options.site_packages
    return node_key("wheel-layer", document)


def group_key(members: Sequence[NodeKey], options: LayerOptions) -> NodeKey:
    """The key of the layer that joins the members' layers, in this order."""
    return node_key(
        "layer-group",
        {
            "format": FORMAT,
            "members": list(members),
            "prefix": options.prefix,
            "compression": options.compression.key,
        },
    )


def root_layer_key(options: LayerOptions) -> NodeKey:
    """The key of the first layer: the prefix, empty."""
    return node_key(
        "root-layer",
        {"format": FORMAT, "prefix": options.prefix, "compression": options.compression.key},
    )
