"""Azure ML's environment YAML, with envgraph's own additions → EnvironmentSpec."""

from __future__ import annotations

import json
import re
from typing import Final, Literal

from envgraph.model import names
from envgraph.model.reference import BadReferenceError, LocalReference, parse_reference
from envgraph.model.spec import (
    CondaSpec,
    EnvironmentSpec,
    InferenceConfig,
    Route,
)
from envgraph.spec import paths
from envgraph.spec.build_section import read_build
from envgraph.spec.conda_file import parse_conda
from envgraph.spec.docker_steps import read_steps
from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode, described
from envgraph.spec.problems import Problems, place, quoted
from envgraph.spec.reading import READ_ONLY, Reading
from envgraph.spec.templates import find_templates, has_template, is_unfilled
from envgraph.spec.yaml_text import load_yaml

KNOWN: Final = READ_ONLY | frozenset(
    {
        "name", "version", "description", "tags", "properties", "image", "conda_file", "build",
        "inference_config", "os_type", "datastore", "auto_delete_setting", "docker_steps",
        "environment_variables", "platforms",
    }
)  # fmt: skip
ROUTES: Final = ("liveness_route", "readiness_route", "scoring_route")
ROUTE: Final = frozenset({"port", "path"})
AUTO_DELETE: Final = frozenset({"condition", "value"})
OS_TYPES: Final = ("linux", "windows")


def parse_environment(
    root: MapNode,
    reading: Reading,
    file: str,
    *,
    inline: bool = False,
    reserved: tuple[str, ...] = (),
    folder: str | None = None,
) -> EnvironmentSpec:
    """Read an environment's mapping; problems go to ``reading``.

    ``inline``: inside a job or deployment, where no name is needed. ``folder``: where
    relative paths start, when ``file`` is no file.
    """
    return _EnvironmentReader(reading, file, inline, reserved, folder).read(root)


class _EnvironmentReader:
    def __init__(
        self,
        reading: Reading,
        file: str,
        inline: bool,
        reserved: tuple[str, ...],
        folder: str | None = None,
    ) -> None:
        self.reading = reading
        self.problems: Problems = reading.problems
        self.file = file
        self.folder = paths.folder_of(file) if folder is None else folder
        self.inline = inline
        self.reserved = reserved

    def error(self, code: str, summary: str, node: Node | None, hint: str = "") -> None:
        self.problems.add(code, summary, place(self.file, node), hint=hint)

    def read(self, root: MapNode) -> EnvironmentSpec:
        self.reading.check_keys(root, KNOWN, self.file, "an environment")
        image, image_path = self.image(root)
        build = read_build(root, self.reading, self.file, self.folder)
        conda = self.conda(root)
        self.check_shape(root)
        self.check_ignored(root)
        return EnvironmentSpec(
            name=self.name(root),
            image=image,
            build=build,
            conda=conda,
            docker_steps=read_steps(root, self.reading, self.file, self.folder),
            environment_variables=self.reading.variables(root, "environment_variables", self.file),
            inference_config=self.inference(root),
            platforms=self.platforms(root) or (conda.platforms if conda else ()),
            version=self.version(root),
            description=self.reading.text(root, "description", self.file),
            tags=self.labels(root, "tags"),
            properties=self.labels(root, "properties"),
            os_type=self.os_type(root),
            source=place(self.file, root),
            image_path=image_path,
        )

    def name(self, root: MapNode) -> str:
        name = self.reading.text(root, "name", self.file)
        node = root.get("name")
        if name is None:
            if node is None and not self.inline:
                self.error(
                    "no-name", "an environment needs a name", root.key("name") or root,
                    "add `name: my-environment`",
                )  # fmt: skip
            return ""
        check_name(name, node, self.file, self.problems, self.reserved)
        return name

    def version(self, root: MapNode) -> str | None:
        version = self.reading.text(root, "version", self.file)
        if version is not None and not version:
            self.error("version", "the version is empty", root.get("version"),
                       "leave the key out: versions are counted up")  # fmt: skip
            return None
        if version is not None and not is_unfilled(version):
            problem = names.version_problem(version)
            if problem:
                self.error("version", problem, root.get("version"))
        return version

    def image(self, root: MapNode) -> tuple[str | None, str | None]:
        node = root.get("image")
        if node is None:
            return None, None
        if isinstance(node, MapNode):
            self.error(
                "image-shape", "image is a mapping: an image configuration of the asset catalogue, "
                "not an environment", node, "write `image: host/name:tag`",
            )  # fmt: skip
            return None, None
        text = self.reading.text(root, "image", self.file)
        if text is None or is_unfilled(text):
            return text, None
        return self.reference(text, node)

    def reference(self, text: str, node: Node) -> tuple[str | None, str | None]:
        try:
            reference = parse_reference(text)
        except BadReferenceError as error:
            self.error("image-reference", f"image: {error}", node, "write `image: host/name:tag`")
            return None, None
        if isinstance(reference, LocalReference):
            path = paths.joined(paths.absolute(self.folder), reference.path)
            # Whether it is there matters only while it is pinned; afterwards it may be gone.
            self.reading.note_input(path)
            return str(reference), path
        return str(reference), None

    def conda(self, root: MapNode) -> CondaSpec | None:
        node = root.get("conda_file")
        if node is None:
            return None
        if isinstance(node, MapNode):
            return parse_conda(node, "", self.reading, self.file, self.folder)
        if isinstance(node, ListNode):
            self.error("type", f"conda_file is a path or a mapping, not {described(node)}", node)
            return None
        text = node.value.strip()
        if is_unfilled(text):
            return None
        if re.match(r"(?i)(https?|azureml)://|azureml:", text):
            self.error("remote-conda-file", f"the conda file {quoted(text)} is not on this machine",
                       node, "download it beside this file")  # fmt: skip
            return None
        text = text.removeprefix("file:").removeprefix("//")
        path = paths.joined(self.folder, text)
        data = self.reading.read(path, place(self.file, node), "conda_file")
        if data is None:
            return None
        tree, content = load_yaml(data, path, self.problems)
        if tree is None:
            return None
        find_templates(tree, path, self.problems)
        return parse_conda(tree, content, self.reading, path, paths.folder_of(path))

    def check_shape(self, root: MapNode) -> None:
        image, build = root.get("image"), root.get("build")
        if image is not None and build is not None:
            self.error(
                "image-and-build", "an environment has an image or a build, not both",
                root.key("build"), "take one of them out",
            )  # fmt: skip
        elif image is None and build is None:
            hint = "add `image: scratch`, or the base image that you want"
            if self.inline and {key.value for key, _ in root} <= {"name", "version"}:
                hint = "for one that is registered write `environment: azureml:NAME:VERSION`"
            self.error("no-image", "an environment needs an image or a build", root, hint)
        if build is not None:
            for key in ("conda_file", "docker_steps"):
                if root.get(key) is not None:
                    self.error(f"{key.replace('_', '-')}-with-build",
                               f"{key} needs an image, and there is a build", root.key(key),
                               "do it in the Dockerfile")  # fmt: skip

    def check_ignored(self, root: MapNode) -> None:
        setting = self.reading.mapping(
            root.get("auto_delete_setting"), self.file, "auto_delete_setting"
        )
        if setting is not None:
            self.reading.check_keys(setting, AUTO_DELETE, self.file, "auto_delete_setting")
        for key in ("auto_delete_setting", "datastore"):
            if root.get(key) is not None:
                self.problems.warn(
                    "cloud-only", f"{key} means something in the cloud only: ignored",
                    place(self.file, root.key(key)),
                )  # fmt: skip

    def platforms(self, root: MapNode) -> tuple[str, ...]:
        node = root.get("platforms")
        if node is None:
            return ()
        items: list[Node] = node.items if isinstance(node, ListNode) else [node]
        found = []
        for item in items:
            if isinstance(item, ScalarNode) and not item.is_null:
                found.append(self.reading.platform(item, self.file))
            else:
                self.error("type", "platforms must be a list of text", item)
        return tuple(dict.fromkeys(found))

    def os_type(self, root: MapNode) -> Literal["linux", "windows"]:
        text = (self.reading.text(root, "os_type", self.file) or "linux").lower()
        if text == "windows":
            self.problems.warn(
                "windows", "images are built for Linux only", place(self.file, root.get("os_type"))
            )
            return "windows"
        if text != "linux" and not has_template(text):
            self.error("os-type", f"{quoted(text)} is no os_type", root.get("os_type"),
                       "linux or windows")  # fmt: skip
        return "linux"

    def labels(self, root: MapNode, key: str) -> dict[str, str]:
        node = self.reading.mapping(root.get(key), self.file, key)
        if node is None:
            return {}
        return {name.value: _label_text(value) for name, value in node}

    def inference(self, root: MapNode) -> InferenceConfig | None:
        node = self.reading.mapping(root.get("inference_config"), self.file, "inference_config")
        if node is None:
            return None
        self.reading.check_keys(node, frozenset(ROUTES), self.file, "inference_config")
        routes = {}
        for name in ROUTES:
            if node.get(name) is None:
                self.error("no-route", f"inference_config needs {name}", node,
                           "give all three routes, or none")  # fmt: skip
                continue
            route = self.route(node, name)
            if route is not None:
                routes[name] = route
        return InferenceConfig(**routes) if len(routes) == len(ROUTES) else None

    def route(self, node: MapNode, name: str) -> Route | None:
        mapping = self.reading.mapping(node.get(name), self.file, name)
        if mapping is None:
            return None
        self.reading.check_keys(mapping, ROUTE, self.file, name)
        port = self.reading.text(mapping, "port", self.file)
        path = self.reading.text(mapping, "path", self.file)
        if port is None or path is None:
            self.error("route", f"{name} needs a port and a path", mapping)
            return None
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            self.error("port", f"{quoted(port)} is no port", mapping.get("port"), "1 to 65535")
            return None
        return Route(int(port), path)


def check_name(
    name: str, node: Node | None, file: str, problems: Problems, reserved: tuple[str, ...]
) -> None:
    """Report what is wrong with an environment's name; a reserved prefix is a warning."""
    if is_unfilled(name):
        return
    problem = names.name_problem(name)
    if problem is not None:
        problems.add("name", f"the name {quoted(name)}: {problem}", place(file, node))
    prefix = names.reserved_prefix(name, reserved)
    if prefix is not None:
        problems.add(
            "reserved-prefix", f"names that begin with {prefix!r} are reserved: it can be read, "
            "and not registered", place(file, node),
            hint=f"choose another name, for example {'my-' + name!r}", severity="warning",
        )  # fmt: skip


def _label_text(node: Node) -> str:
    """A tag's value as text; a collection as JSON."""
    if isinstance(node, ScalarNode):
        return "" if node.is_null else node.value
    return json.dumps(_plain(node), ensure_ascii=False, sort_keys=True)


def _plain(node: Node) -> object:
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, ListNode):
        return [_plain(item) for item in node.items]
    return {key.value: _plain(value) for key, value in node}
