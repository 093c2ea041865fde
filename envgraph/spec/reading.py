"""What one load keeps: the problems, the files that were read, and shared readers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from envgraph.errors import InputError, SourceLocation
from envgraph.spec import paths
from envgraph.spec.files import TEXT_LIMIT, read_file
from envgraph.spec.nodes import MapNode, Node, ScalarNode, described
from envgraph.spec.problems import Problems, nearest, place, quoted

PLATFORMS: Final = frozenset(
    {
        "linux-64", "linux-aarch64", "linux-ppc64le", "linux-s390x", "linux-riscv64",
        "linux-armv7l", "linux-32", "osx-64", "osx-arm64", "win-64", "win-32", "win-arm64",
    }
)  # fmt: skip
_ELSEWHERE: Final = {
    "dependencies": "write it under `conda_file:`",
    "channels": "write it under `conda_file:`",
    "pip": "write it under `conda_file: dependencies:`",
    "env": "environment variables are under `environment_variables:`",
    "dockerfile": "write `build: {path: FOLDER, dockerfile_path: FILE}`",
}
MANY: Final = 50
"""Unknown keys of one mapping that are named one by one."""

READ_ONLY: Final = frozenset(
    {"$schema", "id", "creation_context", "latest_version", "is_anonymous", "provisioning_state"}
)
"""Keys that the cloud writes into files that it hands out: accepted and dropped."""


@dataclass(slots=True)
class Reading:
    """One load of one environment: everything it read, and everything it found wrong."""

    problems: Problems = field(default_factory=Problems)
    inputs: dict[str, None] = field(default_factory=dict)
    """Absolute paths in reading order, each once."""

    def note_input(self, path: str) -> None:
        """Remember an absolute path that the result depends on."""
        self.inputs[paths.absolute(path)] = None

    def read(
        self, path: str, source: SourceLocation | None, what: str, limit: int = TEXT_LIMIT
    ) -> bytes | None:
        """The bytes of a file that belongs to the environment; None after a problem.

        A file that is missing is an input too: when it appears, the answer changes.
        """
        self.note_input(path)
        try:
            return read_file(path, limit)
        except InputError as error:
            d = error.diagnostics[0]
            self.problems.add(
                d.code, f"{what}: {d.summary}" if what else d.summary, source,
                hint=_near_file(path) if d.code == "missing-file" else "",
            )  # fmt: skip
            return None

    def text(self, mapping: MapNode, key: str, file: str) -> str | None:
        """The trimmed text of a scalar field; a problem when it is a collection."""
        node = mapping.get(key)
        if node is None:
            return None
        if not isinstance(node, ScalarNode):
            self.problems.add(
                "type", f"{key} must be text, and is {described(node)}", place(file, node)
            )
            return None
        return node.value.strip()

    def variables(self, mapping: MapNode, key: str, file: str) -> dict[str, str]:
        """A mapping of environment variables, values as written."""
        node = mapping.get(key)
        if node is None:
            return {}
        if not isinstance(node, MapNode):
            self.problems.add(
                "type", f"{key} must be a mapping, and is {described(node)}", place(file, node)
            )
            return {}
        found: dict[str, str] = {}
        for name, value in node:
            if not name.value or "=" in name.value or "\x00" in name.value:
                self.problems.add(
                    "variable-name", f"{quoted(name.value)} is no variable name", place(file, name)
                )
            elif not isinstance(value, ScalarNode):
                self.problems.add(
                    "type", f"the variable {quoted(name.value)} must be text", place(file, value)
                )
            else:
                found[name.value] = "" if value.is_null else value.value
        return found

    def platform(self, node: ScalarNode, file: str) -> str:
        """A conda platform (subdir); one that nobody has heard of is a problem."""
        name = node.value.strip()
        if name not in PLATFORMS:
            self.problems.add(
                "platform", f"{quoted(name)} is no platform", place(file, node),
                hint=nearest(name, PLATFORMS),
            )  # fmt: skip
        return name

    def check_keys(
        self, mapping: MapNode, known: Mapping[str, object] | frozenset[str], file: str, what: str
    ) -> None:
        """Every key that is not known is a problem, with the nearest one as its hint."""
        words = [word for word in known if word not in READ_ONLY]
        unknown = [key for key, _ in mapping if key.value not in known]
        for key in unknown[:MANY]:
            self.problems.add(
                "unknown-key", f"unknown key {quoted(key.value)} in {what}", place(file, key),
                hint=_ELSEWHERE.get(key.value) or nearest(key.value, words),
            )  # fmt: skip
        if len(unknown) > MANY:
            self.problems.add(
                "unknown-key",
                f"{len(unknown) - MANY} more unknown keys in {what}",
                place(file, unknown[MANY]),
            )

    def mapping(self, node: Node | None, file: str, what: str) -> MapNode | None:
        """``node`` as a mapping; a problem when it is something else, None when nothing."""
        if node is None or isinstance(node, MapNode):
            return node
        self.problems.add(
            "type", f"{what} must be a mapping, and is {described(node)}", place(file, node)
        )
        return None


def _near_file(path: str) -> str:
    """A file of nearly that name beside the missing one, as a hint."""
    folder, name = os.path.split(path)
    try:
        names = paths.names_in(folder or ".")[:5000]
    except OSError:
        return "the folder is not there either" if not paths.is_folder(folder) else ""
    import difflib

    match = difflib.get_close_matches(name, names, 1, 0.6)
    return f"did you mean {match[0]!r}?" if match else ""
