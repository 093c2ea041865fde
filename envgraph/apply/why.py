"""Why two versions are two images: their keys computed again, one input swapped at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envgraph.diff.deciding import Explanation
from envgraph.diff.why import Why, context_of, explain, explain_image, image_inputs
from envgraph.image.compress import default_compression
from envgraph.interchange.parcel import nodes_of
from envgraph.registry.artifacts import Assembly

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envgraph.diff.versions import Side
    from envgraph.model.config import WorkspaceConfig

OTHER_OPTIONS = (
    "one of the images was assembled with other options, or by another compressor, than this"
    " workspace has now"
)


def explain_sides(config: WorkspaceConfig, before: Side, after: Side) -> Why:
    """The smallest sets of inputs behind definition, lock, runtime and image, with the cost."""
    if before.image is None or after.image is None:
        return explain(before, after, None, "a lockfile has no image: its lock is compared")
    found = [_assembly(config, side) for side in (before, after)]
    known = next((item for item in found if item is not None), None)
    if known is None or None in (before.runtime, after.runtime):
        return explain(before, after, _unknown(before, after), OTHER_OPTIONS)
    # An image whose making is not known has its own key in place of the options.
    ways = [item or side.image_key for item, side in zip(found, (before, after), strict=True)]

    def key(inputs: Mapping[str, Any]) -> object:
        way = inputs["options"]
        lock = replace(
            after.lock,
            base=inputs["base"],
            packages=inputs["packages"],
            steps=inputs["docker steps"],
            images=inputs["images of the steps"],
            context=context_of(inputs),
            platform=inputs["platform"],
        )
        assembly = way if isinstance(way, Assembly) else known
        own = None if isinstance(way, Assembly) else way
        return nodes_of(lock, inputs["runtime"], assembly).image, own

    one, two = image_inputs(before, ways[0]), image_inputs(after, ways[1])
    image = explain_image(before, after, one, two, key)
    return explain(before, after, image, OTHER_OPTIONS if None in found else "")


def _unknown(before: Side, after: Side) -> Explanation:
    same = before.image == after.image
    return Explanation("image", same, str(before.image), str(after.image))


def _assembly(config: WorkspaceConfig, side: Side) -> Assembly | None:
    """How the image was put together; None when the workspace's options do not give its key."""
    if side.runtime is None:
        return None
    compression = default_compression(config.image.compression)
    for bytecode in ((), (side.lock.platform,)):
        way = Assembly(
            compression.name,
            config.image.max_layers,
            compression.level,
            compression.version,
            bytecode,
        )
        if str(nodes_of(side.lock, side.runtime, way).image) == side.image_key:
            return way
    return None
