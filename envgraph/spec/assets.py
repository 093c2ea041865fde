"""Azure's asset catalogue: an environment in three files that fill in each other's templates.

``asset.yaml`` names the environment and its ``spec.yaml``; that is an environment whose
``{{asset.…}}`` come from ``asset.yaml`` and whose ``{{image.…}}`` come from the image
configuration, which ``extra_config`` names.
"""

from __future__ import annotations

import re
from typing import Final

from envgraph.model.config import WorkspaceConfig
from envgraph.model.spec import EnvironmentSpec
from envgraph.spec import paths
from envgraph.spec.environment_file import parse_environment
from envgraph.spec.nodes import MapNode, Node, ScalarNode
from envgraph.spec.problems import Problems, place
from envgraph.spec.reading import Reading
from envgraph.spec.templates import find_templates, has_template
from envgraph.spec.text import decode
from envgraph.spec.yaml_text import compose, load_yaml

_HERE: Final = re.compile(
    r"\{\{\s*asset\.repo\.url\s*\}\}#\{\{\s*asset\.repo\.commit_hash\s*\}\}"
    r":\{\{\s*asset\.repo\.build_context\.path\s*\}\}"
)
"""The context of this very asset, as the catalogue's publisher names it."""

_VERSION: Final = re.compile(
    r"^(version:\s*[\"']?)\{\{\s*asset\.version\s*\}\}([\"']?\s*)$", re.MULTILINE
)
_HOSTS: Final = {"mcr": "mcr.microsoft.com"}
_TEMPLATE: Final = re.compile(r"\{\{\s*(?P<key>(?:asset|image)\.[a-z._]+)\s*\}\}")
_AUTO: Final = "auto"
"""A version that the catalogue counts up by itself: for us, one that nobody gave."""


def load_asset(
    file: str, root: MapNode, config: WorkspaceConfig, reading: Reading
) -> EnvironmentSpec | None:
    """The environment of an ``asset.yaml``; problems go to ``reading``."""
    kind = (root.text("type") or "").lower()
    if kind != "environment":
        reading.problems.add(
            "not-environment", f"the asset's type is {kind!r:.40}, not environment",
            place(file, root.get("type") or root), hint="environments have `type: environment`",
        )  # fmt: skip
        return None
    folder = paths.folder_of(file)
    spec_path = _beside(root, "spec", file, folder, reading)
    if spec_path is None:
        return None
    values = asset_values(file, root, reading)
    data = reading.read(spec_path, place(file, root.get("spec")), "spec")
    if data is None:
        return None
    text = decode(data, spec_path, reading.problems)
    if text is None:
        return None
    composed = compose(fill(text, values), spec_path, reading.problems)
    tree = None if composed is None else without_auto(composed)
    if not isinstance(tree, MapNode):
        return None
    find_templates(tree, spec_path, reading.problems)
    return parse_environment(tree, reading, spec_path)


def asset_values(file: str, root: MapNode, reading: Reading) -> dict[str, str]:
    """What the templates of the spec file stand for, where it is known."""
    values = {f"asset.{key}": root.text(key) or "" for key in ("name", "version")}
    folder = paths.folder_of(file)
    if root.get("extra_config") is None:
        return values
    path = _beside(root, "extra_config", file, folder, reading)
    data = None if path is None else reading.read(
        path, place(file, root.get("extra_config")), "extra_config"
    )  # fmt: skip
    if path is None or data is None:
        return values
    tree, _ = load_yaml(data, path, reading.problems)
    image = tree.get("image") if isinstance(tree, MapNode) else None
    if not isinstance(image, MapNode):
        return values
    context = image.get("context")
    values["image.name"] = image.text("name") or ""
    publish = image.get("publish")
    if isinstance(publish, MapNode):
        values["image.publish.hostname"] = _HOSTS.get(publish.text("location") or "", "")
    if isinstance(context, MapNode):
        inner = paths.folder_of(paths.joined("", root.text("extra_config") or ""))
        folder_of_context = context.text("dir") or "."
        values["image.context.path"] = paths.joined(inner, folder_of_context)
        values["image.dockerfile.path"] = context.text("dockerfile") or "Dockerfile"
    return {key: value for key, value in values.items() if value and not has_template(value)}


def filled(text: str, file: str, reading: Reading) -> str:
    """A spec file's text with what the ``asset.yaml`` beside it gives; else as it is."""
    if not _TEMPLATE.search(text):
        return text
    asset = paths.joined(paths.folder_of(file), "asset.yaml")
    if not paths.exists(asset):
        return text
    data = reading.read(asset, None, "")
    root = None if data is None else load_yaml(data, asset, Problems())[0]
    if not isinstance(root, MapNode):
        return text
    named = paths.joined(paths.folder_of(asset), root.text("spec") or "")
    if paths.absolute(named) != paths.absolute(file):
        return text
    return fill(text, asset_values(asset, root, reading))


def without_auto(tree: Node) -> Node:
    """``version: auto``, which only the catalogue understands, taken out."""
    node = tree.get("version") if isinstance(tree, MapNode) else None
    if not (isinstance(tree, MapNode) and isinstance(node, ScalarNode)):
        return tree
    if node.value.strip() != _AUTO:
        return tree
    pairs = [(key, value) for key, value in tree if key.value != "version"]
    index = {key: value for key, value in tree.index.items() if key != "version"}
    return MapNode(pairs, tree.line, tree.column, index)


def fill(text: str, values: dict[str, str]) -> str:
    """Known templates replaced; unknown ones stay, to be reported where they are.

    What a version that is counted up will be, nobody knows: ``auto`` stands for it only
    where it is left out again.
    """
    if values.get("asset.version") == _AUTO:
        text = _VERSION.sub(rf"\1{_AUTO}\2", text)
        values = {key: value for key, value in values.items() if key != "asset.version"}
    if "image.context.path" in values:
        text = _HERE.sub(lambda _: values["image.context.path"], text)
    return _TEMPLATE.sub(lambda match: values.get(match["key"], match[0]), text)


def _beside(root: MapNode, key: str, file: str, folder: str, reading: Reading) -> str | None:
    name = root.text(key)
    if not name or paths.is_absolute(name):
        reading.problems.add(
            "asset-file",
            f"{key} names no file beside the asset",
            place(file, root.get(key) or root),
        )
        return None
    return paths.joined(folder, name)
