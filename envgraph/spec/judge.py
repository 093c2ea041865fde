"""What a file is, and whether it is right: the whole of ``envgraph validate`` for one file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from envgraph.errors import Diagnostic, EnvgraphError, SourceLocation
from envgraph.model.config import WorkspaceConfig
from envgraph.model.spec import EnvironmentSpec
from envgraph.spec import kinds, paths
from envgraph.spec.assets import filled, load_asset
from envgraph.spec.keys import check_user_keys
from envgraph.spec.kinds import FileKind
from envgraph.spec.load import environment_from_tree
from envgraph.spec.nodes import MapNode, Node
from envgraph.spec.problems import Problems, place
from envgraph.spec.reading import Reading
from envgraph.spec.templates import TEMPLATE
from envgraph.spec.text import decode
from envgraph.spec.uses import EnvironmentUse, read_uses
from envgraph.spec.workspace_file import FILE_NAME, load_workspace
from envgraph.spec.yaml_text import compose

JUDGE_LIMIT: Final = 64 << 20
"""Bytes: the largest lock seen has 6 MB."""

_WITH_ENVIRONMENTS: Final = (
    kinds.JOB, kinds.PIPELINE, kinds.COMPONENT, kinds.DEPLOYMENT, kinds.SCHEDULE,
)  # fmt: skip
_LOCK_KEYS: Final = re.compile(r"^(version|lock_version):\s*['\"]?(\d+)", re.MULTILINE)
_EXPLICIT: Final = re.compile(r"^@EXPLICIT\s*$", re.MULTILINE)
_EXPLICIT_LINE: Final = re.compile(
    r"(https?|file)://\S+\.(conda|tar\.bz2)(#(sha256:)?[0-9a-fA-F]{32,64})?"
)
_REQUIREMENTS: Final = re.compile(r"(?i)(.*requirements?.*|constraints?.*)\.(txt|in)")
_KNOWN_LOCKS: Final = {"conda-lock": frozenset({1, 3}), "pixi-lock": frozenset(range(4, 8))}


_IN_FULL: Final = frozenset({"environment", "conda", "requirements", "workspace"})
"""Kinds whose every key is checked."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one file.

    ``kind`` is a stable word (``environment``, ``conda``, ``job`` …) and ``title``
    says it to people; ``note`` says what to do with a file that is no environment.
    ``environments`` are those that a job or deployment uses.
    """

    path: str
    kind: str
    title: str
    note: str = ""
    diagnostics: tuple[Diagnostic, ...] = ()
    environments: tuple[EnvironmentUse, ...] = ()
    inputs: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["valid", "invalid", "recognised", "unknown"]:
        """``recognised``: known, nothing wrong seen, and not checked in full."""
        if any(d.severity == "error" for d in self.diagnostics):
            return "invalid"
        if self.kind in _IN_FULL:
            return "valid"
        return "unknown" if self.kind == "unknown" else "recognised"


def judge_file(path: Path | str, config: WorkspaceConfig | None = None) -> Judgement:
    """Recognise a file and say everything that is wrong with it; never raises for its content."""
    file = os.fspath(path)
    settings = config if config is not None else WorkspaceConfig("default", "", "")
    judge = _Judge(file, settings, Reading())
    try:
        kind, note = judge.run()
    except EnvgraphError as error:
        judge.reading.problems.take(error, SourceLocation(file))
        kind, note = kinds.UNKNOWN, ""
    return Judgement(
        file,
        kind.name,
        kind.title,
        note or kind.hint,
        judge.reading.problems.result(),
        judge.uses,
        tuple(judge.reading.inputs),
    )


class _Judge:
    def __init__(self, file: str, config: WorkspaceConfig, reading: Reading) -> None:
        self.file = file
        self.config = config
        self.reading = reading
        self.problems = reading.problems
        self.uses: tuple[EnvironmentUse, ...] = ()
        self.name = Path(file).name

    def run(self) -> tuple[FileKind, str]:
        data = self.reading.read(self.file, SourceLocation(self.file), "", JUDGE_LIMIT)
        if data is None:
            return FileKind("unreadable", "a file that cannot be read"), ""
        text = decode(data, self.file, self.problems)
        if text is None:
            return kinds.UNKNOWN, ""
        return self.by_text(text) or self.by_tree(filled(text, self.file, self.reading))

    def by_text(self, text: str) -> tuple[FileKind, str] | None:
        """Kinds that are no YAML, or too large to be read as such for a first look."""
        if _EXPLICIT.search(text):
            return self.explicit(text)
        suffix = Path(self.name).suffix.lower()
        if self.name == "pixi.toml":
            return FileKind("pixi-manifest", "a pixi manifest"), "import its pixi.lock"
        if suffix == ".toml":
            return self.toml(text)
        if _REQUIREMENTS.fullmatch(self.name):
            return self.requirements(text)
        lock = _lock_kind(text)
        if lock is not None:
            return self.lock(lock, text)
        if suffix == ".py" or _looks_like_python(text):
            return FileKind("script", "a Python script"), "it has no environment"
        if suffix not in (".yml", ".yaml", ".lock", "") and self.name != "MLmodel":
            return kinds.UNKNOWN, "environment files end in .yml or .yaml"
        return None

    def explicit(self, text: str) -> tuple[FileKind, str]:
        kind = FileKind("explicit-lock", "an @EXPLICIT list of packages")
        without = 0
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#") or line == "@EXPLICIT":
                continue
            if not _EXPLICIT_LINE.fullmatch(line):
                self.problems.add(
                    "explicit-line", "not the address of a conda package",
                    SourceLocation(self.file, number, 1),
                )  # fmt: skip
            without += "#" not in line
        if without:
            self.problems.warn(
                "no-hash", f"{without} packages have no hash", SourceLocation(self.file),
                hint="importing fetches them and records their sha256",
            )  # fmt: skip
        return kind, "use `envgraph import`"

    def toml(self, text: str) -> tuple[FileKind, str]:
        import tomllib

        try:
            tables = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            self.problems.add("toml-syntax", f"not TOML: {error}", SourceLocation(self.file))
            return kinds.UNKNOWN, ""
        tools = tables.get("tool")
        if isinstance(tools, dict) and "pixi" in tools:
            return FileKind("pyproject", "a Python project with pixi"), "import its pixi.lock"
        if isinstance(tools, dict) and "conda-lock" in tools:
            return FileKind("pyproject", "a project with conda-lock settings"), "import its lock"
        return FileKind("pyproject", "a Python project"), "name it in a pip section: `- -e .`"

    def requirements(self, text: str) -> tuple[FileKind, str]:
        from envgraph.spec.pip_lines import PipReader

        folder = paths.folder_of(self.file)
        PipReader(self.reading, folder).read_text(text, self.file, folder, constraint=False)
        return FileKind("requirements", "a requirements file"), "name it in a pip section: `-r`"

    def lock(self, kind: FileKind, text: str) -> tuple[FileKind, str]:
        match = _LOCK_KEYS.search(text)
        version = int(match[2]) if match and len(match[2]) < 10 else -1
        if version not in _KNOWN_LOCKS[kind.name]:
            self.problems.add(
                "lock-version", f"{kind.title} of version {match[2][:20] if match else 'unknown'}",
                SourceLocation(self.file, text[: match.start()].count("\n") + 1 if match else 1),
                hint="a newer envgraph may read it",
            )  # fmt: skip
        return kind, ""

    def by_tree(self, text: str) -> tuple[FileKind, str]:
        root = compose(text, self.file, self.problems)
        if root is None:
            return self.broken(text)
        if not isinstance(root, MapNode):
            self.problems.add(
                "environment-shape", "not a mapping: no file that envgraph knows looks like this",
                place(self.file, root),
            )  # fmt: skip
            return kinds.UNKNOWN, ""
        kind = kinds.kind_of_tree(root)
        if kind in (kinds.CONDA, kinds.ENVIRONMENT):
            spec = environment_from_tree(root, text, self.file, self.config, self.reading)
            if spec is not None and kind is kinds.ENVIRONMENT:
                self.base(spec, place(self.file, root.get("image")))
        elif kind in _WITH_ENVIRONMENTS:
            check_user_keys(root, kind, self.reading, self.file)
            self.uses = read_uses(root, self.reading, self.file, self.config.reserved_prefixes)
            for use in self.uses:
                if use.inline is not None:
                    self.base(use.inline, use.source)
            return kind, self.used()
        elif kind is kinds.ASSET and (root.text("type") or "").lower() == "environment":
            spec = load_asset(self.file, root, self.config, self.reading)
            return kind, kind.hint if spec is None else f"it is the environment {spec.name!r}"
        elif kind is kinds.UNKNOWN:
            self.unknown(root)
        elif kind is kinds.WORKSPACE and self.name != FILE_NAME:
            self.problems.warn(
                "workspace-name", f"a workspace's settings are read from {FILE_NAME} only",
                place(self.file, root),
            )  # fmt: skip
        elif kind is kinds.WORKSPACE:
            self.problems.found += load_workspace(paths.folder_of(self.file) or ".")[1]
        return kind, ""

    def base(self, spec: EnvironmentSpec, source: SourceLocation | None) -> None:
        """A base image that is gone stops only those who pin it now."""
        if spec.image_path is not None and not paths.exists(spec.image_path):
            self.problems.warn(
                "missing-image", f"there is no image at {spec.image_path}", source,
                hint="it is needed for the first lock; a locked environment builds from its pins",
            )  # fmt: skip

    def used(self) -> str:
        if not self.uses:
            return "it names no environment itself"
        return f"{len(self.uses)} environment{'s' if len(self.uses) > 1 else ''} found"

    def unknown(self, root: Node) -> None:
        self.problems.add(
            "unknown-kind", "none of the files that envgraph knows", place(self.file, root),
            hint="an environment has `image:` or `build:`, a conda file has `dependencies:`",
        )  # fmt: skip

    def broken(self, text: str) -> tuple[FileKind, str]:
        """Guess the kind of a file that is no YAML only because of its templates."""
        if all(problem.code != "template" for problem in self.problems.found):
            return kinds.UNKNOWN, ""
        filled = TEMPLATE.sub(lambda m: "x" * len(m[0]), text)
        root = compose(filled, self.file, Problems())
        return (kinds.kind_of_tree(root) if isinstance(root, MapNode) else kinds.UNKNOWN), ""


def _lock_kind(text: str) -> FileKind | None:
    keys = set(re.findall(r"^([a-z_]+):", text, re.MULTILINE))
    if {"metadata", "version"} <= keys and ("content_hash:" in text or "package" in keys):
        return kinds.CONDA_LOCK
    if {"version", "packages", "environments"} <= keys:
        return kinds.PIXI_LOCK
    return None


def _looks_like_python(text: str) -> bool:
    return bool(re.search(r"^(import|from) [A-Za-z_.]+( import .+)?$", text, re.MULTILINE))
