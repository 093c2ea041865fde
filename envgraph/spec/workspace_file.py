"""``envgraph.yaml`` → WorkspaceConfig; without one, the defaults."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from envgraph.errors import Diagnostic, SourceLocation
from envgraph.model.addresses import address_problem
from envgraph.model.config import (
    DEFAULT_VIRTUAL_PACKAGES,
    ImageOptions,
    Provider,
    WorkspaceConfig,
)
from envgraph.model.reach import KEY, Reach, ReachError
from envgraph.spec import paths
from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode, described
from envgraph.spec.problems import nearest, place, quoted
from envgraph.spec.reading import Reading

FILE_NAME: Final = "envgraph.yaml"
DEFAULT_NAME: Final = "default"
TRUST_STEPS: Final = "trust_steps"
"""An option of registries that is the host's and not the plugin's."""

KNOWN: Final = frozenset(
    {
        "workspace", "id", "environments", "platforms", "virtual_packages", "registry",
        "registries", "builder", "compute", "base_images", "channels", "default_channels",
        "pip_indexes", "secrets", "image", "reserved_prefixes",
    }
)  # fmt: skip
IMAGE_KEYS: Final = frozenset({"compression", "max_layers", "bytecode", "default_base"})
BASE_IMAGES: Final = ("freeze", "follow", "ask")
COMPRESSION: Final = ("zstd", "gzip")
BYTECODE: Final = ("auto", "none")
MAX_LAYERS: Final = range(4, 126)
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VIRTUAL: Final = re.compile(r"__[a-z0-9_]+")
_VERSION: Final = re.compile(r"[A-Za-z0-9_.+!-]+(=[A-Za-z0-9_.+!-]+)?")
SECRET: Final = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "linux": DEFAULT_VIRTUAL_PACKAGES,
    "osx": {"__unix": "0", "__osx": "11.0"},
    "win": {"__win": "10"},
}


def workspace_id(name: str, folder: str) -> str:
    """The id of a workspace whose file gives none: 8 hex of its name and absolute folder."""
    text = f"envgraph.workspace/1\0{name}\0{folder}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def default_virtual_packages(platform: str) -> dict[str, str]:
    """What is solved for on ``platform`` when the file says nothing."""
    return dict(_DEFAULTS.get(platform.partition("-")[0], {}))


def load_workspace(folder: Path | str) -> tuple[WorkspaceConfig, tuple[Diagnostic, ...]]:
    """The settings of the workspace in ``folder``, and every problem of its file.

    With an error among the diagnostics the settings hold defaults where the file was
    wrong: good for finding more problems, not for work.
    """
    root = paths.absolute(folder)
    file = paths.joined(os.fspath(folder), FILE_NAME)
    reading = Reading()
    tree: Node | None = None
    present = paths.present(file)
    if present:
        from envgraph.spec.yaml_text import load_yaml

        data = reading.read(file, SourceLocation(file), "")
        if data is not None:
            tree, _ = load_yaml(data, file, reading.problems)
    mapping = reading.mapping(tree, file, "envgraph.yaml")
    config = _Reader(reading, file, root).read(mapping, present)
    return config, reading.problems.result()


class _Reader:
    def __init__(self, reading: Reading, file: str, root: str) -> None:
        self.reading = reading
        self.file = file
        self.root = root

    def error(self, code: str, summary: str, node: Node | None, hint: str = "") -> None:
        self.reading.problems.add(code, summary, place(self.file, node), hint=hint)

    def read(self, mapping: MapNode | None, present: bool) -> WorkspaceConfig:
        default = WorkspaceConfig("", "", "")
        doc = mapping if mapping is not None else MapNode([], 1, 1)
        self.reading.check_keys(doc, KNOWN, self.file, "envgraph.yaml")
        name = self.name(doc, mapping is not None)
        platforms = self.platforms(doc) or default.platforms
        return WorkspaceConfig(
            name=name,
            id=self.id(doc) or workspace_id(name, self.root),
            root=self.root,
            file=paths.absolute(self.file) if present else None,
            environments=self.strings(doc, "environments", default.environments),
            platforms=platforms,
            virtual_packages=self.virtual_packages(doc, platforms),
            registry=self.provider(doc.get("registry"), "registry"),
            registries=self.providers(doc, "registries"),
            builder=self.builder(doc.get("builder")) or default.builder,
            compute={"local": Provider("local"), **self.providers(doc, "compute")},
            base_images=self.choice(doc, "base_images", BASE_IMAGES),
            channels=self.channels(doc),
            default_channels=self.strings(doc, "default_channels", default.default_channels),
            pip_indexes=self.strings(doc, "pip_indexes", ()),
            secrets=self.secrets(doc),
            image=self.image(doc),
            reserved_prefixes=self.strings(doc, "reserved_prefixes", default.reserved_prefixes),
        )

    def name(self, doc: MapNode, must: bool) -> str:
        name = self.reading.text(doc, "workspace", self.file)
        if name is None:
            if must and doc.get("workspace") is None:
                self.error("no-name", "envgraph.yaml needs `workspace: NAME`", doc)
            return DEFAULT_NAME
        if not NAME.fullmatch(name) or len(name) > 255:
            self.error(
                "workspace-name", f"{quoted(name)} is no workspace name", doc.get("workspace"),
                "lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit",
            )  # fmt: skip
        return name

    def id(self, doc: MapNode) -> str | None:
        text = self.reading.text(doc, "id", self.file)
        if text is not None and not ID.fullmatch(text):
            self.error("workspace-id", f"{quoted(text)} is no workspace id", doc.get("id"),
                       "1 to 64 letters, digits, '.', '_' and '-'")  # fmt: skip
            return None
        return text

    def strings(self, doc: MapNode, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        node = doc.get(key)
        if node is None:
            return default
        items: list[Node] = node.items if isinstance(node, ListNode) else [node]
        found = []
        for item in items:
            if not isinstance(item, ScalarNode) or item.is_null or not item.value.strip():
                self.error("type", f"{key} must be a list of text", item)
            elif why := address_problem(item.value.strip()):
                self.error("address", f"{key}: {quoted(item.value)} is no address: {why}", item)
            else:
                found.append(item.value.strip())
        return tuple(found)

    def platforms(self, doc: MapNode) -> tuple[str, ...]:
        node = doc.get("platforms")
        if node is None:
            return ()
        items: list[Node] = node.items if isinstance(node, ListNode) else [node]
        found = []
        for item in items:
            if isinstance(item, ScalarNode) and not item.is_null:
                found.append(self.reading.platform(item, self.file))
            else:
                self.error("type", "platforms must be a list of text", item)
        if not found:
            self.error("no-platform", "platforms is empty", node, "write [linux-64]")
        return tuple(dict.fromkeys(found))

    def virtual_packages(
        self, doc: MapNode, platforms: tuple[str, ...]
    ) -> dict[str, dict[str, str]]:
        result = {name: default_virtual_packages(name) for name in platforms}
        node = self.reading.mapping(doc.get("virtual_packages"), self.file, "virtual_packages")
        for key, value in node or ():
            platform = self.reading.platform(key, self.file)
            packages = self.reading.mapping(value, self.file, f"virtual_packages.{platform}")
            merged = result.setdefault(platform, default_virtual_packages(platform))
            for name, version in packages or ():
                self.virtual_package(merged, name, version)
        return result

    def virtual_package(self, merged: dict[str, str], name: ScalarNode, version: Node) -> None:
        if not VIRTUAL.fullmatch(name.value):
            self.error("virtual-package", f"{quoted(name.value)} is no virtual package", name,
                       "they begin with two underscores: __glibc, __cuda")  # fmt: skip
        elif isinstance(version, ScalarNode) and (version.is_null or version.boolean is False):
            merged.pop(name.value, None)
        elif not isinstance(version, ScalarNode) or not _VERSION.fullmatch(version.value.strip()):
            self.error("virtual-package", f"{name.value} needs a version", version,
                       f'write {name.value}: "1.2"')  # fmt: skip
        else:
            merged[name.value] = version.value.strip()

    def provider(self, node: Node | None, what: str) -> Provider | None:
        mapping = self.reading.mapping(node, self.file, what)
        if mapping is None:
            return None
        kind = self.reading.text(mapping, "type", self.file)
        if not kind:
            self.error("no-type", f"{what} needs a type", mapping, "for example `type: oci`")
            return None
        options = {key.value: self.value(item) for key, item in mapping if key.value != "type"}
        trusts = True
        if what == "registry" or what.startswith("registries."):
            trusts = options.pop(TRUST_STEPS, True)
            if type(trusts) is not bool:
                self.error("type", f"{what}.{TRUST_STEPS} must be true or false",
                           mapping.get(TRUST_STEPS))  # fmt: skip
        return Provider(kind, options, trusts is not False)

    def builder(self, node: Node | None) -> Provider | None:
        """``builder:``; a bare word is its type. The keys that no plugin sees are checked here."""
        if isinstance(node, ScalarNode) and not node.is_null and node.value.strip():
            return Provider(node.value.strip())
        found = self.provider(node, "builder")
        if found is None or not isinstance(node, MapNode):
            return found
        try:
            Reach.read(found.options.get(KEY))
        except ReachError as error:
            self.error("option", str(error), node.get(KEY), error.hint)
        timeout = found.options.get("timeout")
        if timeout is not None and (type(timeout) is not int or timeout < 1):
            self.error("option", "builder.timeout must be a whole number of seconds",
                       node.get("timeout"), "for example `timeout: 3600`")  # fmt: skip
        return found

    def providers(self, doc: MapNode, key: str) -> dict[str, Provider]:
        mapping = self.reading.mapping(doc.get(key), self.file, key)
        found = {}
        for name, node in mapping or ():
            provider = self.provider(node, f"{key}.{name.value}")
            if provider is None and isinstance(node, ScalarNode):
                self.error("no-type", f"{key}.{name.value} needs a type", node)
            elif provider is not None:
                found[name.value] = provider
        return found

    def value(self, node: Node) -> Any:
        """An option of a plugin, which will check it: numbers and booleans as they look."""
        if isinstance(node, ListNode):
            return [self.value(item) for item in node.items]
        if isinstance(node, MapNode):
            return {key.value: self.value(item) for key, item in node}
        if node.is_null:
            return None
        if node.plain and _INTEGER.fullmatch(node.value):
            return int(node.value)
        if node.plain and node.value.lower() in ("true", "false"):
            return node.value.lower() == "true"
        return node.value

    def choice(self, doc: MapNode, key: str, allowed: tuple[str, ...]) -> Any:
        text = self.reading.text(doc, key, self.file)
        if text is None:
            return allowed[0]
        if text.lower() not in allowed:
            self.error("choice", f"{key} cannot be {quoted(text)}", doc.get(key),
                       nearest(text, allowed))  # fmt: skip
            return allowed[0]
        return text.lower()

    def texts(self, doc: MapNode, key: str) -> dict[str, ScalarNode]:
        mapping = self.reading.mapping(doc.get(key), self.file, key)
        found = {}
        for name, node in mapping or ():
            if isinstance(node, ScalarNode) and not node.is_null and node.value.strip():
                found[name.value.strip()] = node
            else:
                self.error("type", f"{key}.{name.value} must be text, and is {described(node)}",
                           node)  # fmt: skip
        return found

    def channels(self, doc: MapNode) -> dict[str, str]:
        """Mirrors; a path is relative to the workspace's folder and becomes absolute."""
        found = {}
        for name, node in self.texts(doc, "channels").items():
            text = node.value.strip()
            if "://" not in text and not text.startswith("$"):
                text = paths.joined(self.root, paths.home(text))
            elif why := address_problem(text):
                self.error("channel", f"channels.{name}: {quoted(text)} is no address: {why}", node)
            found[name] = text
        return found

    def secrets(self, doc: MapNode) -> dict[str, str]:
        found = {}
        for name, node in self.texts(doc, "secrets").items():
            text = node.value.strip()
            if not SECRET.fullmatch(text):
                # The text may be the secret itself: it is not shown.
                self.error("secret", f"the secret {quoted(name)} is no reference", node,
                           "write env:VARIABLE or file:PATH, never the secret")  # fmt: skip
                continue
            if text.startswith("file:"):
                path = paths.home(text.removeprefix("file:"))
                text = "file:" + paths.joined(self.root, path)
            found[name] = text
        return found

    def image(self, doc: MapNode) -> ImageOptions:
        default = ImageOptions()
        node = self.reading.mapping(doc.get("image"), self.file, "image")
        if node is None:
            return default
        self.reading.check_keys(node, IMAGE_KEYS, self.file, "image")
        return ImageOptions(
            compression=self.choice(node, "compression", COMPRESSION),
            max_layers=self.max_layers(node) or default.max_layers,
            bytecode=self.choice(node, "bytecode", BYTECODE),
            default_base=self.default_base(node) or default.default_base,
        )

    def max_layers(self, node: MapNode) -> int | None:
        text = self.reading.text(node, "max_layers", self.file)
        if text is None:
            return None
        if not _INTEGER.fullmatch(text) or int(text) not in MAX_LAYERS:
            self.error("max-layers", f"max_layers cannot be {quoted(text)}", node.get("max_layers"),
                       f"{MAX_LAYERS.start} to {MAX_LAYERS.stop - 1}")  # fmt: skip
            return None
        return int(text)

    def default_base(self, node: MapNode) -> str | None:
        from envgraph.model.reference import BadReferenceError, parse_reference

        text = self.reading.text(node, "default_base", self.file)
        if text is None:
            return None
        try:
            parse_reference(text)
        except BadReferenceError as error:
            self.error("image-reference", f"default_base: {error}", node.get("default_base"))
            return None
        return text
