"""A conda environment file, or the inline ``conda_file:`` of Azure ML → CondaSpec."""

from __future__ import annotations

import re
from typing import Final

from envgraph.model.addresses import address_problem, has_credentials
from envgraph.model.spec import CondaSpec, PipLine, Requirement
from envgraph.spec import match_spec, paths
from envgraph.spec.nodes import ListNode, MapNode, Node, ScalarNode, described
from envgraph.spec.pip_lines import PipReader
from envgraph.spec.problems import Problems, nearest, place, quoted
from envgraph.spec.reading import Reading
from envgraph.spec.templates import is_unfilled
from envgraph.spec.text import split_lines

KNOWN: Final = frozenset(
    {"name", "channels", "dependencies", "prefix", "variables", "platforms", "platform", "category"}
)
OTHER_TOOLS: Final = {
    "allow-pypi-requests": "conda-lock",
    "python": "MLflow's python_env.yaml",
    "build_dependencies": "MLflow's python_env.yaml",
    "pip-repositories": "conda-lock",
    "extensions": "conda-lock",
    "channel_priority": "conda's .condarc",
    "channel-priority": "conda-project",
}
_COMMENT_SELECTOR: Final = re.compile(r"\[([^\[\]]+)\]")
_RELATIVE: Final = re.compile(r"\.{1,2}(?:/|$)")


def parse_conda(root: Node, text: str, reading: Reading, file: str, folder: str) -> CondaSpec:
    """Read a conda file's tree. ``folder`` is what relative paths start at.

    ``text`` is the whole file (comments hold selectors). Problems go to ``reading``.
    """
    reader = _CondaReader(reading, reading.problems, file, folder, split_lines(text))
    return reader.read(root)


class _CondaReader:
    def __init__(
        self, reading: Reading, problems: Problems, file: str, folder: str, lines: list[str]
    ) -> None:
        self.reading = reading
        self.problems = problems
        self.file = file
        self.folder = folder
        self.lines = lines
        self.channel_paths: dict[str, str] = {}

    def error(self, code: str, summary: str, node: Node, hint: str = "") -> None:
        self.problems.add(code, summary, place(self.file, node), hint=hint)

    def warn(self, code: str, summary: str, node: Node, hint: str = "") -> None:
        self.problems.warn(code, summary, place(self.file, node), hint=hint)

    def read(self, root: Node) -> CondaSpec:
        if not isinstance(root, MapNode):
            self.error(
                "conda-shape", f"a conda file is a mapping, and this is {described(root)}", root,
                "begin with `dependencies:`",
            )  # fmt: skip
            return CondaSpec(file=None if root.where else self.file)
        self.check_keys(root)
        dependencies, pip = self.dependencies(root)
        return CondaSpec(
            name=self.plain_text(root, "name"),
            channels=self.channels(root),
            dependencies=tuple(dependencies),
            pip=tuple(pip),
            variables=self.variables(root),
            platforms=self.platforms(root),
            file=None if root.where else self.file,
            channel_paths=self.channel_paths,
        )

    def check_keys(self, root: MapNode) -> None:
        for key, _ in root:
            name = key.value
            if name in OTHER_TOOLS:
                self.warn("foreign-key", f"{name!r} belongs to {OTHER_TOOLS[name]}: ignored", key)
            elif name not in KNOWN:
                self.error(
                    "unknown-key", f"unknown key {quoted(name)} in a conda file", key,
                    nearest(name, KNOWN),
                )  # fmt: skip

    def plain_text(self, root: MapNode, key: str) -> str | None:
        node = root.get(key)
        if node is None:
            return None
        if not isinstance(node, ScalarNode):
            self.error("type", f"{key} must be text, and is {described(node)}", node)
            return None
        return node.value.strip()

    def scalars(self, root: MapNode, key: str) -> list[ScalarNode] | None:
        node = root.get(key)
        if node is None:
            return None
        if isinstance(node, ScalarNode) and key in ("platforms", "channels", "platform"):
            return [node]
        if not isinstance(node, ListNode):
            self.error("type", f"{key} must be a list, and is {described(node)}", node)
            return None
        found = []
        for item in node.items:
            if not isinstance(item, ScalarNode):
                self.error("type", f"{key} must be a list of text", item)
            elif item.is_null or not item.value.strip():
                self.error("empty-item", f"an item of {key} is empty", item)
            else:
                found.append(item)
        return found

    def channels(self, root: MapNode) -> tuple[str, ...] | None:
        nodes = self.scalars(root, "channels")
        if nodes is None:
            return None
        names = []
        for node in nodes:
            name = node.value.strip()
            if is_unfilled(name):
                continue
            if has_credentials(name):
                self.warn(
                    "channel-credentials", f"the channel {quoted(name)} carries credentials", node,
                    "write ${VARIABLE}, or keep them in netrc or conda's tokens; "
                    "they enter no lock and no hash",
                )  # fmt: skip
            if _RELATIVE.match(name):
                self.channel_paths[name] = paths.absolute(paths.joined(self.folder, name))
            elif "://" not in name and any(c.isspace() for c in name):
                self.error("channel", f"{quoted(name)} is no channel", node)
            elif why := address_problem(name):
                self.error("channel", f"{quoted(name)} is no channel: {why}", node)
            names.append(name)
        return tuple(names) or None

    def platforms(self, root: MapNode) -> tuple[str, ...]:
        nodes = self.scalars(root, "platforms") or self.scalars(root, "platform") or []
        return tuple(self.reading.platform(node, self.file) for node in nodes)

    def variables(self, root: MapNode) -> dict[str, str]:
        return self.reading.variables(root, "variables", self.file)

    def dependencies(self, root: MapNode) -> tuple[list[Requirement], list[PipLine]]:
        node = root.get("dependencies")
        if node is None:
            key = root.key("dependencies")
            if key is None:
                self.error(
                    "no-dependencies", "a conda file needs `dependencies:`", root,
                    "add `dependencies:` with a list of packages",
                )  # fmt: skip
            return [], []
        if not isinstance(node, ListNode):
            self.error("type", f"dependencies must be a list, and is {described(node)}", node)
            return [], []
        found: list[Requirement] = []
        pip = PipReader(self.reading, self.folder)
        for item in node.items:
            if isinstance(item, ScalarNode):
                self.requirement(item, found)
            elif isinstance(item, MapNode):
                for key, value in item:
                    self.section(key, value, found, pip)
            else:
                self.error("type", "a dependency is text or `pip:`, not a list", item)
        if pip.lines and not any(match_spec.package_name(r.text) == "python" for r in found):
            self.warn(
                "pip-without-python", "there is a pip section and no conda package python", node,
                "add `python=3.12` (or what you need) to dependencies",
            )  # fmt: skip
        return found, pip.lines

    def section(
        self, key: ScalarNode, value: Node, found: list[Requirement], pip: PipReader
    ) -> None:
        """A mapping among the dependencies: ``pip:`` or mamba's ``sel(linux):``."""
        selector = match_spec.SELECTOR.fullmatch(key.value.strip())
        if selector is not None and isinstance(value, ScalarNode):
            platform = selector["platform"].lower()
            if platform not in match_spec.SELECTOR_PLATFORMS:
                self.error(
                    "selector", f"sel({platform}) names no platform", key,
                    nearest(platform, match_spec.SELECTOR_PLATFORMS),
                )  # fmt: skip
            self.requirement(value, found, platform)
        elif key.value.strip() == "pip":
            self.pip_section(value, pip)
        elif isinstance(value, ScalarNode):
            self.error(
                "dependency-mapping",
                f"{quoted(key.value)} is a mapping here, not a requirement", key,
                f"write `- {key.value.strip()}={value.value}`, or quote the line",
            )  # fmt: skip
        else:
            self.error(
                "dependency-section", f"unknown section {quoted(key.value)} in dependencies", key,
                "only `pip:` can hold a list",
            )  # fmt: skip

    def pip_section(self, value: Node, pip: PipReader) -> None:
        if isinstance(value, ScalarNode) and value.is_null:
            return
        if not isinstance(value, ListNode):
            self.error(
                "type", f"pip must be a list, and is {described(value)}", value,
                "write each line as `- NAME`",
            )  # fmt: skip
            return
        for item in value.items:
            if not isinstance(item, ScalarNode):
                self.error("type", f"a pip line is text, not {described(item)}", item,
                           "quote a line that holds `: `")  # fmt: skip
            elif item.is_null:
                self.error("empty-item", "an item of pip is empty", item)
            else:
                self.comment_selector(item)
                pip.add(item.value, place(self.file, item), self.folder)

    def requirement(self, node: ScalarNode, found: list[Requirement], selector: str = "") -> None:
        if node.is_null or not node.value.strip():
            self.error("empty-item", "an item of dependencies is empty", node)
            return
        self.comment_selector(node)
        if is_unfilled(node.value):
            return
        text = match_spec.normal_form(node.value)
        problem = match_spec.requirement_problem(text)
        if problem is not None:
            summary, hint = problem
            self.error("match-spec", f"{quoted(text)}: {summary}", node, hint)
            return
        if has_credentials(text):
            self.warn("channel-credentials", f"{quoted(text)} carries credentials", node,
                      "write ${VARIABLE} instead; they enter no lock and no hash")  # fmt: skip
        channel = text.rpartition("::")[0]
        if _RELATIVE.match(channel):
            self.channel_paths[channel] = paths.absolute(paths.joined(self.folder, channel))
        elif why := address_problem(channel):
            self.error("channel", f"{quoted(channel)} is no channel: {why}", node)
            return
        found.append(Requirement(text, place(self.file, node), selector))

    def comment_selector(self, node: ScalarNode) -> None:
        line = self.lines[node.line - 1] if node.line <= len(self.lines) else ""
        comment = line.rpartition("#")[2].strip() if "#" in line else ""
        match = _COMMENT_SELECTOR.fullmatch(comment)
        if match is not None:
            self.warn(
                "comment-selector",
                f"the selector # [{match[1].strip()}] is a comment to conda: not honoured",
                node,
                "write `- sel(linux): NAME`, or keep one file per platform",
            )
